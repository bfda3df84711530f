"""What the discriminator says of generated images, once for both losses that ask.

The generator's term wants a gradient at the images and none at the discriminator's parameters; the discriminator's own
loss wants the opposite. Both are functions of the same logits, of the same images by the same weights, as neither
optimiser moves before both have their gradients. So the images are cut off from their network, the logits computed
once, and two backward passes go through that one graph: the first down to the images, the second, later, to the
parameters. The gradient at the images enters the generator's total as that of `pull`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from v2f_engine.models.perceptual import wide


class Judged(NamedTuple):
    """One look.

    Args:
        gan: the generator's term.
        pull: a scalar that has the gradient of `gan` at the images; its value is nothing.
        logits: with the graph to the discriminator's parameters; None where its step computes them anew.
    """

    gan: torch.Tensor
    pull: torch.Tensor
    logits: torch.Tensor | None


def judged_once(gan: torch.Tensor, logits: torch.Tensor, seen: torch.Tensor, images: torch.Tensor) -> Judged:
    """`gan` of `logits` of `seen`, which is `images` without their graph; keeps the graph of `logits`."""
    (slope,) = torch.autograd.grad(gan, seen, retain_graph=True)
    # Wide: a weight of the term that is rounded to bf16 would be one of another size.
    return Judged(gan.detach(), (wide(images) * slope).sum(), logits)


def constant(critic: nn.Module, *seen: torch.Tensor | None) -> torch.Tensor:
    """The logits of a discriminator whose parameters are constants, of images and perhaps vectors."""
    constants = {name: value.detach() for name, value in critic.named_parameters()}
    logits: torch.Tensor = torch.func.functional_call(critic, constants, seen)
    return logits

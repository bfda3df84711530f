"""What the frozen networks say about generated images: how far they look from the real ones, and whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from v2f_engine.backends import Choice
from v2f_engine.models import bind_ops
from v2f_engine.models.frozen_iresnet import FrozenIResNet
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.perceptual import Lpips, RecogniserView, load_lpips
from v2f_engine.train.losses import identity_loss


class Seen(NamedTuple):
    """One look.

    Args:
        distance: mean perceptual distance of the batch.
        features: of the generated images, `[B, D]`.
    """

    distance: torch.Tensor
    features: torch.Tensor


class FrozenView(nn.Module):
    """Recogniser and perceptual network, frozen, in one module that can be compiled.

    Args:
        recogniser: frozen here; its maps are compared where there is no `lpips`, in the same pass.
        lpips: VGG16 with LPIPS' linear layers, or None.
    """

    def __init__(self, recogniser: IResNet | FrozenIResNet, lpips: Lpips | None = None) -> None:
        super().__init__()
        self.recogniser = RecogniserView(recogniser)
        self.lpips = lpips

    def unlike(self, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Mean distance of the recogniser's maps, and mean 1 - cosine of its features of both: a scalar."""
        maps, features = self.recogniser(fake)
        with torch.no_grad():
            wanted_maps, wanted = self.recogniser(real)
        return self.recogniser.distance(maps, wanted_maps).mean() + identity_loss(features, wanted)

    def forward(self, fake: torch.Tensor, real: torch.Tensor) -> Seen:
        """Of images `[B, 3, 112, 112]` in [-1, 1]; only `fake` gets a gradient."""
        maps, features = self.recogniser(fake)
        if self.lpips is None:
            with torch.no_grad():
                wanted, _ = self.recogniser(real, whole=False)
            return Seen(self.recogniser.distance(maps, wanted).mean(), features)
        with torch.no_grad():
            wanted = self.lpips.maps(real)
        made = self.lpips.maps(fake)
        return Seen(self.lpips.distance(made, wanted).mean(), features)


def open_view(recogniser: IResNet, vgg: Path | None, layers: int, choice: Choice | None = None) -> FrozenView:
    """With LPIPS on `layers` maps where its weights are given.

    Args:
        recogniser: frozen here.
        choice: of a training; its precision's `FrozenIResNet` judges on a GPU. On a CPU, and without a choice, the
            recogniser itself does, whose rounding earlier trainings have.

    Raises:
        CheckpointError: weights that are not those of LPIPS.
    """
    judge: IResNet | FrozenIResNet = recogniser.eval().requires_grad_(False)
    if choice is not None and choice.device != "cpu":
        judge = FrozenIResNet(recogniser, choice.dtype)
    view = FrozenView(judge, None if vgg is None else load_lpips(vgg, layers))
    if choice is not None:
        bind_ops(view, choice)
    return view

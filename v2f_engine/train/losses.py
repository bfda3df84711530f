"""The terms of a generator's loss, and the weights they have had.

Source of the published weights: the three generations of HaiyuWu/Vec2Face and HaiyuWu/Vec2Face_plus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from v2f_kernels.ssim.torch_native import ssim as ssim

from v2f_engine.config import between
from v2f_engine.models.perceptual import wide

ADAPTIVE_FLOOR, ADAPTIVE_LIMIT = 1e-4, 1e4


@dataclass(frozen=True)
class LossWeights:
    """Weight of every term; 0 leaves it out.

    Args:
        pixel: mean squared error of pixels in [-1, 1].
        absolute: mean absolute error, none as published.
        perceptual: distance of feature maps; LPIPS as published.
        ssim: 1 - SSIM on [0, 1].
        identity: 1 - cosine of the stored feature and the generated image's.
        token: mean squared error of tokens and their targets before masking.
        second: what a second frozen recogniser sees: distance of its maps, and 1 - cosine of its features of both
            images. Ours; `GeneratorTraining.second` names it.
        spectrum: difference of the batch's mean spectra, `spectrum_loss`. Ours.
        gan: the patch discriminator's term.
        gan_from: share of the training after which the discriminator takes part; 1 for never.
        gan_adaptive: where above 0, the GAN term weighs this times `adaptive_weight`, instead of `gan`.
        vgg_layers: maps that LPIPS compares.
    """

    pixel: float = 1.0
    absolute: float = 0.0
    perceptual: float = 0.2
    ssim: float = 0.1
    identity: float = 1.0
    token: float = 1.0
    gan: float = 0.0
    gan_from: float = 1.0
    gan_adaptive: float = 0.0
    vgg_layers: int = 5
    second: float = 0.0
    spectrum: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            between(name, value, 0.0, 1e6)
        between("vgg_layers", self.vgg_layers, 1, 5)

    def total(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of the terms given."""
        total = torch.zeros((), device=next(iter(terms.values())).device)
        for name, value in terms.items():
            total = total + getattr(self, name) * value
        return total


_PUBLISHED = {
    # LPIPS counted twice: weight 1 in 2024, with the fifth map left out because it gave NaN; 0.1 and 0.2 later.
    # The discriminator enters at epoch 1000 of 2000, 80 of 100; the plus model has none.
    "published-2024": LossWeights(
        perceptual=2.0, ssim=1.0, gan=1.0, gan_from=0.5, gan_adaptive=0.8, vgg_layers=4
    ),
    "published-2025": LossWeights(perceptual=0.2, ssim=0.1, gan=1.0, gan_from=0.8),
    "plus": LossWeights(perceptual=0.4, ssim=1.0),
}
PRESETS = {
    **_PUBLISHED,
    "mended-2024": _PUBLISHED["published-2024"],
    "mended-2025": _PUBLISHED["published-2025"],
    "mended-plus": _PUBLISHED["plus"],
    # Ours: an identity term that cannot drown the picture (it rings at weight 1); the perceptual term small,
    # because strided maps of a small recogniser print their own grid; the discriminator late and gentle.
    "rendered": LossWeights(
        absolute=1.0, perceptual=0.04, ssim=0.1, identity=0.2, token=0.01, gan=0.03, gan_from=0.75
    ),
    # Ours, with a recogniser that blurs before its strides, so that its maps may count; spectra, which took a comb of
    # 7 times the other direction's energy to 0.8 in 400 steps; the discriminator from the beginning, held by
    # `critic_smooth`.
    "sharp": LossWeights(
        pixel=0.5,
        absolute=0.5,
        perceptual=0.2,
        ssim=0.1,
        identity=0.5,
        token=0.01,
        spectrum=0.01,
        gan=0.1,
        gan_from=0.0,
    ),
}
"""Weights by name."""


def identity_loss(features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """mean(1 - cosine) of `[B, D]` and `[B, D]`."""
    return (1.0 - F.cosine_similarity(wide(features), wide(target), dim=1)).mean()


def token_loss(tokens: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of rows 1..49 of `[B, 50, D]` with the detached rows before masking."""
    return F.mse_loss(wide(tokens[:, 1:]), wide(target[:, 1:].detach()))


def critic_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Least squares for the discriminator: real patches to 1, generated ones to 0 (Mao et al. 2017)."""
    return 0.5 * ((wide(real) - 1).square().mean() + wide(fake).square().mean())


def spectrum_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean absolute logarithm of the ratio of two sets' power, over directions and frequencies: a scalar.

    Perceptual distances pay for the strength of fine texture and not for its form, since a rectified stripe is a
    constant to a strided map: without this a comb stood for strands and pores, with 7 to 10 times the energy of the
    other direction (after Durall et al. 2020, arXiv 2003.01826, who compare radial means).

    Args:
        fake, real: `[B, 3, H, W]`; luminance under a Hann window, power averaged over the batch and over three
            neighbouring frequencies each way.
    """
    fake_power, real_power = (_power(wide(images)) for images in (fake, real))
    return ((fake_power + SILENCE) / (real_power + SILENCE)).log().abs().mean()


SILENCE = 1e-3
"""Added to powers: that of half a grey level of noise is 7e-3."""
_LUMA = (0.299, 0.587, 0.114)


def _power(images: torch.Tensor) -> torch.Tensor:
    """`[1, H / 2, W / 4]`."""
    luma = (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1)
    height, width = luma.shape[-2:]
    rows, columns = (torch.hann_window(n, dtype=luma.dtype, device=luma.device) for n in (height, width))
    spectrum = torch.fft.rfft2((luma - luma.mean((1, 2), keepdim=True)) * rows[:, None] * columns)
    power = spectrum.real.square() + spectrum.imag.square()
    return F.avg_pool2d(power.mean(0, keepdim=True), 3, 2, 1, count_include_pad=False)


def smoothness_loss(logits: torch.Tensor, nearby: torch.Tensor, step: float) -> torch.Tensor:
    """Mean squared slope of the discriminator at real images: R1 by differences (Lin et al. 2025, arXiv 2501.08316).

    The expectation over noise of deviation 1 is the squared norm of the gradient of a patch's logit (Mescheder et al.
    2018), and every kernel of a first backward pass serves.

    Args:
        logits, nearby: of real images, and of the same with noise of deviation `step` added.
    """
    return ((wide(nearby) - wide(logits)) / step).square().mean()


def fooling_loss(fake: torch.Tensor, *, published: bool = False) -> torch.Tensor:
    """The generator's term: least squares to 1, or -mean(D(fake)) as the published code has it."""
    return -wide(fake).mean() if published else 0.5 * (wide(fake) - 1).square().mean()


def adaptive_weight(
    reconstruction: torch.Tensor, adversarial: torch.Tensor, last_layer: torch.Tensor
) -> torch.Tensor:
    """Ratio of two losses' gradient norms at the last layer, so that neither drowns the other: a scalar.

    `|d reconstruction| / (|d adversarial| + 1e-4)`, at most 1e4, detached (Esser et al. 2021, eq. 7).

    Args:
        reconstruction, adversarial: scalars with graphs, which stay usable.
        last_layer: weights that both depend on: `im_decoder.conv_out.weight`.
    """
    ours, theirs = (
        wide(torch.autograd.grad(loss, last_layer, retain_graph=True)[0]).norm()
        for loss in (reconstruction, adversarial)
    )
    ratio: torch.Tensor = ours / (theirs + ADAPTIVE_FLOOR)
    return ratio.clamp(0.0, ADAPTIVE_LIMIT).detach()

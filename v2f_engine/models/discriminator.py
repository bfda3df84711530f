"""The published patch discriminator: 6.14 M parameters, one logit for each of 11x11 patches.

Stem of parallel 3/7/15 convolutions, three stages of stride-2 convolution, norm and residual block, a
4x4 head. Recorded outputs: tests/golden. Ours on request: it also sees whose picture it is to be, by a product of the
last map with a projection of the identity vector (Miyato and Koyama 2018, arXiv 1802.05637).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.models.ops import Bound

SLOPE = 0.1
GROUPS = 8
SIDE = 112
"""Of the images."""


class MultiScaleStem(Bound):
    """Parallel same-size convolutions of kernel 3, 7 and 15, concatenated."""

    uses = ("multi_scale_stem",)

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        kernels = (3, 7, 15)
        self.convs = nn.ModuleList(
            nn.Conv2d(3, width, kernel, padding=kernel // 2)
            for width, kernel in zip(widths, kernels, strict=True)
        )

    def shapes(self) -> tuple[str, ...]:
        channels = sum(conv.bias.shape[0] for conv in self.convs)  # type: ignore[index, misc]
        return (shape_class("multi_scale_stem", O=channels, HW=SIDE),)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        (multi_scale_stem,) = self.ops
        out: torch.Tensor = multi_scale_stem(
            images, *(parameter for conv in self.convs for parameter in (conv.weight, conv.bias))
        )
        return out


class NormConv(Bound):
    """3x3 convolution of the activated group norm."""

    uses = ("group_norm_leaky", "conv3x3")

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.groupnorm = nn.GroupNorm(GROUPS, channels)
        self.project = nn.Conv2d(channels, channels, 3, padding=1)

    def shapes(self) -> tuple[str, ...]:
        c = self.project.in_channels
        return (
            shape_class("group_norm_leaky", C=c, HW=self.side),
            shape_class("conv3x3", C=c, O=c, HW=self.side),
        )

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The convolution of x's norm, with `residual` added."""
        group_norm_leaky, conv3x3 = self.ops
        norm, conv = self.groupnorm, self.project
        h = group_norm_leaky(x, norm.weight, norm.bias, GROUPS, norm.eps, 1.0, SLOPE)
        out: torch.Tensor = conv3x3(h, conv.weight.to(h.dtype), conv.bias, residual=residual)
        return out


class Residual(nn.Module):
    """`x + block(x)`."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.block = NormConv(channels, side)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(x, x)
        return out


class ActivatedConv(nn.Conv2d):
    """A convolution that halves the side, whose bias the norm behind it may add."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # oneDNN adds a bias for nothing; cuDNN's is a kernel of its own, one read and one write of the output.
        out: torch.Tensor = self._conv_forward(x, self.weight, self.bias if x.device.type == "cpu" else None)
        return out


class ActivatedNorm(Bound, nn.GroupNorm):
    """Group norm of the leaky ReLU of what a convolution made, and the bias of that where it was left out."""

    uses = ("group_norm_leaky",)

    def __init__(self, channels: int, side: int) -> None:
        nn.GroupNorm.__init__(self, GROUPS, channels)
        self.side = side
        self.bind({})

    def shapes(self) -> tuple[str, ...]:
        return (shape_class("group_norm_leaky", C=self.num_channels, HW=self.side),)

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        (group_norm_leaky,) = self.ops
        out: torch.Tensor = group_norm_leaky(
            x, self.weight, self.bias, self.num_groups, self.eps, SLOPE, 1.0, shift
        )
        return out


class Stage(nn.Sequential):
    """Half the side and twice the channels; members are named by the published checkpoint: 0, 2 and 3.

    Args:
        channels: of the input.
        side: of the output.
    """

    def __init__(self, channels: int, side: int) -> None:
        wider = 2 * channels
        super().__init__(
            ActivatedConv(channels, wider, 4, 2, 1),
            nn.Identity(),  # the leaky ReLU, which the norm computes
            ActivatedNorm(wider, side),
            Residual(wider, side),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv, _, norm, residual = self
        h = conv(x)
        out: torch.Tensor = residual(norm(h, None if h.device.type == "cpu" else conv.bias))
        return out


class PatchDiscriminator(nn.Module):
    """Real-or-generated logits for every patch.

    Args:
        width: channels of the stem; stages have 2, 4 and 8 times as many. 64 as published.
        vector_dim: length of the identity vectors it sees; None for none, as published.
    """

    def __init__(self, width: int = 64, vector_dim: int | None = None) -> None:
        super().__init__()
        stem = MultiScaleStem((width // 2, width // 4, width // 4))
        stages: list[nn.Module] = [nn.Sequential(stem, nn.LeakyReLU(SLOPE))]
        stages += [Stage(width * factor, SIDE // (2 * factor)) for factor in (1, 2, 4)]
        self.layers = nn.ModuleList(stages)
        last = width * 8
        self.to_logits = nn.Sequential(nn.Conv2d(last, last, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(last, 1, 4))
        self.of_vector = None if vector_dim is None else nn.Linear(vector_dim, last)

    def forward(self, images: torch.Tensor, vectors: torch.Tensor | None = None) -> torch.Tensor:
        """Logits `[B,1,11,11]`.

        Args:
            images: `[B,3,112,112]` in [-1, 1].
            vectors: `[B,vector_dim]` of any length, where it sees them.
        """
        x = images
        for stage in self.layers:
            x = stage(x)
        if self.of_vector is None:
            logits: torch.Tensor = self.to_logits(x)
            return logits
        assert vectors is not None
        inner, bent, last = self.to_logits
        x = bent(inner(x))
        projected = self.of_vector(F.normalize(vectors.float()))
        asked = (x * projected[:, :, None, None].to(x.dtype)).sum(1, keepdim=True)
        out: torch.Tensor = last(x) + F.avg_pool2d(asked, 4, 1)
        return out

"""The convolutional image decoder: a 7x7 grid of features to a 112x112 image, 73 % of the generator's work.

VQGAN-style without attention: conv_in, two middle blocks, levels 4..0 of two residual blocks each, nearest
upsampling between levels, GroupNorm + SiLU + conv_out. Parameter names are the published ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.models.ops import Bound

NORM_EPS = 1e-6
GRID = 7
"""Side of the decoder's input."""


def levels_of(image: torch.Tensor, rounding: str) -> torch.Tensor:
    """Whole levels 0..255 of real values, clipped to [-1, 1]; of the same dtype and shape.

    `nearest` rounds half to even; `truncate` is `((x + 1) / 2 * 255)` cut off, as the published scripts save images.
    """
    clipped = image.clamp(-1.0, 1.0)
    if rounding == "truncate":
        return ((clipped + 1.0) / 2.0 * 255.0).floor()
    return ((clipped + 1.0) * 127.5).round()


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution, stride 1, padding 1."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)


class ResidualBlock(Bound):
    """`h = conv2(act(norm2(conv1(act(norm1(x))))))`, then the shortcut.

    Where the channel count changes, the published network applies the 1x1 shortcut to the *branch* `h` and
    discards the input: `h + nin(h)`. Needed to use the weights; it folds exactly into conv2 (`models.fold`).
    """

    uses = ("group_norm_silu", "conv3x3", "group_norm_silu", "conv3x3")

    # Weights are cast to the activations' dtype where they are used: a no-op in a frozen model, and fp32
    # masters under bf16 activations in training.

    def __init__(self, in_channels: int, channels: int, groups: int, side: int) -> None:
        super().__init__()
        self.groups = groups
        self.side = side
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=NORM_EPS)
        self.conv1 = Conv3x3(in_channels, channels, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.conv2 = Conv3x3(channels, channels, bias=False)
        self.keeps_channels = in_channels == channels
        self.nin_shortcut = None if self.keeps_channels else nn.Conv2d(channels, channels, 1, bias=False)

    def shapes(self) -> tuple[str, ...]:
        convs = (self.conv1, self.conv2)
        return tuple(
            name
            for c, o in ((conv.in_channels, conv.out_channels) for conv in convs)
            for name in (
                shape_class("group_norm_silu", C=c, HW=self.side),
                shape_class("conv3x3", C=c, O=o, HW=self.side),
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm1, conv1, norm2, conv2 = self.ops
        h = norm1(x, self.norm1.weight, self.norm1.bias, self.groups, NORM_EPS)
        h = conv1(h, self.conv1.weight.to(h.dtype))
        h = norm2(h, self.norm2.weight, self.norm2.bias, self.groups, NORM_EPS)
        out: torch.Tensor = conv2(
            h, self.conv2.weight.to(h.dtype), residual=x if self.keeps_channels else None
        )
        return out if self.nin_shortcut is None else out + self.nin_shortcut(out)


class Upsample(Bound):
    """Nearest-neighbour doubling and a 3x3 convolution as one op; frozen models hold the folded weight."""

    uses = ("upsample_conv3x3", "upsample_conv3x3_folded")
    folded: torch.Tensor | None

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv = Conv3x3(channels, channels)
        self.register_buffer("folded", None, persistent=False)  # [C, O, 4, 4], set by `models.fold`

    def shapes(self) -> tuple[str, ...]:
        return tuple(shape_class(op, C=self.conv.in_channels, HW=self.side) for op in self.uses)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain, folded = self.ops
        out: torch.Tensor = (
            plain(x, self.conv.weight.to(x.dtype), self.conv.bias)
            if self.folded is None
            else folded(x, self.folded, self.conv.bias)
        )
        return out


class Level(nn.Module):
    """Residual blocks at one resolution, then the way up to the next."""

    def __init__(
        self, in_channels: int, channels: int, blocks: int, groups: int, side: int, upsample: bool
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(in_channels if i == 0 else channels, channels, groups, side) for i in range(blocks)
        )
        self.upsample = Upsample(channels, side) if upsample else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.block:
            x = block(x)
        return x if self.upsample is None else self.upsample(x)


class Middle(nn.Module):
    """Two residual blocks at 7x7."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups, GRID)
        self.block_2 = ResidualBlock(channels, channels, groups, GRID)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block_2(self.block_1(x))
        return out


class ImageDecoder(Bound):
    """Features `[B, z, 7, 7]` to an image `[B, 3, 112, 112]`, unbounded (callers clip to [-1, 1]).

    Args:
        z_channels: channels of the input.
        base_channels: channels of level 0 before its multiplier.
        multipliers: channels of levels 0..4 as multiples of `base_channels`.
        blocks: residual blocks a level.
        groups: groups of every GroupNorm.
    """

    uses = ("group_norm_silu", "conv3x3", "to_uint8")
    rounding = "nearest"
    """How `bytes` comes from real levels to whole ones, see `levels_of`; copies of a decoder keep it."""

    def __init__(
        self, z_channels: int, base_channels: int, multipliers: tuple[int, ...], blocks: int, groups: int
    ) -> None:
        super().__init__()
        self.groups = groups
        self.side = GRID << (len(multipliers) - 1)  # of the image
        widths = [base_channels * m for m in multipliers]
        self.conv_in = Conv3x3(z_channels, widths[-1])
        self.mid = Middle(widths[-1], groups)
        levels: dict[int, Level] = {}
        channels = widths[-1]
        for number in reversed(range(len(widths))):
            side = GRID << (len(widths) - 1 - number)
            levels[number] = Level(channels, widths[number], blocks, groups, side, upsample=number > 0)
            channels = widths[number]
        self.up = nn.ModuleList(levels[number] for number in range(len(widths)))
        self.norm_out = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.conv_out = Conv3x3(channels, 3)

    def shapes(self) -> tuple[str, ...]:
        channels, side = self.conv_out.in_channels, self.side
        return (
            shape_class("group_norm_silu", C=channels, HW=side),
            shape_class("conv3x3", C=channels, O=self.conv_out.out_channels, HW=side),
            shape_class("to_uint8", C=channels, HW=side),
        )

    def trunk(self, grid: torch.Tensor) -> torch.Tensor:
        """Everything before `norm_out`."""
        x = self.mid(self.conv_in(grid))
        for level in reversed(list(self.up)):
            x = level(x)
        out: torch.Tensor = x
        return out

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        group_norm_silu, conv3x3, _ = self.ops
        x = self.trunk(grid)
        x = group_norm_silu(x, self.norm_out.weight, self.norm_out.bias, self.groups, NORM_EPS)
        image: torch.Tensor = conv3x3(x, self.conv_out.weight.to(x.dtype), self.conv_out.bias)
        return image

    def bytes(self, grid: torch.Tensor) -> torch.Tensor:
        """Images as uint8 `[B, 112, 112, 3]`, through the fused tail where it rounds. Not differentiable."""
        group_norm_silu, _, to_uint8 = self.ops
        norm, conv = self.norm_out, self.conv_out
        if self.rounding == "truncate":
            x = group_norm_silu(self.trunk(grid), norm.weight, norm.bias, self.groups, NORM_EPS)
            assert conv.bias is not None, "made with one"
            image = F.conv2d(x, conv.weight.to(x.dtype), padding=1).float() + conv.bias.float()[:, None, None]
            finite = torch.where(torch.isfinite(image), image, -1.0)
            return levels_of(finite, self.rounding).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        images: torch.Tensor = to_uint8(
            self.trunk(grid), norm.weight, norm.bias, self.groups, NORM_EPS, conv.weight, conv.bias
        )
        return images

"""The convolutional image decoder: a 7x7 grid of features to a 112x112 image, 73 % of the generator's work.

VQGAN-style without attention: conv_in, two middle blocks, levels 4..0 of two residual blocks each, nearest
upsampling between levels, GroupNorm + SiLU + conv_out. Parameter names are the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.backends import Choice
from v2f_engine.models.joined import (
    Known,
    bias_costs_a_pass,
    in_training,
    norm_and_convolution,
    normed,
    read_twice,
    takes_bias,
    written,
)
from v2f_engine.models.ops import Bound

NORM_EPS = 1e-6
GRID = 7
"""Side of the decoder's input."""
UPPER_LEVELS = 2
"""Levels whose tensors are the largest, 3.2 and 0.8 MB an image at base size in half precision: those that may go
through a few images at a time, so that what one kernel writes is still in L2 when the next one reads it."""


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
        return self.carry(Known(x), None).x

    def carry(self, known: Known, groups: int | None) -> Known:
        """The block, with what is known of its input and output; `groups` of the norm that reads the output."""
        norm1, conv1, norm2, conv2 = self.ops
        between = in_training(self.norm2.num_groups, self.side, adds=False)
        h, residual = read_twice((norm1, conv1), known, self.norm1, self.conv1.weight, groups=between)
        out = norm_and_convolution(
            (norm2, conv2),
            h,
            self.norm2,
            self.conv2.weight,
            groups=in_training(groups, self.side, adds=True) if self.nin_shortcut is None else None,
            residual=residual if self.keeps_channels else None,
            **({"bias": known.shift} if self.keeps_channels and known.shift is not None else {}),
        )
        return out if self.nin_shortcut is None else Known(out.x + self.nin_shortcut(out.x))


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
        return self.carry(Known(x), None).x

    def carry(self, known: Known, groups: int | None, reader: nn.Module | None = None) -> Known:
        """The upsampled activation, with its statistics for a norm of `groups` where they come along.

        Args:
            reader: the block that reads it. Where a bias costs a pass here and none there, it is left to the block: its
                first norm adds it while it reads, and so does what adds the residual.
        """
        x, (plain, folded) = known.x, self.ops
        lent = isinstance(reader, ResidualBlock) and takes_bias(*reader.ops[:2])
        if lent and self.folded is not None and bias_costs_a_pass(folded):
            return Known(folded(x, self.folded), None, self.conv.bias)
        if self.folded is None:
            groups = in_training(groups, 2 * self.side, adds=True)
            return written(plain, x, self.conv.weight.to(x.dtype), self.conv.bias, groups=groups)
        return written(folded, x, self.folded, self.conv.bias, groups=groups)


def carried(module: nn.Module, known: Known, groups: int | None) -> Known:
    """A part of the decoder, or what stands in for one: with `carry` as a block has it, or knowing of no statistics."""
    carry: Callable[[Known, int | None], Known] | None = getattr(module, "carry", None)
    return Known(module(known.x)) if carry is None else carry(known, groups)


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

    def carry(self, known: Known, groups: int, reader: nn.Module | None) -> Known:
        """All of it; a norm of `groups` reads the output of each part but the one that is upsampled, the first of
        `reader`, the next level's first block, what is upsampled."""
        last = len(self.block) - 1
        for i, block in enumerate(self.block):
            known = carried(block, known, None if i == last and self.upsample is not None else groups)
        if not isinstance(self.upsample, Upsample):
            return known if self.upsample is None else carried(self.upsample, known, groups)
        return self.upsample.carry(known, groups, reader)


class Middle(nn.Module):
    """Two residual blocks at 7x7."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups, GRID)
        self.block_2 = ResidualBlock(channels, channels, groups, GRID)

    def carry(self, known: Known, groups: int) -> Known:
        """Both, each read by a norm of `groups`."""
        return carried(self.block_2, carried(self.block_1, known, groups), groups)


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
    chunk = 0
    """Images that `bytes` takes through the upper levels at a time, 0 for all: `Choice.chunk`."""

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

    def bind(self, chosen: Choice | Mapping[str, str]) -> None:
        super().bind(chosen)
        self.chunk = chosen.chunk if isinstance(chosen, Choice) else 0

    def trunk(self, grid: torch.Tensor) -> torch.Tensor:
        """Everything before `norm_out`."""
        return self._upper(self._lower(grid)).x

    def _lower(self, grid: torch.Tensor) -> Known:
        """Everything before the upper levels."""
        known = self.mid.carry(Known(self.conv_in(grid)), self.groups)
        return self._through(range(len(self.up) - 1, UPPER_LEVELS - 1, -1), known)

    def _upper(self, known: Known) -> Known:
        """The upper levels: everything between `_lower` and `norm_out`."""
        return self._through(range(min(UPPER_LEVELS, len(self.up)) - 1, -1, -1), known)

    def _through(self, numbers: Iterable[int], known: Known) -> Known:
        for number in numbers:
            level, behind = self.up[number], self.up[number - 1] if number else None
            assert isinstance(level, Level), "made so"
            reader = behind.block[0] if isinstance(behind, Level) else None
            known = level.carry(known, self.groups, reader)
        return known

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        group_norm_silu, conv3x3, _ = self.ops
        out = norm_and_convolution(
            (group_norm_silu, conv3x3),
            self._upper(self._lower(grid)),
            self.norm_out,
            self.conv_out.weight,
            groups=None,
            bias=self.conv_out.bias,
        )
        return out.x

    def bytes(self, grid: torch.Tensor) -> torch.Tensor:
        """Images as uint8 `[B, 112, 112, 3]`, through the fused tail where it rounds. Not differentiable."""
        known = self._lower(grid)
        if not self.chunk or self.chunk >= known.x.shape[0]:
            return self._finished(self._upper(known))
        return torch.cat([self._finished(self._upper(part)) for part in known.split(self.chunk)])

    def _finished(self, known: Known) -> torch.Tensor:
        """The end of `bytes`, from the trunk's activations."""
        group_norm_silu, _, to_uint8 = self.ops
        norm, conv = self.norm_out, self.conv_out
        if self.rounding == "truncate":
            x = normed(group_norm_silu, known, norm)
            assert conv.bias is not None, "made with one"
            image = F.conv2d(x, conv.weight.to(x.dtype), padding=1).float() + conv.bias.float()[:, None, None]
            finite = torch.where(torch.isfinite(image), image, -1.0)
            return levels_of(finite, self.rounding).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        given = {} if known.statistics is None else {"statistics": known.statistics}
        images: torch.Tensor = to_uint8(
            known.x, norm.weight, norm.bias, self.groups, NORM_EPS, conv.weight, conv.bias, **given
        )
        return images

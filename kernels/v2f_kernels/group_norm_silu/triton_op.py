"""GroupNorm+SiLU on a GPU: launches, the registered ops, the public functions.

Forward: images of at most `SINGLE_PASS_PIXELS` pixels are read once, a few groups per program; larger ones
twice (statistics, then apply), which is the floor of a two-pass form: 3 passes over the data instead of
the 6 of eager GroupNorm and SiLU. Backward: two reads of (x, dy), one write. Sums are fp32, in a fixed
order: results repeat bit by bit and do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import KEEPS, SHIFT, joins, takes
from v2f_kernels._triton.launch import LaunchConfig, launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import Arguments, channels_last, check_norm
from v2f_kernels.group_norm_silu.triton_apply import (
    apply_kernel,
    backward_apply_kernel,
    backward_merge_kernel,
    backward_sums_kernel,
    single_pass_kernel,
)
from v2f_kernels.group_norm_silu.triton_moments import (
    merge_moments_kernel,
    moments_kernel,
    scale_shift_kernel,
)

SINGLE_PASS_PIXELS = 1024
"""Largest image normalised in one pass: 32 channels of 32x32 pixels are 64 fp32 registers in 512 threads."""


def _config(kernel: str, x: Tensor) -> LaunchConfig:
    return launch_config("group_norm_silu", kernel, x.device, f"C={x.shape[1]}")


def _warps(config: LaunchConfig) -> dict[str, int]:
    return {"num_warps": config.num_warps, "num_stages": config.num_stages}


def _shape(x: Tensor, groups: int) -> dict[str, int]:
    """The constants the kernels are compiled for: pixels, channels, channels per group."""
    return {"HW": x.shape[2] * x.shape[3], "C": x.shape[1], "CPG": x.shape[1] // groups}


def _tile(config: LaunchConfig, channels: int) -> dict[str, int]:
    """A tile of all channels by as many pixels as make TILE elements."""
    block_c = triton.next_power_of_2(channels)
    return {"BLOCK_P": max(1, config.blocks["TILE"] // block_c), "BLOCK_C": block_c}


def _chunk(config: LaunchConfig, channels: int) -> int:
    """Pixels whose sums one program gathers: CHUNK elements, at least a tile."""
    out: int = max(
        _tile(config, channels)["BLOCK_P"], config.blocks["CHUNK"] // triton.next_power_of_2(channels)
    )
    return out


def _merge_tile(config: LaunchConfig, chunks: int, channels_per_group: int) -> dict[str, int]:
    block_g = triton.next_power_of_2(channels_per_group)
    rows = min(triton.next_power_of_2(chunks), max(1, config.blocks["TILE"] // block_g))
    return {"BLOCK_N": rows, "BLOCK_G": block_g}


def launch_merge(
    partial: Tensor,
    statistics: Tensor,
    pixels: int,
    chunk: int,
    phases: int = 1,
    shift: Tensor | None = None,
) -> None:
    """partial [B, chunks, 2, C] -> statistics [B, G, 2] of what was summed + shift [C]; `phases` coverings of `pixels`,
    `chunk` at a time."""
    batch, chunks, _, channels = partial.shape
    per_group = channels // statistics.shape[1]
    config = launch_config("group_norm_silu", "merge", partial.device)
    merge_moments_kernel[(statistics.shape[1], batch)](
        partial, shift, statistics, HW=pixels, CHUNK=chunk, PERIOD=chunks // phases, CHUNKS=chunks, C=channels,
        CPG=per_group, HAS_SHIFT=shift is not None, **_merge_tile(config, chunks, per_group), **_warps(config),
    )  # fmt: skip


class Statistics(NamedTuple):
    """Mean and biased variance of every group of channels."""

    x: Tensor  # [B, C, H, W] channels-last
    groups: int

    def outputs(self) -> Tensor:
        """float32 [B, groups, 2]."""
        return self.x.new_empty((self.x.shape[0], self.groups, 2), dtype=torch.float32)

    def launch(self, statistics: Tensor, shift: Tensor | None = None) -> None:
        """`shift` [C]: of x + shift."""
        x = self.x
        require_cuda("group_norm_silu", x)
        batch, channels, height, width = x.shape
        config = _config("moments", x)
        chunk = _chunk(config, channels)
        chunks = triton.cdiv(height * width, chunk)
        partial = torch.empty((batch, chunks, 2, channels), dtype=torch.float32, device=x.device)
        moments_kernel[(chunks, batch)](
            x,
            partial,
            HW=height * width,
            C=channels,
            CHUNK=chunk,
            DEPTH=config.blocks["DEPTH"],
            **_tile(config, channels),
            **_warps(config),
        )
        launch_merge(partial, statistics, height * width, chunk, shift=shift)


def launch_scale_shift(weight: Tensor, bias: Tensor, statistics: Tensor, eps: float, terms: Tensor) -> None:
    """terms [B, 2, C] float32 <- scale and shift with GroupNorm(x) = x * scale + shift, for the prologues."""
    channels = weight.shape[0]
    config = launch_config("group_norm_silu", "scale_shift", statistics.device)
    scale_shift_kernel[(statistics.shape[0],)](
        statistics, weight, bias, terms, eps, C=channels, CPG=channels // statistics.shape[1],
        BLOCK_C=triton.next_power_of_2(channels), **_warps(config),
    )  # fmt: skip


class Given(NamedTuple):
    """y <- SiLU(GroupNorm(x)) with given statistics, of which the gradient is that of `Forward`."""

    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    statistics: Tensor  # [B, G, 2]
    eps: float

    def outputs(self) -> Tensor:
        return torch.empty_like(self.x)

    def launch(self, y: Tensor, shift: Tensor | None = None) -> None:
        """`shift` [C]: of x + shift."""
        x, statistics = self.x, self.statistics
        require_cuda("group_norm_silu", x)
        config = _config("apply", x)
        tile, shape = _tile(config, x.shape[1]), _shape(x, statistics.shape[1])
        grid = (triton.cdiv(shape["HW"], tile["BLOCK_P"]), x.shape[0])
        apply_kernel[grid](
            x, statistics, self.weight, self.bias, shift, y, self.eps, **shape, HAS_SHIFT=shift is not None,
            **tile, **_warps(config),
        )  # fmt: skip


class Forward(NamedTuple):
    """(y, statistics of x)."""

    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    groups: int
    eps: float

    def outputs(self) -> tuple[Tensor, Tensor]:
        return torch.empty_like(self.x), Statistics(self.x, self.groups).outputs()

    def launch(self, y: Tensor, statistics: Tensor, shift: Tensor | None = None) -> None:
        """`shift` [C]: of x + shift."""
        if self.x.shape[2] * self.x.shape[3] <= SINGLE_PASS_PIXELS:
            self._in_one_pass(y, statistics, shift)
        else:
            Statistics(self.x, self.groups).launch(statistics, shift)
            Given(self.x, self.weight, self.bias, statistics, self.eps).launch(y, shift)

    def _in_one_pass(self, y: Tensor, statistics: Tensor, shift: Tensor | None) -> None:
        x = self.x
        require_cuda("group_norm_silu", x)
        shape = _shape(x, self.groups)
        block_p, block_g = triton.next_power_of_2(shape["HW"]), triton.next_power_of_2(shape["CPG"])
        config = launch_config("group_norm_silu", "single_pass", x.device, f"P={block_p}")
        slab = max(1, min(config.blocks["CHANNELS"] // block_g, triton.next_power_of_2(self.groups)))
        single_pass_kernel[(triton.cdiv(self.groups, slab), x.shape[0])](
            x, self.weight, self.bias, shift, y, statistics, self.eps, **shape, HAS_SHIFT=shift is not None,
            BLOCK_P=block_p, SLAB=slab, BLOCK_G=block_g, **_warps(config)
        )  # fmt: skip


class Shifted(NamedTuple):
    """y <- SiLU(GroupNorm(x + shift)); no gradient."""

    x: Tensor  # [B, C, H, W] channels-last
    shift: Tensor  # [C]
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    statistics: Tensor | None  # [B, G, 2], of x + shift
    groups: int
    eps: float

    def outputs(self) -> Tensor:
        return torch.empty_like(self.x)

    def launch(self, y: Tensor) -> None:
        x, shift, weight, bias, statistics, groups, eps = self
        if statistics is not None:
            Given(x, weight, bias, statistics, eps).launch(y, shift)
        else:
            Forward(x, weight, bias, groups, eps).launch(y, Statistics(x, groups).outputs(), shift)


class Backward(NamedTuple):
    """(dx + beside, dweight, dbias) <- dy, in the dtypes of x, weight and bias."""

    dy: Tensor  # [B, C, H, W] channels-last
    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    statistics: Tensor  # [B, G, 2]
    eps: float
    beside: (
        Tensor | None
    )  # [B, C, H, W] channels-last: the gradient of what else read x; added before the rounding

    def outputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.empty_like(self.x), torch.empty_like(self.weight), torch.empty_like(self.bias)

    def launch(self, dx: Tensor, dweight: Tensor, dbias: Tensor) -> None:
        """Each image writes its share of dweight and dbias; they are summed here, in a fixed order."""
        dy, x, weight, bias, statistics, eps, beside = self
        require_cuda("group_norm_silu", x, dy)
        batch, channels = x.shape[:2]
        shape = _shape(x, statistics.shape[1])
        config, merge, apply = _config("backward_sums", x), _config("merge", x), _config("backward_apply", x)
        chunk = _chunk(config, channels)
        chunks = triton.cdiv(shape["HW"], chunk)
        partial = torch.empty((batch, chunks, 2, channels), dtype=torch.float32, device=x.device)
        sums = torch.empty((batch, 2, channels), dtype=torch.float32, device=x.device)
        means = torch.empty_like(statistics)
        backward_sums_kernel[(chunks, batch)](
            x, dy, statistics, weight, bias, partial, eps, **shape, CHUNK=chunk, **_tile(config, channels),
            **_warps(config),
        )  # fmt: skip
        backward_merge_kernel[(statistics.shape[1], batch)](
            partial, weight, sums, means, **shape, CHUNKS=chunks, **_merge_tile(merge, chunks, shape["CPG"]),
            **_warps(merge),
        )  # fmt: skip
        tile = _tile(apply, channels)
        backward_apply_kernel[(triton.cdiv(shape["HW"], tile["BLOCK_P"]), batch)](
            x,
            dy,
            statistics,
            weight,
            bias,
            means,
            beside,
            dx,
            eps,
            **shape,
            HAS_BESIDE=beside is not None,
            **tile,
            **_warps(apply),
        )
        for total, gradient in zip(sums.sum(0), (dbias, dweight), strict=True):
            gradient.copy_(total)


def keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """What `differentiated` needs of the fields and outputs of `Forward`."""
    x, weight, bias, _, ctx.eps = inputs
    ctx.save_for_backward(x, weight, bias, output[1])
    ctx.mark_non_differentiable(output[1])


def differentiated(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    """A gradient for every field of `Forward`."""
    x, weight, bias, statistics = ctx.saved_tensors
    dy = dy.contiguous(memory_format=torch.channels_last)
    return *backward_op(dy, x, weight, bias, statistics, ctx.eps, None), None, None


def keep_given(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What `differentiated_given` needs of the fields of `Given`."""
    *kept, ctx.eps = inputs
    ctx.save_for_backward(*kept)


def differentiated_given(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    """A gradient for every field of `Given`: as of statistics that were computed from x."""
    return *differentiated(ctx, dy, None)[:3], None, None


statistics_op = registered("v2f::group_statistics", Statistics)
given_op = registered(
    "v2f::group_norm_silu_given", Given, setup_context=keep_given, backward=differentiated_given
)
shifted_op = registered("v2f::group_norm_silu_shifted", Shifted)
backward_op = registered("v2f::group_norm_silu_backward", Backward)
forward_op = registered(
    "v2f::group_norm_silu", Forward, setup_context=keep_for_backward, backward=differentiated
)


def group_statistics(x: Tensor, groups: int) -> Tensor:
    """See the contract in `v2f_kernels.group_norm_silu`; not differentiable."""
    check_norm(x, x.new_empty(x.shape[1:2]), x.new_empty(x.shape[1:2]), groups)
    out: Tensor = statistics_op(channels_last("x", x), groups)
    return out


class Kept(torch.autograd.Function):
    """(y, x) of a norm whose backward pass adds the gradient of the second to that of the first.

    No registered op: what such an op returns may not be its own argument.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        statistics: Tensor | None,
        given: Arguments,
        op: Any,
    ) -> tuple[Tensor, Tensor]:
        if statistics is None:
            y, statistics = op(x, weight, bias, given.groups, given.eps)
        else:
            y = given_op(x, weight, bias, statistics, given.eps)
        ctx.eps = given.eps
        ctx.save_for_backward(x, weight, bias, statistics)
        ctx.set_materialize_grads(False)
        return y, x

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, beside: Tensor | None) -> Any:
        if dy is None:
            return beside, None, None, None, None, None
        last = [None if t is None else t.contiguous(memory_format=torch.channels_last) for t in (dy, beside)]
        x, weight, bias, statistics = ctx.saved_tensors
        return *backward_op(last[0], x, weight, bias, statistics, ctx.eps, last[1]), None, None, None


def kept(given: Arguments, op: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """`(y, x)`; a compiled network, which adds gradients in kernels of its own, is told of two readers of x.

    Args:
        op: as `forward_op`.
    """
    if torch.compiler.is_compiling():
        plain: Tensor = group_norm_silu(*given[:-1])
        return plain, given.x
    both: tuple[Tensor, Tensor] = Kept.apply(*given[:3], given.statistics, given, op)  # type: ignore[no-untyped-call]
    return both


@joins(SHIFT, KEEPS)
@takes(Arguments)
def group_norm_silu(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.group_norm_silu`; x must lie in channels-last memory."""
    x, weight, bias, groups, eps, statistics, shift, keep = given
    channels_last("x", x)
    if keep:
        return kept(given, forward_op)
    if shift is not None:
        moved: Tensor = shifted_op(x, shift, weight, bias, statistics, groups, eps)
        return moved
    if statistics is not None:
        out: Tensor = given_op(x, weight, bias, statistics, eps)
        return out
    out, _ = forward_op(x, weight, bias, groups, eps)
    return out

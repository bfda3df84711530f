"""Attention on a GPU: launches, the registered ops, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.attention.checks import check_attention, drop_below
from v2f_kernels.attention.triton_sliced_head import (
    attention_backward_fp32_kernel,
    attention_forward_fp32_kernel,
)
from v2f_kernels.attention.triton_whole_head import attention_backward_kernel, attention_forward_kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_DEPTH = 128
"""Head dimension of the widest tile."""


def tile_width(depth: int) -> int:
    """Columns of the tile that holds a head of `depth`: the next power of two, 32 at least.

    Raises:
        ValueError: no tile is that wide.
    """
    if not 1 <= depth <= LARGEST_DEPTH:
        raise ValueError(
            f"attention/triton: expected a head dimension of 1 to {LARGEST_DEPTH}, found {depth}; use the "
            "backend 'torch'"
        )
    return max(32, 1 << (depth - 1).bit_length())


def launch_constants(qkv: Tensor, dropout: float, seed_in_memory: bool) -> dict[str, Any]:
    """The constants both kernels are compiled for."""
    _, tokens, _, heads, depth = qkv.shape
    return {
        "N": tokens, "H": heads, "D": depth, "WIDTH": tile_width(depth), "SCALE": depth**-0.5,
        "DROPOUT": dropout > 0.0, "SEED_IN_MEMORY": seed_in_memory,
        "BLOCK": 32 if tokens <= 32 else 64,
    }  # fmt: skip


def keep_scale(dropout: float) -> float:
    """What surviving weights are multiplied by."""
    return 1.0 / (1.0 - dropout)


def variant_of(qkv: Tensor) -> str:
    """Key of the launch configuration: `short` rows are one 32x32 tile; fp32 products run on CUDA cores."""
    return ("fp32" if qkv.dtype == torch.float32 else "half") + ("-short" if qkv.shape[1] <= 32 else "")


def register_bound(qkv: Tensor, num_warps: int) -> dict[str, int]:
    """Registers a thread may have in backward: half of an SM's 65,536 for short rows in fp32, no bound otherwise.

    Left alone, ptxas 12.8 aims at 64 there and spills 8 to 24 B (d = 40, 48, 64; sm_80).
    """
    return {"maxnreg": min(255, 1024 // num_warps)} if variant_of(qkv) == "fp32-short" else {}


KERNELS = {
    ("forward", False): attention_forward_kernel,
    ("forward", True): attention_forward_fp32_kernel,
    ("backward", False): attention_backward_kernel,
    ("backward", True): attention_backward_fp32_kernel,
}
"""(way, whether in fp32) -> kernel."""


def _launch(way: str, call: Forward | Backward, qkv: Tensor, *others: Tensor) -> None:
    """The kernel for this way and dtype; `others` are its further tensors, the one it writes last; all contiguous."""
    config = launch_config("attention", way, qkv.device, variant_of(qkv))
    given = call.seed_in_memory is not None
    KERNELS[way, qkv.dtype == torch.float32][(qkv.shape[0] * qkv.shape[3],)](
        qkv, *others, call.seed_in_memory if given else call.seed,
        drop_below(call.dropout), keep_scale(call.dropout),
        **launch_constants(qkv, call.dropout, given), **config.arguments,
        **(register_bound(qkv, config.num_warps) if way == "backward" else {}),
    )  # fmt: skip


class Forward(NamedTuple):
    """out <- attention of qkv."""

    qkv: Tensor  # [B, N, 3, H, d]
    dropout: float
    seed: int  # as a signed 64-bit number; not read where `seed_in_memory` is given
    seed_in_memory: Tensor | None  # int64 [1]

    def outputs(self) -> Tensor:
        """[B, N, H * d]."""
        batch, tokens, _, heads, depth = self.qkv.shape
        return self.qkv.new_empty((batch, tokens, heads * depth))

    def launch(self, out: Tensor) -> None:
        _launch("forward", self, self.qkv.contiguous(), out)


class Backward(NamedTuple):
    """dqkv <- gradient of qkv."""

    dout: Tensor  # [B, N, H * d]
    qkv: Tensor
    dropout: float
    seed: int
    seed_in_memory: Tensor | None

    def outputs(self) -> Tensor:
        """[B, N, 3, H, d]."""
        return torch.empty_like(self.qkv, memory_format=torch.contiguous_format)

    def launch(self, dqkv: Tensor) -> None:
        _launch("backward", self, self.qkv.contiguous(), self.dout.contiguous(), dqkv)


backward_op = registered("v2f::attention_backward", Backward)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, ctx.dropout, ctx.seed, seed_in_memory = inputs
    ctx.save_for_backward(qkv, seed_in_memory)


def _backward(ctx: Any, dout: Tensor) -> tuple[Any, ...]:
    qkv, seed_in_memory = ctx.saved_tensors
    return backward_op(dout, qkv, ctx.dropout, ctx.seed, seed_in_memory), None, None, None


forward_op = registered("v2f::attention", Forward, setup_context=_setup_context, backward=_backward)


def attention(qkv: Tensor, *, dropout: float = 0.0, seed: int | Tensor = 0) -> Tensor:
    """See the contract in `v2f_kernels.attention`."""
    check_attention(qkv, dropout, seed)
    require_cuda("attention", qkv)
    if qkv.dtype not in DTYPES:
        raise ValueError(f"attention/triton: expected float16, bfloat16 or float32, found {qkv.dtype}")
    tile_width(qkv.shape[4])
    if isinstance(seed, Tensor):
        out: Tensor = forward_op(qkv, dropout, 0, seed)
    else:
        out = forward_op(qkv, dropout, seed - 2**64 if seed >= 2**63 else seed, None)
    return out

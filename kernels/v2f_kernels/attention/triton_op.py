"""Attention on a GPU: launchers that write into given buffers, the registered ops, the public function."""

from __future__ import annotations

from typing import Any

import torch

from v2f_kernels._triton.launch import launch_config, require_cuda
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


def launch_constants(qkv: torch.Tensor, dropout: float, seed_in_memory: bool) -> dict[str, Any]:
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


def variant_of(qkv: torch.Tensor) -> str:
    """Key of the launch configuration: `short` rows are one 32x32 tile; fp32 products run on CUDA cores."""
    return ("fp32" if qkv.dtype == torch.float32 else "half") + ("-short" if qkv.shape[1] <= 32 else "")


def register_bound(qkv: torch.Tensor, num_warps: int) -> dict[str, int]:
    """Registers a thread may have in backward: half of an SM's 65,536 for short rows in fp32, no bound otherwise.

    Left alone, ptxas 12.8 aims at 64 there and spills 8 to 24 B (d = 40, 48, 64; sm_80).
    """
    return {"maxnreg": min(255, 1024 // num_warps)} if variant_of(qkv) == "fp32-short" else {}


def launch_forward(
    qkv: torch.Tensor, out: torch.Tensor, dropout: float = 0.0, seed: int | torch.Tensor = 0
) -> None:
    """out [B, N, H * d] <- attention of qkv [B, N, 3, H, d]; both contiguous."""
    config = launch_config("attention", "forward", qkv.device, variant_of(qkv))
    kernel = attention_forward_fp32_kernel if qkv.dtype == torch.float32 else attention_forward_kernel
    kernel[(qkv.shape[0] * qkv.shape[3],)](
        qkv, out, seed, drop_below(dropout), keep_scale(dropout),
        **launch_constants(qkv, dropout, isinstance(seed, torch.Tensor)), **config.arguments,
    )  # fmt: skip


def launch_backward(
    qkv: torch.Tensor,
    dout: torch.Tensor,
    dqkv: torch.Tensor,
    dropout: float = 0.0,
    seed: int | torch.Tensor = 0,
) -> None:
    """dqkv [B, N, 3, H, d] <- gradient of qkv given dout [B, N, H * d]; all contiguous."""
    config = launch_config("attention", "backward", qkv.device, variant_of(qkv))
    kernel = attention_backward_fp32_kernel if qkv.dtype == torch.float32 else attention_backward_kernel
    kernel[(qkv.shape[0] * qkv.shape[3],)](
        qkv, dout, dqkv, seed, drop_below(dropout), keep_scale(dropout),
        **launch_constants(qkv, dropout, isinstance(seed, torch.Tensor)), **config.arguments,
        **register_bound(qkv, config.num_warps),
    )  # fmt: skip


@torch.library.custom_op("v2f::attention", mutates_args=())
def forward_op(
    qkv: torch.Tensor, dropout: float, seed: int, seed_in_memory: torch.Tensor | None
) -> torch.Tensor:
    """out [B, N, H * d]; `seed` as a signed 64-bit number, unless `seed_in_memory` is given."""
    batch, tokens, _, heads, depth = qkv.shape
    out = torch.empty((batch, tokens, heads * depth), dtype=qkv.dtype, device=qkv.device)
    launch_forward(qkv.contiguous(), out, dropout, seed if seed_in_memory is None else seed_in_memory)
    return out


@forward_op.register_fake
def _(qkv: torch.Tensor, dropout: float, seed: int, seed_in_memory: torch.Tensor | None) -> torch.Tensor:
    return qkv.new_empty((*qkv.shape[:2], qkv.shape[3] * qkv.shape[4]))


@torch.library.custom_op("v2f::attention_backward", mutates_args=())
def backward_op(
    dout: torch.Tensor, qkv: torch.Tensor, dropout: float, seed: int, seed_in_memory: torch.Tensor | None
) -> torch.Tensor:
    """dqkv, the shape of qkv."""
    dqkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    source = seed if seed_in_memory is None else seed_in_memory
    launch_backward(qkv.contiguous(), dout.contiguous(), dqkv, dropout, source)
    return dqkv


@backward_op.register_fake
def _(
    dout: torch.Tensor, qkv: torch.Tensor, dropout: float, seed: int, seed_in_memory: torch.Tensor | None
) -> torch.Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    qkv, ctx.dropout, ctx.seed, seed_in_memory = inputs
    ctx.save_for_backward(qkv, seed_in_memory)


def _backward(ctx: Any, dout: torch.Tensor) -> tuple[Any, ...]:
    qkv, seed_in_memory = ctx.saved_tensors
    return backward_op(dout, qkv, ctx.dropout, ctx.seed, seed_in_memory), None, None, None


forward_op.register_autograd(_backward, setup_context=_setup_context)


def attention(qkv: torch.Tensor, *, dropout: float = 0.0, seed: int | torch.Tensor = 0) -> torch.Tensor:
    """See the contract in `v2f_kernels.attention`."""
    check_attention(qkv, dropout, seed)
    require_cuda("attention", qkv)
    if qkv.dtype not in DTYPES:
        raise ValueError(f"attention/triton: expected float16, bfloat16 or float32, found {qkv.dtype}")
    tile_width(qkv.shape[4])
    if isinstance(seed, torch.Tensor):
        out: torch.Tensor = forward_op(qkv, dropout, 0, seed)
    else:
        out = forward_op(qkv, dropout, seed - 2**64 if seed >= 2**63 else seed, None)
    return out

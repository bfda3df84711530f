"""What the compile gate compiles of this op: the shapes of generation and training; see `_triton.aot`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels.attention.triton_op import Backward, Forward

BATCH = 8
HALF = (torch.float16, torch.bfloat16)


def _forward(dtype: torch.dtype, tokens: int, heads: int, depth: int, dropout: float) -> None:
    qkv = torch.empty((BATCH, tokens, 3, heads, depth), dtype=dtype, device="meta")
    run(Forward(qkv, dropout, 1, None))


def _backward(dtype: torch.dtype, tokens: int, heads: int, depth: int, dropout: float) -> None:
    qkv = torch.empty((BATCH, tokens, 3, heads, depth), dtype=dtype, device="meta")
    run(Backward(qkv[:, :, 0].flatten(2), qkv, dropout, 1, None))


def _label(way: str, dtype: torch.dtype, tokens: int, heads: int, depth: int, dropout: float) -> str:
    drop = f" dropout {dropout:g}" if dropout else ""
    return f"{way} N={tokens} H={heads} d={depth} {str(dtype).removeprefix('torch.')}{drop}"


def _cases() -> dict[str, Callable[[], None]]:
    f16, bf16, f32 = torch.float16, torch.bfloat16, torch.float32
    forward = [
        (f16, 45, 12, 64, 0.0),  # generation: encoder, decoder
        (f16, 50, 16, 48, 0.0),
        (bf16, 45, 12, 64, 0.0),
        (bf16, 50, 16, 48, 0.0),
        (bf16, 25, 12, 64, 0.1),  # training: encoder, decoder
        (bf16, 50, 16, 48, 0.1),
        (bf16, 50, 16, 80, 0.1),  # huge
        (f32, 50, 16, 48, 0.1),
        (f32, 25, 12, 64, 0.1),
        (f16, 50, 8, 16, 0.1),  # narrower than the narrowest tile
        (f16, 50, 8, 40, 0.1),  # masked columns, 16-byte loads
        (bf16, 25, 8, 80, 0.1),
        (bf16, 50, 8, 100, 0.1),  # masked columns, 8-byte loads
        (f16, 64, 8, 128, 0.1),
        (f32, 25, 8, 40, 0.1),
        (f32, 64, 8, 80, 0.1),
        (f32, 50, 8, 100, 0.1),  # the last slice of 16 is masked
    ]
    backward = [case for case in forward if case[4]] + [(bf16, 50, 16, 48, 0.0)]
    cases: dict[str, Callable[[], None]] = {_label("forward", *c): partial(_forward, *c) for c in forward}
    return cases | {_label("backward", *c): partial(_backward, *c) for c in backward}


CASES = _cases()


def _by_shape(
    sizes: dict[str, int], dtype: torch.dtype, dropout: float
) -> tuple[torch.dtype, int, int, int, float]:
    """Rows that fill most of their tile, as the network's do: 25 of 32, 50 of 64; heads for a width of 768."""
    return dtype, sizes["N"] * 25 // 32, 768 // sizes["d"] or 1, sizes["d"], dropout


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    _forward(*_by_shape(sizes, dtype, 0.0))


def _training(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for launched in (_forward, _backward):
        launched(*_by_shape(sizes, dtype, 0.1))


BY_SHAPE = {"attention": (_frozen, _training)}

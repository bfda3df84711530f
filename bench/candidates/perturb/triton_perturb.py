# mypy: ignore-errors
"""Triton: noise, drawn or given, and renormalisation in one kernel, the same bits as `reference`.

Lengths are float64 sums by halving: position i adds position i + half until one is left, whatever the
thread layout. Launch with enable_fp_fusion=False: the contract rounds sigma * noise before the sum.
"""

from __future__ import annotations

import triton
import triton.language as tl
from v2f_kernels._triton.rounding import multiply_add

from bench.candidates.philox.triton_philox import draw_words, normal_from_bits


@triton.jit
def _squared_length(x, LOG2_BLOCK: tl.constexpr):
    """float64 [1]: the sum of squares of x [2**LOG2_BLOCK] float32 by halving."""
    total = x.to(tl.float64)
    total = total * total
    for step in tl.static_range(LOG2_BLOCK):
        # A sum of two has one order.
        total = tl.sum(tl.reshape(total, (2, 1 << (LOG2_BLOCK - 1 - step))), 0)
    return total


@triton.jit(do_not_specialize=["purpose", "k0", "k1"])
def perturb_kernel(
    vectors_ptr,  # [B, D]
    sigma_ptr,  # [B]
    noise_ptr,  # [B, D], or None with DRAWN
    identity_ptr,  # [B] uint32 with DRAWN, else None
    image_ptr,  # [B] uint32 with DRAWN, else None
    out_ptr,  # [B, D]
    purpose,  # the bits of a uint32 in an int32, as k0 and k1: the key
    k0,
    k1,
    D: tl.constexpr,
    DRAWN: tl.constexpr,
    BLOCK: tl.constexpr,  # power of two >= max(D, 4)
    LOG2_BLOCK: tl.constexpr,
):
    """Grid (B)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < D
    x = tl.load(vectors_ptr + row * D + column, mask=inside, other=0.0)
    if DRAWN:
        identity = tl.load(identity_ptr + row)
        words = draw_words(purpose, identity, tl.load(image_ptr + row), 0, k0, k1, BLOCK // 4)
        noise = normal_from_bits(words)
    else:
        noise = tl.load(noise_ptr + row * D + column, mask=inside, other=0.0)
    moved = multiply_add(noise, tl.load(sigma_ptr + row), x)
    moved = tl.where(inside, moved, 0.0)
    ratio = tl.sqrt(_squared_length(x, LOG2_BLOCK) / _squared_length(moved, LOG2_BLOCK)).to(tl.float32)
    tl.store(out_ptr + row * D + column, moved * ratio, mask=inside)

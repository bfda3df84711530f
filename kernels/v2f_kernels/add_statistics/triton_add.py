# mypy: ignore-errors
"""Triton: y = x + bias + residual, and the moments of y per chunk and channel while it is in registers.

One read of x and of residual and one write, where a kernel each for bias, residual and moments makes three reads of y
and two writes more. Sums as in `group_norm_silu.triton_moments`: around the chunk's first pixel, without atomics.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.group_norm_silu.triton_moments import add_deviations, deep_rows, first_rows, store_sums


@triton.jit
def add_kernel(
    x_ptr,  # [B, HW, C]
    bias_ptr,  # [C]
    residual_ptr,  # [B, HW, C]
    y_ptr,  # [B, HW, C]
    partial_ptr,  # [B, CHUNKS, 2, C] fp32: mean, M2 of y
    HW: tl.constexpr,
    C: tl.constexpr,
    CHUNK: tl.constexpr,  # pixels per program
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_MOMENTS: tl.constexpr,
    DEPTH: tl.constexpr,  # tiles read at once
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (chunks, B)."""
    chunk = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    deep_c = c[None, None, :]
    first = chunk * CHUNK
    end = tl.minimum(first + CHUNK, HW)
    known = deep_c < C
    bias = tl.zeros((1, 1, BLOCK_C), tl.float32)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + deep_c, mask=known, other=0.0).to(tl.float32)
    base = image * (HW * C)
    if HAS_MOMENTS:
        first_place = base + first_rows(first, BLOCK_P) * C + deep_c
        shift = _sum(x_ptr, residual_ptr, bias, first_place, known, HAS_RESIDUAL)
        shift = shift.to(y_ptr.dtype.element_ty).to(tl.float32)
        sum1 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
        sum2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in tl.range(0, CHUNK, DEPTH * BLOCK_P):
        row = deep_rows(first + start, DEPTH, BLOCK_P)
        inside = (row < end) & known
        place = base + row * C + deep_c
        y = _sum(x_ptr, residual_ptr, bias, place, inside, HAS_RESIDUAL).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + place, y, mask=inside)
        if HAS_MOMENTS:
            sum1, sum2 = add_deviations(y.to(tl.float32), inside, shift, sum1, sum2)
    if HAS_MOMENTS:
        target = partial_ptr + (image * tl.num_programs(0) + chunk) * (2 * C)
        store_sums(sum1, sum2, shift, (end - first).to(tl.float32), target, c, C)


@triton.jit
def _sum(x_ptr, residual_ptr, bias, place, inside, HAS_RESIDUAL: tl.constexpr):
    """x + bias + residual in fp32 at `place`. Neither is read again, so both leave L2 to y, which the norm behind
    reads."""
    total = tl.load(x_ptr + place, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
    total += bias
    if HAS_RESIDUAL:
        more = tl.load(residual_ptr + place, mask=inside, other=0.0, eviction_policy="evict_first")
        total += more.to(tl.float32)
    return total

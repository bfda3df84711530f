# mypy: ignore-errors
"""Triton: normalise + SiLU + round to e4m3 in one pass, then a 3x3 implicit matrix product of e4m3 tiles.

The rounding is a pass of its own: in the product's prologue every element would pass SiLU once per tap, and a byte
written and read costs less than the fp16 pass it replaces.
"""

from __future__ import annotations

import triton
import triton.language as tl
from v2f_kernels.group_norm_silu.triton_apply import _channel_terms


@triton.jit
def quantise_kernel(
    x_ptr,  # [B, HW, C]
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    y_ptr,  # [B, HW, C] e4m3
    eps,
    SCALE: tl.constexpr,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(HW / BLOCK_P), B)."""
    row = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    mean, rstd, weight, bias = _channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C, CPG)
    inside = (row < HW)[:, None] & (c < C)[None, :]
    place = image * (HW * C) + row[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    z = (x - mean[None, :]) * (rstd * weight)[None, :] + bias[None, :]
    y = z / (1.0 + tl.exp(-z)) * SCALE
    y = tl.minimum(tl.maximum(y, -448.0), 448.0)
    tl.store(y_ptr + place, y.to(tl.float8e4nv), mask=inside)


@triton.jit
def conv3x3_fp8_kernel(
    x_ptr,  # [B, H, W, C] e4m3, times SCALE
    weight_ptr,  # [O, 3, 3, C] e4m3
    scale_ptr,  # [O] fp32
    residual_ptr,  # [B, H, W, O]
    y_ptr,  # [B, H, W, O]
    SCALE: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,  # a multiple of BLOCK_K
    O: tl.constexpr,  # noqa: E741  (output channels)
    HAS_RESIDUAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Grid (ceil(O / BLOCK_N), ceil(HW / BLOCK_M), B), as the half-precision one; channel blocks outside, taps
    inside."""
    image = tl.program_id(2).to(tl.int64)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    row = m // W
    column = m % W
    x_tile = x_ptr + image * (H * W * C) + m[:, None] * C + k[None, :]
    w_tile = weight_ptr + n[None, :] * (9 * C) + k[:, None]
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(0, 9 * (C // BLOCK_K)):
        block = step // 9
        tap = step % 9
        down = tap // 3 - 1
        right = tap % 3 - 1
        seen = (row + down >= 0) & (row + down < H) & (column + right >= 0) & (column + right < W)
        a = tl.load(x_tile + ((down * W + right) * C + block * BLOCK_K), mask=seen[:, None], other=0.0)
        if O % BLOCK_N == 0:
            b = tl.load(w_tile + (tap * C + block * BLOCK_K))
        else:
            b = tl.load(w_tile + (tap * C + block * BLOCK_K), mask=n[None, :] < O, other=0.0)
        accumulator = tl.dot(a, b, accumulator, max_num_imprecise_acc=BLOCK_K)
    factor = tl.load(scale_ptr + n, mask=n < O, other=0.0) / SCALE
    accumulator = accumulator * factor[None, :]
    place = image * (H * W * O) + m[:, None] * O + n[None, :]
    kept = (m < H * W)[:, None] & (n < O)[None, :]
    if HAS_RESIDUAL:
        accumulator += tl.load(residual_ptr + place, mask=kept, other=0.0).to(tl.float32)
    tl.store(y_ptr + place, accumulator.to(y_ptr.dtype.element_ty), mask=kept)

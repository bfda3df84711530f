# mypy: ignore-errors
"""Triton: 3x3 convolution as an implicit matrix product over taps and channels.

A program makes BLOCK_M consecutive pixels of one image by BLOCK_N output channels. The reduction runs over
channel blocks (outer) and the nine taps (inner), so that the nine shifted reads of the same channels
follow each other and hit L1. Out-of-image taps are masked loads that give zero.

The prologue normalises a tile after loading it, so each element passes SiLU once per tap: nine times two
special-function operations. At 16 of those per clock and multiprocessor, [C, 112, 112] with C = 128 on an
H200 (132 multiprocessors near 1.7 GHz) takes about 8 us an image, more than the 4.7 us of the product
itself [computed]: the prologue saves bytes, not time, wherever bytes are not the limit. `bench/` decides.

The statistics epilogue writes, per tile and channel, mean and M2 of the rounded output, two-pass in
registers; `merge_moments_kernel` joins them.
"""

from __future__ import annotations

import triton
import triton.language as tl
from v2f_kernels.group_norm_silu.triton_moments import store_moments


@triton.jit
def conv3x3_kernel(
    x_ptr,  # [B, H, W, C]
    weight_ptr,  # [O, 3, 3, C]
    bias_ptr,  # [O]
    residual_ptr,  # [B, H, W, O]
    terms_ptr,  # [B, 2, C] fp32: scale, shift of the normalising prologue
    y_ptr,  # [B, H, W, O]
    partial_ptr,  # [B, TILES, 2, O] fp32: mean, M2 of y per tile
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,  # a multiple of BLOCK_K
    O: tl.constexpr,  # noqa: E741  (output channels)
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_MOMENTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Grid (ceil(O / BLOCK_N), ceil(HW / BLOCK_M), B): output blocks of one pixel tile run side by side."""
    tile = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
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
        if HAS_NORM:
            terms = terms_ptr + image * (2 * C) + block * BLOCK_K + k
            scale = tl.load(terms)
            shift = tl.load(terms + C)
            z = a.to(tl.float32) * scale[None, :] + shift[None, :]
            z = z / (1.0 + tl.exp(-z))
            a = tl.where(seen[:, None], z, 0.0).to(a.dtype)
        accumulator = tl.dot(a, b, accumulator, input_precision="ieee")
    inside = m < H * W
    if HAS_BIAS:
        accumulator += tl.load(bias_ptr + n, mask=n < O, other=0.0).to(tl.float32)[None, :]
    place = image * (H * W * O) + m[:, None] * O + n[None, :]
    kept = inside[:, None] & (n < O)[None, :]
    if HAS_RESIDUAL:
        accumulator += tl.load(residual_ptr + place, mask=kept, other=0.0).to(tl.float32)
    y = accumulator.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + place, y, mask=kept)
    if HAS_MOMENTS:
        target = partial_ptr + (image * tl.num_programs(1) + tile) * (2 * O)
        count = tl.minimum(H * W - tile * BLOCK_M, BLOCK_M).to(tl.float32)
        store_moments(y.to(tl.float32), inside, target, n, count, O)

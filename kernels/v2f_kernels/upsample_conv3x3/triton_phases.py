# mypy: ignore-errors
"""Triton: nearest 2x + 3x3 convolution as four 2x2 convolutions, a phase per program.

Output pixel (2i + p, 2j + q) sums tap (s, t) of {0, 1}^2: source pixel (i + p - s, j + q - t), folded
weight at (2s + 1 - p, 2t + 1 - q). The upsampled image never exists; a phase's pixels lie two apart in the
output, but each pixel's channels are contiguous, so stores stay whole cache lines.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.group_norm_silu.triton_moments import store_moments


@triton.jit
def upsample_conv3x3_kernel(
    x_ptr,  # [B, H, W, C]
    folded_ptr,  # [C, 4, 4, O]
    bias_ptr,  # [O]
    y_ptr,  # [B, 2H, 2W, O]
    partial_ptr,  # [B, 4 * TILES, 2, O] fp32: mean, M2 of y per phase and tile
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,  # a multiple of BLOCK_K
    O: tl.constexpr,  # noqa: E741  (output channels)
    HAS_BIAS: tl.constexpr,
    HAS_MOMENTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Grid (4 * ceil(O / BLOCK_N), TILES = ceil(HW / BLOCK_M), B): the four phases of a tile share x in
    L2."""
    phase = tl.program_id(0) % 4
    tile = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    p = phase // 2
    q = phase % 2
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) // 4 * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    row = m // W
    column = m % W
    x_tile = x_ptr + image * (H * W * C) + m[:, None] * C + k[None, :]
    w_tile = folded_ptr + k[:, None] * (16 * O) + n[None, :]
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(0, 4 * (C // BLOCK_K)):
        block = step // 4
        s = step % 4 // 2
        t = step % 2
        down = p - s
        right = q - t
        seen = (row + down >= 0) & (row + down < H) & (column + right >= 0) & (column + right < W)
        a = tl.load(x_tile + ((down * W + right) * C + block * BLOCK_K), mask=seen[:, None], other=0.0)
        place = block * BLOCK_K * 16 * O + ((2 * s + 1 - p) * 4 + 2 * t + 1 - q) * O
        if O % BLOCK_N == 0:
            b = tl.load(w_tile + place)
        else:
            b = tl.load(w_tile + place, mask=n[None, :] < O, other=0.0)
        accumulator = tl.dot(a, b, accumulator, input_precision="ieee")
    inside = m < H * W
    if HAS_BIAS:
        accumulator += tl.load(bias_ptr + n, mask=n < O, other=0.0).to(tl.float32)[None, :]
    pixel = (2 * row + p) * (2 * W) + 2 * column + q
    y = accumulator.to(y_ptr.dtype.element_ty)
    tl.store(
        y_ptr + image * (4 * H * W * O) + pixel[:, None] * O + n[None, :],
        y,
        mask=inside[:, None] & (n < O)[None, :],
    )
    if HAS_MOMENTS:
        chunk = phase * tl.num_programs(1) + tile
        target = partial_ptr + (image * (4 * tl.num_programs(1)) + chunk) * (2 * O)
        count = tl.minimum(H * W - tile * BLOCK_M, BLOCK_M).to(tl.float32)
        store_moments(y.to(tl.float32), inside, target, n, count, O)

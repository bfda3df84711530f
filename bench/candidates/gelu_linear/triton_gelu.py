# mypy: ignore-errors
"""Triton: a matrix product whose epilogue adds the bias and takes the exact GELU; and GELU's backward.

Forward saves one read and one write of the hidden activation (the widest of a block) against a product and a
separate GELU. Backward is one pass over (dy, z): dz = dy * GELU'(z) and each program's share of
dbias = sum of dz over rows, added up in a second step (no atomics). The two products of the backward pass are
plain products of contiguous matrices and stay with cuBLAS.

    GELU'(z) = Phi(z) + z * phi(z)
"""

from __future__ import annotations

import triton
import triton.language as tl

SQRT_HALF = tl.constexpr(0.7071067811865476)
PHI_0 = tl.constexpr(0.3989422804014327)  # 1 / sqrt(2 pi)


@triton.jit
def gelu_linear_forward_kernel(
    x_ptr,  # [R, K]
    weight_ptr,  # [M, K]
    bias_ptr,  # [M]
    y_ptr,  # [R, M]
    z_ptr,  # [R, M]
    R,
    M: tl.constexpr,
    K: tl.constexpr,
    SAVE: tl.constexpr,  # whether z is written
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,  # row tiles that share a stretch of weight tiles in L2
):
    """Grid (ceil(R / BLOCK_R) * ceil(M / BLOCK_M))."""
    tile = tl.program_id(0)
    row_tiles = tl.cdiv(R, BLOCK_R)
    per_group = GROUP * tl.cdiv(M, BLOCK_M)
    first = tile // per_group * GROUP
    tall = tl.minimum(row_tiles - first, GROUP)
    row = (first + tile % per_group % tall) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tile % per_group // tall * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)

    x_tile = x_ptr + row.to(tl.int64)[:, None] * K + k[None, :]
    weight_tile = weight_ptr + column[None, :] * K + k[:, None]
    sums = tl.zeros((BLOCK_R, BLOCK_M), tl.float32)
    for start in tl.range(0, K, BLOCK_K):
        left = k < K - start
        x = tl.load(x_tile + start, mask=(row < R)[:, None] & left[None, :], other=0.0)
        weight = tl.load(weight_tile + start, mask=(column < M)[None, :] & left[:, None], other=0.0)
        sums = tl.dot(x, weight, acc=sums, input_precision=PRECISION)

    z = sums + tl.load(bias_ptr + column, mask=column < M, other=0.0).to(tl.float32)[None, :]
    inside = (row < R)[:, None] & (column < M)[None, :]
    place = row.to(tl.int64)[:, None] * M + column[None, :]
    if SAVE:
        tl.store(z_ptr + place, z.to(z_ptr.dtype.element_ty), mask=inside)
    y = 0.5 * z * (1.0 + tl.erf(z * SQRT_HALF))
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gelu_backward_kernel(
    dy_ptr,  # [R, M]
    z_ptr,  # [R, M]
    dz_ptr,  # [R, M]
    partial_ptr,  # [chunks, M] fp32: shares of dbias
    R,
    rows_per_program,
    M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Grid (ceil(M / BLOCK_M), chunks)."""
    column = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    chunk = tl.program_id(1)
    first = chunk * rows_per_program
    last = tl.minimum(first + rows_per_program, R)
    dbias = tl.zeros((BLOCK_R, BLOCK_M), tl.float32)
    for start in tl.range(first, last, BLOCK_R):
        row = start + tl.arange(0, BLOCK_R)
        inside = (row < last)[:, None] & (column < M)[None, :]
        place = row.to(tl.int64)[:, None] * M + column[None, :]
        z = tl.load(z_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
        slope = 0.5 * (1.0 + tl.erf(z * SQRT_HALF)) + z * PHI_0 * tl.exp(-0.5 * z * z)
        dz = dy * slope
        tl.store(dz_ptr + place, dz.to(dz_ptr.dtype.element_ty), mask=inside)
        dbias += dz
    tl.store(partial_ptr + chunk * M + column, tl.sum(dbias, 0), mask=column < M)

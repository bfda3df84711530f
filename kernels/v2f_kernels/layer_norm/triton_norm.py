# mypy: ignore-errors
"""Triton: residual addition + LayerNorm, rows in registers, forward and backward.

A program holds ROWS whole rows, so mean and variance are exact two-step sums over registers and each tensor is
read or written once: 4 passes over the data with a residual (x, r in; s, y out) against 7 unfused.

Backward recomputes mean and rstd from the saved sum s, with g = dy * weight and xhat = (s - mean) * rstd:
    ds = rstd * (g - mean(g) - xhat * mean(g * xhat)) + gradient that reached s directly
    dweight = sum over rows of dy * xhat        dbias = sum over rows of dy
A fixed number of programs each walk a fixed range of rows and write their share of dweight and dbias; the
shares are added in a second step. No atomics: the same bits every time.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def row_moments(x, inside, eps, D: tl.constexpr):
    """(xhat, rstd) of fp32 rows x [ROWS, BLOCK]; lanes outside of the row are zero in x and in xhat."""
    mean = tl.sum(x, 1) / D
    centred = tl.where(inside, x - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / D + eps)
    return centred * rstd[:, None], rstd


@triton.jit
def norm_gradient(g, xhat, rstd, D: tl.constexpr):
    """Gradient of the rows before LayerNorm, given g = dy * weight."""
    mean_g = tl.sum(g, 1) / D
    mean_gx = tl.sum(g * xhat, 1) / D
    return rstd[:, None] * (g - mean_g[:, None] - xhat * mean_gx[:, None])


@triton.jit
def layer_norm_forward_kernel(
    x_ptr,  # [R, D]
    residual_ptr,  # [R, D]
    weight_ptr,  # [D]
    bias_ptr,  # [D]
    y_ptr,  # [R, D]
    sum_ptr,  # [R, D]
    eps,
    R,
    D: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BLOCK: tl.constexpr,  # power of two >= D
    ROWS: tl.constexpr,
):
    """Grid (ceil(R / ROWS)). Without RESIDUAL, residual_ptr and sum_ptr are not touched."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < R)[:, None] & (column < D)[None, :]
    place = row.to(tl.int64)[:, None] * D + column[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        x += tl.load(residual_ptr + place, mask=inside, other=0.0).to(tl.float32)
        rounded = x.to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + place, rounded, mask=inside)
        x = rounded.to(tl.float32)
    xhat, _ = row_moments(x, (column < D)[None, :], eps, D)
    weight = tl.load(weight_ptr + column, mask=column < D, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=column < D, other=0.0).to(tl.float32)
    y = xhat * weight[None, :] + bias[None, :]
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def layer_norm_backward_kernel(
    dy_ptr,  # [R, D]
    dsum_ptr,  # [R, D]
    sum_ptr,  # [R, D]
    weight_ptr,  # [D]
    dx_ptr,  # [R, D]
    partial_ptr,  # [programs, 2, D] fp32: shares of dweight, dbias
    eps,
    R,
    rows_per_program,
    D: tl.constexpr,
    DIRECT: tl.constexpr,  # whether a gradient reached the sum itself
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Grid (programs). Without DIRECT, dsum_ptr is not touched."""
    column = tl.arange(0, BLOCK)
    lanes = (column < D)[None, :]
    weight = tl.load(weight_ptr + column, mask=column < D, other=0.0).to(tl.float32)
    dweight = tl.zeros((ROWS, BLOCK), tl.float32)
    dbias = tl.zeros((ROWS, BLOCK), tl.float32)
    first = tl.program_id(0) * rows_per_program
    last = tl.minimum(first + rows_per_program, R)
    for start in tl.range(first, last, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < last)[:, None] & lanes
        place = row.to(tl.int64)[:, None] * D + column[None, :]
        s = tl.load(sum_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
        xhat, rstd = row_moments(s, lanes, eps, D)
        dx = norm_gradient(dy * weight[None, :], xhat, rstd, D)
        if DIRECT:
            dx += tl.load(dsum_ptr + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx_ptr + place, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        dweight += dy * xhat
        dbias += dy
    target = partial_ptr + tl.program_id(0) * (2 * D) + column
    tl.store(target, tl.sum(dweight, 0), mask=column < D)
    tl.store(target + D, tl.sum(dbias, 0), mask=column < D)

# mypy: ignore-errors
"""Triton: the backward pass of batch normalisation with PReLU over [N, C] rows; a residual's gradient is dy itself.

With z = xhat * weight + bias and dz = dy where z > 0, slope * dy elsewhere:
    dbias = sum dz,  dweight = sum dz * xhat,  dslope = sum of dy * z where z <= 0
    dx = weight * rstd * (dz - dbias / N - xhat * dweight / N), and another gradient of x where one is given
z is computed anew from x in both passes, so that nothing but x and the statistics is kept.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.batch_norm_prelu.triton_forward import channel_terms


@triton.jit
def gradient_terms(x, dy, slope, mean, rstd, weight, bias, SLOPED: tl.constexpr):
    """(dz, xhat, dy * z where z <= 0) for tiles x, dy [P, C] fp32 and channel vectors [C]."""
    xhat = (x - mean[None, :]) * rstd[None, :]
    dz, bent = dy, dy
    if SLOPED:
        z = xhat * weight[None, :] + bias[None, :]
        dz = tl.where(z > 0, dy, dy * slope[None, :])
        bent = tl.where(z > 0, 0.0, dy * z)
    return dz, xhat, bent


@triton.jit
def batch_backward_sums_kernel(
    x_ptr,  # [N, C]
    dy_ptr,  # [N, C]
    statistics_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    slope_ptr,  # [C], read where SLOPED
    partial_ptr,  # [CHUNKS, 2 or 3, C] fp32: sums of dz, dz * xhat and, where SLOPED, dy * z below zero
    eps,
    N,
    CHUNK,
    SLOPED: tl.constexpr,
    C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (chunks)."""
    SUMS: tl.constexpr = 3 if SLOPED else 2
    first = tl.program_id(0).to(tl.int64) * CHUNK
    c = tl.arange(0, BLOCK_C)
    p = tl.arange(0, BLOCK_P)
    mean, rstd, weight, bias = channel_terms(statistics_ptr, weight_ptr, bias_ptr, c, eps, C)
    slope = weight
    if SLOPED:
        slope = tl.load(slope_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    local = p[:, None] * C + c[None, :]
    sum1 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    sum2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    if SLOPED:
        sum3 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in tl.range(0, CHUNK, BLOCK_P):
        inside = (p < N - first - start)[:, None] & (c < C)[None, :]
        x = tl.load(x_ptr + (first + start) * C + local, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + (first + start) * C + local, mask=inside, other=0.0).to(tl.float32)
        dz, xhat, bent = gradient_terms(x, dy, slope, mean, rstd, weight, bias, SLOPED)
        sum1 += dz  # dy is 0 outside, and with it dz
        sum2 += dz * xhat
        if SLOPED:
            sum3 += bent
    target = partial_ptr + tl.program_id(0) * (SUMS * C) + c
    tl.store(target, tl.sum(sum1, 0), mask=c < C)
    tl.store(target + C, tl.sum(sum2, 0), mask=c < C)
    if SLOPED:
        tl.store(target + 2 * C, tl.sum(sum3, 0), mask=c < C)


@triton.jit
def batch_backward_merge_kernel(
    partial_ptr,  # [CHUNKS, SUMS, C] fp32
    sums_ptr,  # [SUMS, C] fp32: dbias, dweight, dslope
    CHUNKS,
    SUMS: tl.constexpr,
    C: tl.constexpr,
    BLOCK_N: tl.constexpr,  # power of two >= CHUNKS
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(C / BLOCK_C), SUMS)."""
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    which = tl.program_id(1)
    n = tl.arange(0, BLOCK_N)
    known = (n < CHUNKS)[:, None] & (c < C)[None, :]
    source = partial_ptr + n[:, None] * (SUMS * C) + which * C + c[None, :]
    total = tl.sum(tl.load(source, mask=known, other=0.0), 0)
    tl.store(sums_ptr + which * C + c, total, mask=c < C)


@triton.jit
def batch_backward_apply_kernel(
    x_ptr,  # [N, C]
    dy_ptr,  # [N, C]
    statistics_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    slope_ptr,  # [C], read where SLOPED
    sums_ptr,  # [2 or 3, C] fp32
    passed_ptr,  # [N, C], read where PASSED: another gradient of x
    dx_ptr,  # [N, C]
    eps,
    N,
    SLOPED: tl.constexpr,
    PASSED: tl.constexpr,
    C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(N / BLOCK_P))."""
    first = tl.program_id(0).to(tl.int64) * BLOCK_P
    p = tl.arange(0, BLOCK_P)
    c = tl.arange(0, BLOCK_C)
    mean, rstd, weight, bias = channel_terms(statistics_ptr, weight_ptr, bias_ptr, c, eps, C)
    slope = weight
    if SLOPED:
        slope = tl.load(slope_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    total = 1.0 * N
    m1 = tl.load(sums_ptr + c, mask=c < C, other=0.0) / total
    m2 = tl.load(sums_ptr + C + c, mask=c < C, other=0.0) / total
    inside = (p < N - first)[:, None] & (c < C)[None, :]
    local = p[:, None] * C + c[None, :]
    x = tl.load(x_ptr + first * C + local, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + first * C + local, mask=inside, other=0.0).to(tl.float32)
    dz, xhat, _ = gradient_terms(x, dy, slope, mean, rstd, weight, bias, SLOPED)
    dx = (weight * rstd)[None, :] * (dz - m1[None, :] - xhat * m2[None, :])
    if PASSED:
        dx += tl.load(passed_ptr + first * C + local, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx_ptr + first * C + local, dx.to(dx_ptr.dtype.element_ty), mask=inside)

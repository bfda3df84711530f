# mypy: ignore-errors
"""Triton: the forward pass of batch normalisation with PReLU over x as [N, C] rows, N = B * H * W.

Three kernels: mean and M2 of a chunk of rows; their merge, which updates the running statistics too; the values. No
atomics: each number has one writer and a fixed order of summation. Places are 64-bit up to a tile's first row and
32-bit inside: with 64 bits for each element the kernels spilled on sm_120.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def batch_moments_kernel(
    x_ptr,  # [N, C]
    partial_ptr,  # [CHUNKS, 2, C] fp32: mean and M2 of a chunk
    N,
    CHUNK,  # rows of a program, a multiple of BLOCK_P
    C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (chunks). Deviations are from the chunk's first row: a mean far from zero costs no digits."""
    first = tl.program_id(0).to(tl.int64) * CHUNK
    c = tl.arange(0, BLOCK_C)
    p = tl.arange(0, BLOCK_P)
    count = tl.minimum(N - first, CHUNK).to(tl.float32)
    local = p[:, None] * C + c[None, :]
    near = tl.load(x_ptr + first * C + c, mask=c < C, other=0.0).to(tl.float32)
    sum1 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    sum2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in tl.range(0, CHUNK, BLOCK_P):
        inside = (p < N - first - start)[:, None] & (c < C)[None, :]
        x = tl.load(x_ptr + (first + start) * C + local, mask=inside, other=0.0).to(tl.float32)
        deviation = tl.where(inside, x - near[None, :], 0.0)
        sum1 += deviation
        sum2 += deviation * deviation
    offset = tl.sum(sum1, 0) / count
    m2 = tl.maximum(tl.sum(sum2, 0) - offset * offset * count, 0.0)
    target = partial_ptr + tl.program_id(0) * (2 * C) + c
    tl.store(target, near + offset, mask=c < C)
    tl.store(target + C, m2, mask=c < C)


@triton.jit
def batch_merge_kernel(
    partial_ptr,  # [CHUNKS, 2, C] fp32
    statistics_ptr,  # [2, C] fp32: mean and biased variance
    running_mean_ptr,  # [C], changed
    running_var_ptr,  # [C], changed
    count_ptr,  # int64 [], changed
    momentum,
    N,
    CHUNK,
    CHUNKS,
    C: tl.constexpr,
    BLOCK_N: tl.constexpr,  # power of two >= CHUNKS
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(C / BLOCK_C)). All chunks of a few channels in registers: two loads that do not wait in turn."""
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.arange(0, BLOCK_N)
    known = (n < CHUNKS)[:, None] & (c < C)[None, :]
    rows = tl.where(n < CHUNKS, tl.minimum(N - n.to(tl.int64) * CHUNK, CHUNK), 0).to(tl.float32)
    source = partial_ptr + n[:, None] * (2 * C) + c[None, :]
    means = tl.load(source, mask=known, other=0.0)
    m2 = tl.load(source + C, mask=known, other=0.0)
    near = tl.load(partial_ptr + c, mask=c < C, other=0.0)
    total = 1.0 * N
    offset = tl.sum(rows[:, None] * (means - near[None, :]), 0) / total
    away = means - (near + offset)[None, :]
    mean = near + offset
    variance = tl.sum(m2 + rows[:, None] * away * away, 0) / total
    tl.store(statistics_ptr + c, mean, mask=c < C)
    tl.store(statistics_ptr + C + c, variance, mask=c < C)
    unbiased = variance * (total / (total - 1.0))
    old_mean = tl.load(running_mean_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    old_var = tl.load(running_var_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    new_mean = (1.0 - momentum) * old_mean + momentum * mean
    new_var = (1.0 - momentum) * old_var + momentum * unbiased
    tl.store(running_mean_ptr + c, new_mean.to(running_mean_ptr.dtype.element_ty), mask=c < C)
    tl.store(running_var_ptr + c, new_var.to(running_var_ptr.dtype.element_ty), mask=c < C)
    if tl.program_id(0) == 0:
        tl.store(count_ptr, tl.load(count_ptr) + 1)


@triton.jit
def channel_terms(statistics_ptr, weight_ptr, bias_ptr, c, eps, C: tl.constexpr):
    """(mean, rstd, weight, bias) of channels c, fp32."""
    inside = c < C
    mean = tl.load(statistics_ptr + c, mask=inside, other=0.0)
    variance = tl.load(statistics_ptr + C + c, mask=inside, other=1.0)
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0).to(tl.float32)
    return mean, tl.rsqrt(variance + eps), weight, bias


@triton.jit
def batch_apply_kernel(
    x_ptr,  # [N, C]
    statistics_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    slope_ptr,  # [C], read where SLOPED
    residual_ptr,  # [N, C], read where ADDED
    y_ptr,  # [N, C]
    eps,
    N,
    SLOPED: tl.constexpr,
    ADDED: tl.constexpr,
    C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(N / BLOCK_P))."""
    first = tl.program_id(0).to(tl.int64) * BLOCK_P
    p = tl.arange(0, BLOCK_P)
    c = tl.arange(0, BLOCK_C)
    mean, rstd, weight, bias = channel_terms(statistics_ptr, weight_ptr, bias_ptr, c, eps, C)
    inside = (p < N - first)[:, None] & (c < C)[None, :]
    local = p[:, None] * C + c[None, :]
    x = tl.load(x_ptr + first * C + local, mask=inside, other=0.0).to(tl.float32)
    y = (x - mean[None, :]) * rstd[None, :] * weight[None, :] + bias[None, :]
    if SLOPED:
        slope = tl.load(slope_ptr + c, mask=c < C, other=0.0).to(tl.float32)
        y = tl.where(y > 0, y, y * slope[None, :])
    if ADDED:
        y += tl.load(residual_ptr + first * C + local, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + first * C + local, y.to(y_ptr.dtype.element_ty), mask=inside)

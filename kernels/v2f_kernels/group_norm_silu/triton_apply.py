# mypy: ignore-errors
"""Triton: normalise + SiLU with given statistics, and the three kernels of the backward pass.

With s = sigmoid(z), z = xhat * w + b and dz = dy * s * (1 + z * (1 - s)):
    dbias = sum dz
    dweight = sum dz * xhat
    dx = rstd * (w*dz - mean(w*dz) - xhat * mean(w*dz*xhat))
where the means run over an image's group. Sums come in two stages without atomics, as in `triton_moments`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C: tl.constexpr, CPG: tl.constexpr):
    """(mean, rstd, weight, bias) of channels c for one image, fp32."""
    inside = c < C
    moments = statistics_ptr + image * (C // CPG * 2) + c // CPG * 2
    mean = tl.load(moments, mask=inside, other=0.0)
    variance = tl.load(moments + 1, mask=inside, other=1.0)
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0).to(tl.float32)
    return mean, tl.rsqrt(variance + eps), weight, bias


@triton.jit
def apply_kernel(
    x_ptr,  # [B, HW, C]
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    shift_ptr,  # [C]
    y_ptr,  # [B, HW, C]: of x + shift
    eps,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(HW / BLOCK_P), B)."""
    row = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    mean, rstd, weight, bias = _channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C, CPG)
    if HAS_SHIFT:
        mean -= tl.load(shift_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    inside = (row < HW)[:, None] & (c < C)[None, :]
    place = image * (HW * C) + row[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    z = (x - mean[None, :]) * (rstd * weight)[None, :] + bias[None, :]
    y = z / (1.0 + tl.exp(-z))
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_at_z(x, dy, mean, rstd, weight, bias):
    """(dz, xhat) for tiles x, dy [P, C] fp32 and channel vectors [C]."""
    xhat = (x - mean[None, :]) * rstd[None, :]
    z = xhat * weight[None, :] + bias[None, :]
    s = 1.0 / (1.0 + tl.exp(-z))
    return dy * s * (1.0 + z * (1.0 - s)), xhat


@triton.jit
def backward_sums_kernel(
    x_ptr,  # [B, HW, C]
    dy_ptr,  # [B, HW, C]
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    partial_ptr,  # [B, CHUNKS, 2, C] fp32: sum dz, sum dz * xhat
    eps,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (chunks, B)."""
    chunk = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    p = tl.arange(0, BLOCK_P)
    mean, rstd, weight, bias = _channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C, CPG)
    sum1 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    sum2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in tl.range(0, CHUNK, BLOCK_P):
        row = chunk * CHUNK + start + p
        inside = (row < HW)[:, None] & (c < C)[None, :]
        place = image * (HW * C) + row[:, None] * C + c[None, :]
        x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dz, xhat = _gradient_at_z(x, dy, mean, rstd, weight, bias)
        sum1 += dz
        sum2 += dz * xhat
    target = partial_ptr + (image * tl.num_programs(0) + chunk) * (2 * C) + c
    tl.store(target, tl.sum(sum1, 0), mask=c < C)
    tl.store(target + C, tl.sum(sum2, 0), mask=c < C)


@triton.jit
def backward_merge_kernel(
    partial_ptr,  # [B, CHUNKS, 2, C] fp32
    weight_ptr,  # [C]
    sums_ptr,  # [B, 2, C] fp32: this image's share of dbias and dweight
    means_ptr,  # [B, G, 2] fp32: mean(w*dz), mean(w*dz*xhat)
    HW: tl.constexpr,
    CHUNKS: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    """Grid (G, B)."""
    group = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK_G)
    n = tl.arange(0, BLOCK_N)
    source = partial_ptr + image * (CHUNKS * 2 * C) + group * CPG + lane[None, :]
    tile1 = tl.zeros((BLOCK_N, BLOCK_G), tl.float32)
    tile2 = tl.zeros((BLOCK_N, BLOCK_G), tl.float32)
    for start in tl.range(0, CHUNKS, BLOCK_N):
        row = start + n
        inside = (row < CHUNKS)[:, None] & (lane < CPG)[None, :]
        tile1 += tl.load(source + row[:, None] * (2 * C), mask=inside, other=0.0)
        tile2 += tl.load(source + row[:, None] * (2 * C) + C, mask=inside, other=0.0)
    sum1 = tl.sum(tile1, 0)
    sum2 = tl.sum(tile2, 0)
    weight = tl.load(weight_ptr + group * CPG + lane, mask=lane < CPG, other=0.0).to(tl.float32)
    target = sums_ptr + image * (2 * C) + group * CPG + lane
    tl.store(target, sum1, mask=lane < CPG)
    tl.store(target + C, sum2, mask=lane < CPG)
    means = means_ptr + (image * tl.num_programs(0) + group) * 2
    tl.store(means, tl.sum(sum1 * weight, 0) / (HW * CPG))
    tl.store(means + 1, tl.sum(sum2 * weight, 0) / (HW * CPG))


@triton.jit
def backward_apply_kernel(
    x_ptr,  # [B, HW, C]
    dy_ptr,  # [B, HW, C]
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    means_ptr,  # [B, G, 2] fp32
    beside_ptr,  # [B, HW, C]: the gradient of what else read x
    dx_ptr,  # [B, HW, C]
    eps,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    HAS_BESIDE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(HW / BLOCK_P), B)."""
    row = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    mean, rstd, weight, bias = _channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C, CPG)
    means = means_ptr + image * (C // CPG * 2) + c // CPG * 2
    mean1 = tl.load(means, mask=c < C, other=0.0)
    mean2 = tl.load(means + 1, mask=c < C, other=0.0)
    inside = (row < HW)[:, None] & (c < C)[None, :]
    place = image * (HW * C) + row[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
    dz, xhat = _gradient_at_z(x, dy, mean, rstd, weight, bias)
    dx = rstd[None, :] * (weight[None, :] * dz - mean1[None, :] - xhat * mean2[None, :])
    if HAS_BESIDE:
        dx += tl.load(beside_ptr + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx_ptr + place, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def single_pass_kernel(
    x_ptr,  # [B, HW, C]
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    shift_ptr,  # [C]
    y_ptr,  # [B, HW, C]: of x + shift
    statistics_ptr,  # [B, G, 2] fp32
    eps,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    BLOCK_P: tl.constexpr,  # power of two >= HW
    SLAB: tl.constexpr,  # groups per program
    BLOCK_G: tl.constexpr,  # power of two >= CPG
):
    """Grid (ceil(G / SLAB), B): whole groups of a small image in registers; one read, one write."""
    image = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, BLOCK_P)
    group = tl.program_id(0) * SLAB + tl.arange(0, SLAB)
    lane = tl.arange(0, BLOCK_G)
    c = group[:, None] * CPG + lane[None, :]
    known = (lane < CPG)[None, :] & (group < C // CPG)[:, None]
    inside = (row < HW)[:, None, None] & known[None, :, :]
    place = image * (HW * C) + row[:, None, None] * C + c[None, :, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    if HAS_SHIFT:
        shift = tl.load(shift_ptr + c, mask=known, other=0.0).to(tl.float32)
        x = tl.where(inside, x + shift[None, :, :], 0.0)
    mean = tl.sum(tl.sum(x, 0), 1) / (HW * CPG)
    away = tl.where(inside, x - mean[None, :, None], 0.0)
    variance = tl.sum(tl.sum(away * away, 0), 1) / (HW * CPG)
    weight = tl.load(weight_ptr + c, mask=known, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=known, other=0.0).to(tl.float32)
    z = away * (tl.rsqrt(variance + eps)[:, None] * weight)[None, :, :] + bias[None, :, :]
    y = z / (1.0 + tl.exp(-z))
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)
    moments = statistics_ptr + image * (C // CPG * 2) + group * 2
    tl.store(moments, mean, mask=group < C // CPG)
    tl.store(moments + 1, variance, mask=group < C // CPG)

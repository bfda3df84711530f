# mypy: ignore-errors
"""Triton: moments of u = leaky(x + shift), and what is made of them; the algorithms are those of `group_norm_silu`.

Large images take three kernels: a chunk's mean and M2 per channel (here), their merge (`triton_moments` there), then
the norm. Small ones are read once: whole groups of an image in registers. No atomics: each number has one writer and a
fixed order of summation.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def leaky(v, SLOPE: tl.constexpr):
    """v above zero, SLOPE * v elsewhere; 1 for v itself."""
    if SLOPE != 1.0:
        v = tl.where(v > 0, v, v * SLOPE)
    return v


@triton.jit
def channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C: tl.constexpr, CPG: tl.constexpr):
    """(mean, rstd, weight, bias) of channels c for one image, fp32."""
    inside = c < C
    moments = statistics_ptr + image * (C // CPG * 2) + c // CPG * 2
    mean = tl.load(moments, mask=inside, other=0.0)
    variance = tl.load(moments + 1, mask=inside, other=1.0)
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0).to(tl.float32)
    return mean, tl.rsqrt(variance + eps), weight, bias


@triton.jit
def shift_of(shift_ptr, c, inside, SHIFTED: tl.constexpr):
    """The shift of channels c, fp32; 0 without one, whose pointer is then not read."""
    if SHIFTED:
        shift = tl.load(shift_ptr + c, mask=inside, other=0.0).to(tl.float32)
    else:
        shift = tl.zeros(c.shape, tl.float32)
    return shift


@triton.jit
def activated_moments_kernel(
    x_ptr,  # [B, HW, C]
    shift_ptr,  # [C], read where SHIFTED
    partial_ptr,  # [B, CHUNKS, 2, C] fp32: mean and M2 of u
    SHIFTED: tl.constexpr,
    BEFORE: tl.constexpr,
    HW: tl.constexpr,
    C: tl.constexpr,
    CHUNK: tl.constexpr,  # pixels per program, a multiple of BLOCK_P
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (chunks, B). Deviations are from the chunk's first pixel, for the reason given in `triton_moments`."""
    chunk = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    p = tl.arange(0, BLOCK_P)
    shift = shift_of(shift_ptr, c, c < C, SHIFTED)
    source = x_ptr + image * (HW * C)
    first = chunk * CHUNK
    count = tl.minimum(HW - first, CHUNK).to(tl.float32)
    near = leaky(tl.load(source + first * C + c, mask=c < C, other=0.0).to(tl.float32) + shift, BEFORE)
    sum1 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    sum2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in tl.range(0, CHUNK, BLOCK_P):
        row = first + start + p
        inside = (row < HW)[:, None] & (c < C)[None, :]
        x = tl.load(source + row[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
        u = leaky(x + shift[None, :], BEFORE)
        deviation = tl.where(inside, u - near[None, :], 0.0)
        sum1 += deviation
        sum2 += deviation * deviation
    offset = tl.sum(sum1, 0) / count
    m2 = tl.maximum(tl.sum(sum2, 0) - offset * offset * count, 0.0)
    target = partial_ptr + (image * tl.num_programs(0) + chunk) * (2 * C) + c
    tl.store(target, near + offset, mask=c < C)
    tl.store(target + C, m2, mask=c < C)


@triton.jit
def activated_apply_kernel(
    x_ptr,  # [B, HW, C]
    shift_ptr,  # [C]
    statistics_ptr,  # [B, G, 2] fp32: mean and biased variance of u
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    y_ptr,  # [B, HW, C]
    eps,
    SHIFTED: tl.constexpr,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
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
    mean, rstd, weight, bias = channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C, CPG)
    shift = shift_of(shift_ptr, c, c < C, SHIFTED)
    inside = (row < HW)[:, None] & (c < C)[None, :]
    place = image * (HW * C) + row[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    u = leaky(x + shift[None, :], BEFORE)
    z = (u - mean[None, :]) * rstd[None, :] * weight[None, :] + bias[None, :]
    tl.store(y_ptr + place, leaky(z, AFTER).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def activated_single_pass_kernel(
    x_ptr,  # [B, HW, C]
    shift_ptr,  # [C]
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    y_ptr,  # [B, HW, C]
    statistics_ptr,  # [B, G, 2] fp32: mean and biased variance of u
    eps,
    SHIFTED: tl.constexpr,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    BLOCK_P: tl.constexpr,  # power of two >= HW
    BLOCK_G: tl.constexpr,  # power of two >= CPG
):
    """Grid (G, B): a group of a small image in registers; one read, one write."""
    group = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, BLOCK_P)
    lane = tl.arange(0, BLOCK_G)
    c = group * CPG + lane
    inside = (row < HW)[:, None] & (lane < CPG)[None, :]
    place = image * (HW * C) + row[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    shift = shift_of(shift_ptr, c, lane < CPG, SHIFTED)
    u = tl.where(inside, leaky(x + shift[None, :], BEFORE), 0.0)
    mean = tl.sum(tl.sum(u, 0), 0) / (HW * CPG)
    away = tl.where(inside, u - mean, 0.0)
    variance = tl.sum(tl.sum(away * away, 0), 0) / (HW * CPG)
    weight = tl.load(weight_ptr + c, mask=lane < CPG, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=lane < CPG, other=0.0).to(tl.float32)
    z = away * tl.rsqrt(variance + eps) * weight[None, :] + bias[None, :]
    tl.store(y_ptr + place, leaky(z, AFTER).to(y_ptr.dtype.element_ty), mask=inside)
    moments = statistics_ptr + (image * tl.num_programs(0) + group) * 2
    tl.store(moments, mean)
    tl.store(moments + 1, variance)

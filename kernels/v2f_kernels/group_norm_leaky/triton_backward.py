# mypy: ignore-errors
"""Triton: the backward pass of GroupNorm between leaky ReLUs.

With v = x + shift, s the slope of leaky at v, z = xhat * w + b and dz = dy times the slope at z:
    dbias = sum dz
    dweight = sum dz * xhat
    dx = s * rstd * (w*dz - m1 - xhat*m2), m1 = mean(w*dz), m2 = mean(w*dz*xhat) over an image's group
    dshift = sum dx = rstd * (w * sum s*dz - m1 * sum s - m2 * sum s*xhat)
so dshift comes out of sums of the same pass, and no kernel reads dx again. Large images take two passes over (x, dy);
of a small one a program owns a whole group and finds it in a cache when it reads it for the second time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.group_norm_leaky.triton_forward import channel_terms, leaky, shift_of


@triton.jit
def gradient_terms(
    x, dy, shift, mean, rstd, weight, bias, BEFORE: tl.constexpr, AFTER: tl.constexpr
):  # fmt: skip
    """(dz, xhat, s) for tiles x, dy [P, C] fp32 and channel vectors [C]."""
    v = x + shift[None, :]
    xhat = (leaky(v, BEFORE) - mean[None, :]) * rstd[None, :]
    dz = dy
    if AFTER != 1.0:
        z = xhat * weight[None, :] + bias[None, :]
        dz = tl.where(z > 0, dy, dy * AFTER)
    slope = tl.where(v > 0, 1.0, BEFORE)
    return dz, xhat, slope


@triton.jit
def backward_sums_kernel(
    x_ptr,  # [B, HW, C]
    dy_ptr,  # [B, HW, C]
    shift_ptr,  # [C]
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    partial_ptr,  # [B, CHUNKS, 2 or 5, C] fp32: sums of dz, dz*xhat and, where SHIFTED, s*dz, s, s*xhat
    eps,
    SHIFTED: tl.constexpr,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (chunks, B)."""
    SUMS: tl.constexpr = 5 if SHIFTED else 2
    chunk = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    p = tl.arange(0, BLOCK_P)
    mean, rstd, weight, bias = channel_terms(statistics_ptr, weight_ptr, bias_ptr, image, c, eps, C, CPG)
    shift = shift_of(shift_ptr, c, c < C, SHIFTED)
    sum1 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    sum2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    if SHIFTED:
        sum3 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
        sum4 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
        sum5 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in tl.range(0, CHUNK, BLOCK_P):
        row = chunk * CHUNK + start + p
        inside = (row < HW)[:, None] & (c < C)[None, :]
        place = image * (HW * C) + row[:, None] * C + c[None, :]
        x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dz, xhat, slope = gradient_terms(x, dy, shift, mean, rstd, weight, bias, BEFORE, AFTER)
        sum1 += dz  # dy is 0 outside, and with it dz
        sum2 += dz * xhat
        if SHIFTED:
            slope = tl.where(inside, slope, 0.0)
            sum3 += slope * dz
            sum4 += slope
            sum5 += slope * xhat
    target = partial_ptr + (image * tl.num_programs(0) + chunk) * (SUMS * C) + c
    tl.store(target, tl.sum(sum1, 0), mask=c < C)
    tl.store(target + C, tl.sum(sum2, 0), mask=c < C)
    if SHIFTED:
        tl.store(target + 2 * C, tl.sum(sum3, 0), mask=c < C)
        tl.store(target + 3 * C, tl.sum(sum4, 0), mask=c < C)
        tl.store(target + 4 * C, tl.sum(sum5, 0), mask=c < C)


@triton.jit
def rows_sum(
    source, CHUNKS: tl.constexpr, STRIDE: tl.constexpr, known, BLOCK_N: tl.constexpr, BLOCK_G: tl.constexpr
):
    """Sums over CHUNKS rows of STRIDE elements at pointers `source` [BLOCK_G], those `known`."""
    n = tl.arange(0, BLOCK_N)
    tile = tl.zeros((BLOCK_N, BLOCK_G), tl.float32)
    for start in tl.range(0, CHUNKS, BLOCK_N):
        row = start + n
        inside = (row < CHUNKS)[:, None] & known[None, :]
        tile += tl.load(source[None, :] + row[:, None] * STRIDE, mask=inside, other=0.0)
    return tl.sum(tile, 0)


@triton.jit
def backward_merge_kernel(
    partial_ptr,  # [B, CHUNKS, 2 or 5, C] fp32
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    sums_ptr,  # [B, 2 or 3, C] fp32: this image's share of dbias, dweight and, where SHIFTED, dshift
    means_ptr,  # [B, G, 2] fp32: m1, m2
    eps,
    SHIFTED: tl.constexpr,
    HW: tl.constexpr,
    CHUNKS: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    """Grid (G, B)."""
    SUMS: tl.constexpr = 5 if SHIFTED else 2
    OUT: tl.constexpr = 3 if SHIFTED else 2
    group = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK_G)
    known = lane < CPG
    source = partial_ptr + image * (CHUNKS * SUMS * C) + group * CPG + lane
    sum1 = rows_sum(source, CHUNKS, SUMS * C, known, BLOCK_N, BLOCK_G)
    sum2 = rows_sum(source + C, CHUNKS, SUMS * C, known, BLOCK_N, BLOCK_G)
    weight = tl.load(weight_ptr + group * CPG + lane, mask=known, other=0.0).to(tl.float32)
    m1 = tl.sum(sum1 * weight, 0) / (HW * CPG)
    m2 = tl.sum(sum2 * weight, 0) / (HW * CPG)
    target = sums_ptr + image * (OUT * C) + group * CPG + lane
    tl.store(target, sum1, mask=known)
    tl.store(target + C, sum2, mask=known)
    place = (image * tl.num_programs(0) + group) * 2
    tl.store(means_ptr + place, m1)
    tl.store(means_ptr + place + 1, m2)
    if SHIFTED:
        sum3 = rows_sum(source + 2 * C, CHUNKS, SUMS * C, known, BLOCK_N, BLOCK_G)
        sum4 = rows_sum(source + 3 * C, CHUNKS, SUMS * C, known, BLOCK_N, BLOCK_G)
        sum5 = rows_sum(source + 4 * C, CHUNKS, SUMS * C, known, BLOCK_N, BLOCK_G)
        rstd = tl.rsqrt(tl.load(statistics_ptr + place + 1) + eps)
        tl.store(target + 2 * C, rstd * (weight * sum3 - m1 * sum4 - m2 * sum5), mask=known)


@triton.jit
def backward_apply_kernel(
    x_ptr,  # [B, HW, C]
    dy_ptr,  # [B, HW, C]
    shift_ptr,  # [C]
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    means_ptr,  # [B, G, 2] fp32
    dx_ptr,  # [B, HW, C]
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
    means = means_ptr + image * (C // CPG * 2) + c // CPG * 2
    m1 = tl.load(means, mask=c < C, other=0.0)
    m2 = tl.load(means + 1, mask=c < C, other=0.0)
    inside = (row < HW)[:, None] & (c < C)[None, :]
    place = image * (HW * C) + row[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
    dz, xhat, slope = gradient_terms(x, dy, shift, mean, rstd, weight, bias, BEFORE, AFTER)
    dx = slope * rstd[None, :] * (weight[None, :] * dz - m1[None, :] - xhat * m2[None, :])
    tl.store(dx_ptr + place, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def backward_group_kernel(
    x_ptr,  # [B, HW, C]
    dy_ptr,  # [B, HW, C]
    shift_ptr,  # [C]
    statistics_ptr,  # [B, G, 2] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    sums_ptr,  # [B, 2 or 3, C] fp32
    dx_ptr,  # [B, HW, C]
    eps,
    SHIFTED: tl.constexpr,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_G: tl.constexpr,  # power of two >= CPG
):
    """Grid (G, B): a group of a small image, read twice by the program that owns it."""
    OUT: tl.constexpr = 3 if SHIFTED else 2
    group = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK_G)
    p = tl.arange(0, BLOCK_P)
    known = lane < CPG
    c = group * CPG + lane
    c_or_beyond = tl.where(known, c, C)
    mean, rstd, weight, bias = channel_terms(
        statistics_ptr, weight_ptr, bias_ptr, image, c_or_beyond, eps, C, CPG
    )
    shift = shift_of(shift_ptr, c, known, SHIFTED)
    sum1 = tl.zeros((BLOCK_P, BLOCK_G), tl.float32)
    sum2 = tl.zeros((BLOCK_P, BLOCK_G), tl.float32)
    if SHIFTED:
        sum3 = tl.zeros((BLOCK_P, BLOCK_G), tl.float32)
        sum4 = tl.zeros((BLOCK_P, BLOCK_G), tl.float32)
        sum5 = tl.zeros((BLOCK_P, BLOCK_G), tl.float32)
    for start in tl.range(0, HW, BLOCK_P):
        row = start + p
        inside = (row < HW)[:, None] & known[None, :]
        place = image * (HW * C) + row[:, None] * C + c[None, :]
        x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dz, xhat, slope = gradient_terms(x, dy, shift, mean, rstd, weight, bias, BEFORE, AFTER)
        sum1 += dz
        sum2 += dz * xhat
        if SHIFTED:
            slope = tl.where(inside, slope, 0.0)
            sum3 += slope * dz
            sum4 += slope
            sum5 += slope * xhat
    total1 = tl.sum(sum1, 0)
    total2 = tl.sum(sum2, 0)
    m1 = tl.sum(total1 * weight, 0) / (HW * CPG)
    m2 = tl.sum(total2 * weight, 0) / (HW * CPG)
    target = sums_ptr + image * (OUT * C) + c
    tl.store(target, total1, mask=known)
    tl.store(target + C, total2, mask=known)
    if SHIFTED:
        gathered = weight * tl.sum(sum3, 0) - m1 * tl.sum(sum4, 0) - m2 * tl.sum(sum5, 0)
        tl.store(target + 2 * C, rstd * gathered, mask=known)
    for start in tl.range(0, HW, BLOCK_P):
        row = start + p
        inside = (row < HW)[:, None] & known[None, :]
        place = image * (HW * C) + row[:, None] * C + c[None, :]
        x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
        dz, xhat, slope = gradient_terms(x, dy, shift, mean, rstd, weight, bias, BEFORE, AFTER)
        dx = slope * rstd[None, :] * (weight[None, :] * dz - m1 - xhat * m2)
        tl.store(dx_ptr + place, dx.to(dx_ptr.dtype.element_ty), mask=inside)

# mypy: ignore-errors
"""Triton: GroupNorm+SiLU in one launch, for images whose groups stay in the caches of an SM between two looks.

A program owns whole groups of one image. It walks over their pixels twice: the first time for sums around the first
pixel, as `triton_moments`, the second time, from L1 or L2, to normalise and write. Memory is read once and written
once. Unlike `single_pass_kernel` it holds no image in registers: a third of the registers, so that several programs
share an SM and one loads while another waits for its sums.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.group_norm_silu.triton_moments import add_deviations, deep_rows, first_rows


@triton.jit
def resident_kernel(
    x_ptr,  # [B, HW, C]
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    y_ptr,  # [B, HW, C]
    statistics_ptr,  # [B, G, 2] fp32
    eps,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    DEPTH: tl.constexpr,  # tiles read at once
    BLOCK_P: tl.constexpr,
    SLAB: tl.constexpr,  # groups per program
    BLOCK_G: tl.constexpr,  # power of two >= CPG
):
    """Grid (ceil(G / SLAB), B)."""
    image = tl.program_id(1).to(tl.int64)
    slab = tl.program_id(0) * SLAB
    j = tl.arange(0, SLAB * BLOCK_G)
    if CPG == BLOCK_G:
        c = (
            slab * CPG + j
        )  # what follows says the same, and the compiler would not see that channels lie side by side
        known = c < C
    else:
        c = (slab + j // BLOCK_G) * CPG + j % BLOCK_G
        known = (j % BLOCK_G < CPG) & (c < C)
    place = image * (HW * C) + c[None, None, :]
    inside = known[None, None, :]
    shift = tl.load(x_ptr + place + first_rows(0, BLOCK_P) * C, mask=inside, other=0.0).to(tl.float32)
    sum1 = tl.zeros((BLOCK_P, SLAB * BLOCK_G), tl.float32)
    sum2 = tl.zeros((BLOCK_P, SLAB * BLOCK_G), tl.float32)
    for start in tl.range(0, HW, DEPTH * BLOCK_P):
        row = deep_rows(start, DEPTH, BLOCK_P)
        x = tl.load(x_ptr + place + row * C, mask=(row < HW) & inside, other=0.0).to(tl.float32)
        sum1, sum2 = add_deviations(x, (row < HW) & inside, shift, sum1, sum2)
    # The same number in each of BLOCK_P rows, a power of two: their mean is exact.
    around = tl.sum(tl.reshape(shift, sum1.shape), 0) / BLOCK_P
    offset = tl.sum(sum1, 0) / HW
    m2 = tl.maximum(tl.sum(sum2, 0) - offset * offset * HW, 0.0)
    mean, rstd = _of_groups(
        around + offset, m2, known, statistics_ptr, image, slab, eps, HW, C, CPG, SLAB, BLOCK_G
    )
    weight = tl.load(weight_ptr + c, mask=known, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=known, other=0.0).to(tl.float32)
    scale = (rstd * weight)[None, None, :]
    mean = mean[None, None, :]
    bias = bias[None, None, :]
    for start in tl.range(0, HW, DEPTH * BLOCK_P):
        row = deep_rows(start, DEPTH, BLOCK_P)
        x = tl.load(x_ptr + place + row * C, mask=(row < HW) & inside, other=0.0).to(tl.float32)
        z = (x - mean) * scale + bias
        y = z / (1.0 + tl.exp(-z))
        tl.store(y_ptr + place + row * C, y.to(y_ptr.dtype.element_ty), mask=(row < HW) & inside)


@triton.jit
def _of_groups(
    mean,  # [SLAB * BLOCK_G] of channels
    m2,
    known,
    statistics_ptr,
    image,
    slab,
    eps,
    HW: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,
    SLAB: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    """(mean, rstd) [SLAB * BLOCK_G] of every channel's group; written to the image's statistics."""
    inside = tl.reshape(known, (SLAB, BLOCK_G))
    of_channels = tl.where(inside, tl.reshape(mean, (SLAB, BLOCK_G)), 0.0)
    # Around the group's first channel, so that what is rounded is a difference.
    near = tl.sum(tl.where((tl.arange(0, BLOCK_G) == 0)[None, :], of_channels, 0.0), 1)
    centre = near + tl.sum(tl.where(inside, of_channels - near[:, None], 0.0), 1) / CPG
    away = tl.where(inside, of_channels - centre[:, None], 0.0)
    within = tl.where(inside, tl.reshape(m2, (SLAB, BLOCK_G)), 0.0)
    variance = tl.sum(within + away * away * HW, 1) / (HW * CPG)
    group = slab + tl.arange(0, SLAB)
    moments = statistics_ptr + image * (C // CPG * 2) + group * 2
    tl.store(moments, centre, mask=group < C // CPG)
    tl.store(moments + 1, variance, mask=group < C // CPG)
    rstd = tl.rsqrt(variance + eps)
    one = tl.full((SLAB, BLOCK_G), 1.0, tl.float32)
    flat: tl.constexpr = SLAB * BLOCK_G
    return tl.reshape(centre[:, None] * one, (flat,)), tl.reshape(rstd[:, None] * one, (flat,))

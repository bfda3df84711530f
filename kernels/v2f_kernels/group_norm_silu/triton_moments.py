# mypy: ignore-errors
"""Triton: mean and variance per image and group in two deterministic stages.

Stage one writes, per chunk of pixels and per channel, the chunk's mean and M2 (sum of squared deviations).
Stage two merges them into (mean, biased variance) per group by Chan, Golub and LeVeque's formula. No
atomics: each number has one writer and a fixed order of summation.

Stage one sums deviations from the chunk's first pixel rather than from zero, with one reduction across
threads at its end. The first pixel belongs to the chunk, so it lies within sqrt(n) standard deviations of
the mean of its n pixels: the subtraction in M2 = s2 - s1^2/n loses at most a factor n (256: 8 of 24 bits)
whatever the data, and almost nothing on real activations. Sums around zero would lose (mean/std)^2 without
bound.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def moments_kernel(
    x_ptr,  # [B, HW, C]
    partial_ptr,  # [B, CHUNKS, 2, C] fp32: mean, M2
    HW: tl.constexpr,
    C: tl.constexpr,
    CHUNK: tl.constexpr,  # pixels per program
    DEPTH: tl.constexpr,  # tiles read at once
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (chunks, B): one chunk's mean and M2 per channel."""
    chunk = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    source = x_ptr + image * (HW * C)
    first = chunk * CHUNK
    end = tl.minimum(first + CHUNK, HW)
    deep_c = c[None, None, :]
    shift = tl.load(source + first_rows(first, BLOCK_P) * C + deep_c, mask=deep_c < C, other=0.0).to(
        tl.float32
    )
    sum1 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    sum2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in tl.range(0, CHUNK, DEPTH * BLOCK_P):
        row = deep_rows(first + start, DEPTH, BLOCK_P)
        inside = (row < end) & (deep_c < C)
        x = tl.load(source + row * C + deep_c, mask=inside, other=0.0).to(tl.float32)
        sum1, sum2 = add_deviations(x, inside, shift, sum1, sum2)
    target = partial_ptr + (image * tl.num_programs(0) + chunk) * (2 * C)
    store_sums(sum1, sum2, shift, (end - first).to(tl.float32), target, c, C)


@triton.jit
def deep_rows(start, DEPTH: tl.constexpr, BLOCK_P: tl.constexpr):
    """Pixels [BLOCK_P, DEPTH, 1] from `start` on: a thread holds one of each of the DEPTH tiles, so that as many
    16-byte loads of its own are under way before it waits for the first. As the first axis the tiles would be spread
    over threads: 255 registers and sums through shared memory."""
    depth = tl.arange(0, DEPTH)
    p = tl.arange(0, BLOCK_P)
    return start + depth[None, :, None] * BLOCK_P + p[:, None, None]


@triton.jit
def first_rows(first, BLOCK_P: tl.constexpr):
    """Pixel `first`, [BLOCK_P, 1, 1]: every row of threads reads it in the layout of the tiles, instead of one that is
    carried to the others through shared memory."""
    return first + tl.arange(0, BLOCK_P)[:, None, None] * 0


@triton.jit
def add_deviations(x, inside, shift, sum1, sum2):
    """Sums [P, C] with those of a tile x [P, DEPTH, C] fp32 and its square, around shift [P, 1, C]; a thread adds up
    its own DEPTH values, so the sums in registers are one tile's."""
    deviation = tl.where(inside, x - shift, 0.0)
    return sum1 + tl.sum(deviation, 1), sum2 + tl.sum(deviation * deviation, 1)


@triton.jit
def store_sums(sum1, sum2, shift, count, target, c, C: tl.constexpr):
    """Mean and M2 per channel of `count` pixels -> target [2, C], from their sums [P, C] around shift [P, 1, C], which
    is the same in every row: P, a power of two, times a number has its digits, so the mean of them is that number."""
    around = tl.sum(tl.reshape(shift, sum1.shape), 0) / sum1.shape[0]
    offset = tl.sum(sum1, 0) / count
    m2 = tl.maximum(tl.sum(sum2, 0) - offset * offset * count, 0.0)
    tl.store(target + c, around + offset, mask=c < C)
    tl.store(target + C + c, m2, mask=c < C)


@triton.jit
def merge_moments_kernel(
    partial_ptr,  # [B, CHUNKS, 2, C] fp32: mean, M2
    shift_ptr,  # [C]
    statistics_ptr,  # [B, G, 2] fp32: mean, biased variance; of what was summed + shift
    HW: tl.constexpr,  # pixels that PERIOD chunks cover
    CHUNK: tl.constexpr,  # pixels per chunk; the last of each PERIOD may be shorter
    PERIOD: tl.constexpr,  # chunks per covering: CHUNKS, or CHUNKS / 4 for the four phases of an upsampling
    CHUNKS: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,  # channels per group
    HAS_SHIFT: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,  # power of two >= CPG
):
    """Grid (G, B): merges one group's chunks, reading them twice (they are in L1 by then)."""
    group = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK_G)
    n = tl.arange(0, BLOCK_N)
    source = partial_ptr + image * (CHUNKS * 2 * C) + group * CPG + lane[None, :]
    total = (CHUNKS // PERIOD) * HW * CPG
    # The first chunk's mean: a weighted sum of differences from it rounds less than one of means.
    near = tl.load(partial_ptr + image * (CHUNKS * 2 * C) + group * CPG)
    # A channel's shift moves its mean and leaves its M2.
    shift = tl.zeros((BLOCK_G,), tl.float32)
    if HAS_SHIFT:
        shift = tl.load(shift_ptr + group * CPG + lane, mask=lane < CPG, other=0.0).to(tl.float32)
    mean_sum = tl.zeros((BLOCK_N, BLOCK_G), tl.float32)
    for start in tl.range(0, CHUNKS, BLOCK_N):
        row = start + n
        count = tl.minimum(HW - (row % PERIOD) * CHUNK, CHUNK).to(tl.float32)
        inside = (row < CHUNKS)[:, None] & (lane < CPG)[None, :]
        mean = tl.load(source + row[:, None] * (2 * C), mask=inside, other=0.0)
        mean_sum += tl.where(inside, mean - near + shift[None, :], 0.0) * count[:, None]
    centre = near + tl.sum(tl.sum(mean_sum, 1), 0) / total
    m2_sum = tl.zeros((BLOCK_N, BLOCK_G), tl.float32)
    for start in tl.range(0, CHUNKS, BLOCK_N):
        row = start + n
        count = tl.minimum(HW - (row % PERIOD) * CHUNK, CHUNK).to(tl.float32)
        inside = (row < CHUNKS)[:, None] & (lane < CPG)[None, :]
        mean = tl.load(source + row[:, None] * (2 * C), mask=inside, other=0.0)
        m2 = tl.load(source + row[:, None] * (2 * C) + C, mask=inside, other=0.0)
        away = tl.where(inside, mean - centre + shift[None, :], 0.0)
        m2_sum += m2 + away * away * count[:, None]
    variance = tl.sum(tl.sum(m2_sum, 1), 0) / total
    target = statistics_ptr + (image * tl.num_programs(0) + group) * 2
    tl.store(target, centre)
    tl.store(target + 1, variance)


@triton.jit
def store_moments(y, inside, partial_ptr, n, count, C: tl.constexpr):
    """Mean and M2 per channel of a tile y [M, N] fp32 with `count` rows inside -> partial [2, C] at
    channels n."""
    mean = tl.sum(tl.where(inside[:, None], y, 0.0), 0) / count
    away = tl.where(inside[:, None], y - mean[None, :], 0.0)
    tl.store(partial_ptr + n, mean, mask=n < C)
    tl.store(partial_ptr + C + n, tl.sum(away * away, 0), mask=n < C)


@triton.jit
def scale_shift_kernel(
    statistics_ptr,  # [B, G, 2] fp32: mean, biased variance
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    terms_ptr,  # [B, 2, C] fp32: scale, shift
    eps,
    C: tl.constexpr,
    CPG: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Grid (B): GroupNorm(x) = x * scale + shift per image and channel."""
    image = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    inside = c < C
    moments = statistics_ptr + image * (C // CPG * 2) + c // CPG * 2
    mean = tl.load(moments, mask=inside, other=0.0)
    variance = tl.load(moments + 1, mask=inside, other=1.0)
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(variance + eps) * weight
    tl.store(terms_ptr + image * (2 * C) + c, scale, mask=inside)
    tl.store(terms_ptr + image * (2 * C) + C + c, bias - mean * scale, mask=inside)

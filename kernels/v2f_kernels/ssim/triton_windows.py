# mypy: ignore-errors
"""Triton: structural similarity as two one-dimensional passes forward and two back.

Images are planes of H rows of ROW numbers; one column further is STEP numbers further. So channels-last memory is B
planes of W * C with STEP = C, and NCHW is B * C planes of W with STEP = 1, and no kernel divides. A tile's eleven
shifted loads overlap and are served by L1; between the passes stand four maps in memory (mean of left, of right, of the
sum of squares, of the product), 4 x 35 MB for 256 images and mostly in L2. Variances appear only as a sum, so the two
squares need one map. Sums are fp32 in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.ssim.checks import C1 as _C1
from v2f_kernels.ssim.checks import C2 as _C2
from v2f_kernels.ssim.checks import WINDOW as _WINDOW

WINDOW, C1, C2 = tl.constexpr(_WINDOW), tl.constexpr(_C1), tl.constexpr(_C2)


@triton.jit
def columns_kernel(
    left_ptr,  # [P, H, ROW]
    right_ptr,  # [P, H, ROW]
    sums_ptr,  # [4, P, H - 10, ROW]: left, right, left^2 + right^2, left * right, averaged down the columns
    TAPS: tl.constexpr,
    H: tl.constexpr,
    ROW: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Grid (P, ceil((H - 10) / BLOCK_H), ceil(ROW / BLOCK_W))."""
    plane = tl.program_id(0).to(tl.int64)
    y = (tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H))[:, None]
    x = (tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W))[None, :]
    inside = (y <= H - WINDOW) & (x < ROW)
    source = plane * (H * ROW) + y * ROW + x
    mean_a = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    mean_b = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    square = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    product = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    for k in tl.static_range(WINDOW):
        a = tl.load(left_ptr + source + k * ROW, mask=inside, other=0.0)
        b = tl.load(right_ptr + source + k * ROW, mask=inside, other=0.0)
        mean_a += TAPS[k] * a
        mean_b += TAPS[k] * b
        square += TAPS[k] * (a * a + b * b)
        product += TAPS[k] * (a * b)
    size = tl.num_programs(0).to(tl.int64) * ((H - WINDOW + 1) * ROW)  # of a map
    target = sums_ptr + plane * ((H - WINDOW + 1) * ROW) + y * ROW + x
    tl.store(target, mean_a, mask=inside)
    tl.store(target + size, mean_b, mask=inside)
    tl.store(target + 2 * size, square, mask=inside)
    tl.store(target + 3 * size, product, mask=inside)


@triton.jit
def rows_kernel(
    sums_ptr,  # [4, P, H - 10, ROW], of `columns_kernel`
    slopes_ptr,  # [SLOPES, P, H - 10, VALID]: dS by the averaged squares, product, left, right
    partial_ptr,  # [programs]: sum of S in each tile
    TAPS: tl.constexpr,
    H: tl.constexpr,
    ROW: tl.constexpr,
    STEP: tl.constexpr,
    SLOPES: tl.constexpr,  # 0 without gradients, 3 for those of left, 4 for both
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Grid (P, ceil((H - 10) / BLOCK_H), ceil(VALID / BLOCK_W)), VALID = ROW - 10 * STEP."""
    VALID: tl.constexpr = ROW - (WINDOW - 1) * STEP
    HEIGHT: tl.constexpr = H - WINDOW + 1
    plane = tl.program_id(0).to(tl.int64)
    y = (tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H))[:, None]
    x = (tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W))[None, :]
    inside = (y < HEIGHT) & (x < VALID)
    planes = tl.num_programs(0).to(tl.int64)
    size = planes * (HEIGHT * ROW)
    source = sums_ptr + plane * (HEIGHT * ROW) + y * ROW + x
    mean_a = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    mean_b = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    square = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    product = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    for k in tl.static_range(WINDOW):
        mean_a += TAPS[k] * tl.load(source + k * STEP, mask=inside, other=0.0)
        mean_b += TAPS[k] * tl.load(source + size + k * STEP, mask=inside, other=0.0)
        square += TAPS[k] * tl.load(source + 2 * size + k * STEP, mask=inside, other=0.0)
        product += TAPS[k] * tl.load(source + 3 * size + k * STEP, mask=inside, other=0.0)
    means = mean_a * mean_b
    energy = mean_a * mean_a + mean_b * mean_b
    by_light = 1.0 / (energy + C1)
    by_spread = 1.0 / (square - energy + C2)
    luminance = (2.0 * means + C1) * by_light
    structure = (2.0 * (product - means) + C2) * by_spread
    value = tl.where(inside, luminance * structure, 0.0)
    tile = (plane * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
    tl.store(partial_ptr + tile, tl.sum(tl.sum(value, 1), 0))
    if SLOPES > 0:
        size = planes * (HEIGHT * VALID)
        target = slopes_ptr + plane * (HEIGHT * VALID) + y * VALID + x
        tl.store(target, -luminance * structure * by_spread, mask=inside)
        tl.store(target + size, 2.0 * luminance * by_spread, mask=inside)
        light = 2.0 * structure * by_light
        spread = 2.0 * luminance * by_spread
        of_left = light * (mean_b - luminance * mean_a) + spread * (structure * mean_a - mean_b)
        tl.store(target + 2 * size, of_left, mask=inside)
        if SLOPES == 4:
            of_right = light * (mean_a - luminance * mean_b) + spread * (structure * mean_b - mean_a)
            tl.store(target + 3 * size, of_right, mask=inside)


@triton.jit
def mean_kernel(partial_ptr, mean_ptr, n, share, TILE: tl.constexpr):
    """Grid (1): the sum of `n` numbers times `share`, in a fixed order."""
    lane = tl.arange(0, TILE)
    total = tl.zeros((TILE,), tl.float32)
    for start in range(0, n, TILE):
        total += tl.load(partial_ptr + start + lane, mask=start + lane < n, other=0.0)
    tl.store(mean_ptr, tl.sum(total, 0) * share)


@triton.jit
def columns_back_kernel(
    slopes_ptr,  # [maps, P, H - 10, VALID]
    spread_ptr,  # [maps, P, H, VALID]
    TAPS: tl.constexpr,
    H: tl.constexpr,
    VALID: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Grid (maps * P, ceil(H / BLOCK_H), ceil(VALID / BLOCK_W)): what each row gave its eleven windows comes back."""
    plane = tl.program_id(0).to(tl.int64)
    y = (tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H))[:, None]
    x = (tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W))[None, :]
    source = slopes_ptr + plane * ((H - WINDOW + 1) * VALID) + y * VALID + x
    total = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    for k in tl.static_range(WINDOW):
        seen = (y >= k) & (y - k <= H - WINDOW) & (x < VALID)
        total += TAPS[k] * tl.load(source - k * VALID, mask=seen, other=0.0)
    tl.store(spread_ptr + plane * (H * VALID) + y * VALID + x, total, mask=(y < H) & (x < VALID))


@triton.jit
def rows_back_kernel(
    spread_ptr,  # [SLOPES, P, H, VALID], of `columns_back_kernel`
    left_ptr,  # [P, H, ROW]
    right_ptr,  # [P, H, ROW]
    upstream_ptr,  # [1]
    d_left_ptr,  # [P, H, ROW]
    d_right_ptr,  # [P, H, ROW] with SLOPES 4, never touched otherwise
    share,  # 1 / positions
    TAPS: tl.constexpr,
    H: tl.constexpr,
    ROW: tl.constexpr,
    STEP: tl.constexpr,
    SLOPES: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Grid (P, ceil(H / BLOCK_H), ceil(ROW / BLOCK_W))."""
    VALID: tl.constexpr = ROW - (WINDOW - 1) * STEP
    plane = tl.program_id(0).to(tl.int64)
    y = (tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H))[:, None]
    x = (tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W))[None, :]
    size = tl.num_programs(0).to(tl.int64) * (H * VALID)
    source = spread_ptr + plane * (H * VALID) + y * VALID + x
    square = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    product = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    of_left = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    of_right = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    for k in tl.static_range(WINDOW):
        seen = (y < H) & (x >= k * STEP) & (x - k * STEP < VALID)
        square += TAPS[k] * tl.load(source - k * STEP, mask=seen, other=0.0)
        product += TAPS[k] * tl.load(source + size - k * STEP, mask=seen, other=0.0)
        of_left += TAPS[k] * tl.load(source + 2 * size - k * STEP, mask=seen, other=0.0)
        if SLOPES == 4:
            of_right += TAPS[k] * tl.load(source + 3 * size - k * STEP, mask=seen, other=0.0)
    inside = (y < H) & (x < ROW)
    place = plane * (H * ROW) + y * ROW + x
    a = tl.load(left_ptr + place, mask=inside, other=0.0)
    b = tl.load(right_ptr + place, mask=inside, other=0.0)
    factor = tl.load(upstream_ptr) * share
    tl.store(d_left_ptr + place, (of_left + 2.0 * a * square + b * product) * factor, mask=inside)
    if SLOPES == 4:
        tl.store(d_right_ptr + place, (of_right + 2.0 * b * square + a * product) * factor, mask=inside)

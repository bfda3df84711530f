# mypy: ignore-errors
"""Triton: beside every pixel the row of pixels around it, and back.

With x [B, H, W, C] in memory the C * KERNEL values of a row's window lie side by side, so that a window is one run of
memory that starts C values after its neighbour's. WIDTH channels are written: the window, a one, then zeros.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def unfold_rows_kernel(
    x_ptr,  # [PIXELS, C]
    rows_ptr,  # [PIXELS, WIDTH]
    PIXELS,  # B * H * W
    W: tl.constexpr,
    C: tl.constexpr,
    KERNEL: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_J: tl.constexpr,  # power of two >= WIDTH
):
    """Grid (ceil(PIXELS / BLOCK_P))."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    j = tl.arange(0, BLOCK_J)
    column = (pixel % W)[:, None] + (j // C - KERNEL // 2)[None, :]
    windowed = (column >= 0) & (column < W) & (j < KERNEL * C)[None, :] & (pixel < PIXELS)[:, None]
    source = (pixel * C)[:, None] + (j - KERNEL // 2 * C)[None, :]
    value = tl.load(x_ptr + source, mask=windowed, other=0.0)
    value = tl.where((j == KERNEL * C)[None, :], 1.0, value)
    kept = (pixel < PIXELS)[:, None] & (j < WIDTH)[None, :]
    target = rows_ptr + (pixel * WIDTH)[:, None] + j[None, :]
    tl.store(target, value.to(rows_ptr.dtype.element_ty), mask=kept)


@triton.jit
def fold_rows_kernel(
    rows_ptr,  # [PIXELS, WIDTH]: gradients
    x_ptr,  # [PIXELS, C]
    PIXELS,
    W: tl.constexpr,
    C: tl.constexpr,
    KERNEL: tl.constexpr,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,  # dtype of the sums
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,  # power of two >= C
):
    """Grid (ceil(PIXELS / BLOCK_P)): a pixel's gradient is the sum of its places in the windows it stands in."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.arange(0, BLOCK_C)
    kept = (pixel < PIXELS)[:, None] & (c < C)[None, :]
    total = tl.zeros((BLOCK_P, BLOCK_C), INNER)
    for tap in tl.static_range(KERNEL):
        column = pixel % W + KERNEL // 2 - tap  # of the window in which it is number `tap`
        seen = kept & ((column >= 0) & (column < W))[:, None]
        place = ((pixel + KERNEL // 2 - tap) * WIDTH)[:, None] + (tap * C + c)[None, :]
        total += tl.load(rows_ptr + place, mask=seen, other=0.0).to(INNER)
    tl.store(x_ptr + (pixel * C)[:, None] + c[None, :], total.to(x_ptr.dtype.element_ty), mask=kept)

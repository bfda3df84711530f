# mypy: ignore-errors
"""Triton: the distance of unit channel vectors, whole vectors in registers, one read of both maps each way.

With u = l / m, m = max(|l|, floor), and q = the gradient at u = dd * 2 / HW * weight * (u - v):

    dl = (q - u (u . q)) / m   where |l| >= floor,   q / m elsewhere

Lengths are sums of squares of what is in registers: the difference u - v is taken element by element, since
2 - 2 u.v would lose what is small. Sums over pixels come in two stages without atomics: a program writes one number.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def unit_rows(x, floor):
    """(x / m, m, whether |x| >= floor) of fp32 rows x [ROWS, BLOCK]. Divided, not multiplied by 1 / m: a distance is
    one number of an image, and with few pixels no error is averaged away."""
    length = tl.sqrt(tl.sum(x * x, 1))
    m = tl.maximum(length, floor)
    return x / m[:, None], m, length >= floor


@triton.jit
def unit_distance_forward_kernel(
    left_ptr,  # [B, HW, C]
    right_ptr,  # [B, HW, C]
    weight_ptr,  # [C]
    partial_ptr,  # [B, CHUNKS] fp32: shares of the mean
    floor,
    HW: tl.constexpr,
    C: tl.constexpr,
    CHUNK: tl.constexpr,  # pixels of a program
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,  # power of two >= C
):
    """Grid (chunks, B). Without WEIGHTED, weight_ptr is not touched."""
    chunk = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK)
    total = tl.zeros((ROWS,), tl.float32)
    for start in tl.range(0, CHUNK, ROWS):
        row = chunk * CHUNK + start + tl.arange(0, ROWS)
        inside = (row < HW)[:, None] & (c < C)[None, :]
        place = image * (HW * C) + row[:, None] * C + c[None, :]
        u, _, _ = unit_rows(tl.load(left_ptr + place, mask=inside, other=0.0).to(tl.float32), floor)
        v, _, _ = unit_rows(tl.load(right_ptr + place, mask=inside, other=0.0).to(tl.float32), floor)
        square = (u - v) * (u - v)
        if WEIGHTED:
            square *= tl.load(weight_ptr + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
        total += tl.sum(square, 1)
    tl.store(partial_ptr + image * tl.num_programs(0) + chunk, tl.sum(total, 0) / HW)


@triton.jit
def unit_distance_backward_kernel(
    dd_ptr,  # [B] fp32
    left_ptr,  # [B, HW, C]
    right_ptr,  # [B, HW, C]
    weight_ptr,  # [C]
    dleft_ptr,  # [B, HW, C]
    floor,
    HW: tl.constexpr,
    C: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (ceil(HW / ROWS), B). Without WEIGHTED, weight_ptr is not touched."""
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, BLOCK)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < HW)[:, None] & (c < C)[None, :]
    place = image * (HW * C) + row[:, None] * C + c[None, :]
    u, m, free = unit_rows(tl.load(left_ptr + place, mask=inside, other=0.0).to(tl.float32), floor)
    v, _, _ = unit_rows(tl.load(right_ptr + place, mask=inside, other=0.0).to(tl.float32), floor)
    q = (u - v) * (tl.load(dd_ptr + image).to(tl.float32) * 2.0 / HW)
    if WEIGHTED:
        q *= tl.load(weight_ptr + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    along = tl.where(free, tl.sum(q * u, 1), 0.0)
    dleft = (q - u * along[:, None]) / m[:, None]
    tl.store(dleft_ptr + place, dleft.to(dleft_ptr.dtype.element_ty), mask=inside)

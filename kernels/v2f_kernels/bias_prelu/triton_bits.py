# mypy: ignore-errors
"""Triton: bias + PReLU, one read and one write each way, and a bit an element between them.

A program holds ROWS whole pixels as [ROWS, BYTES, 8]: the last axis is one byte of signs, and eight neighbouring
channels of a thread are 16 bytes of bf16. The gradient needs the sign of z alone, and y's is another one where a slope
is negative: 1/16 of a bf16 tensor is written and read for it where z itself would cost a whole one.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def edge(place, size):
    """1 for the first line, 2 for the last, 3 for the only one, 0 inside."""
    return (place == 0).to(tl.int32) + 2 * (place == size - 1).to(tl.int32)


@triton.jit
def tile(R, C: tl.constexpr, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """(rows [ROWS], channels [BYTES, 8], places [ROWS, BYTES, 8], which of them are inside) of this program."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BYTES)[:, None] * 8 + tl.arange(0, 8)[None, :]
    place = row.to(tl.int64)[:, None, None] * C + c[None, :, :]
    inside = (row < R)[:, None, None] & (c < C)[None, :, :]
    return row, c, place, inside


@triton.jit
def bias_prelu_forward_kernel(
    x_ptr,  # [R, C]
    bias_ptr,  # [C] or [4, 4, C]
    slope_ptr,  # [C]
    y_ptr,  # [R, C]
    bits_ptr,  # [R, ceil(C / 8)] uint8: whether z > 0, channel 8 i + k in bit k of byte i
    R,
    H,
    W,
    C: tl.constexpr,
    EDGES: tl.constexpr,  # whether bias is [4, 4, C]
    KEEP: tl.constexpr,  # whether the bits are written
    ROWS: tl.constexpr,
    BYTES: tl.constexpr,  # power of two >= C / 8
):
    """Grid (ceil(R / ROWS))."""
    row, c, place, inside = tile(R, C, ROWS, BYTES)
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    slope = tl.load(slope_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    if EDGES:
        side = edge(row // W % H, H) * 4 + edge(row % W, W)
        bias = tl.load(bias_ptr + side[:, None, None] * C + c[None, :, :], mask=inside, other=0.0)
        z = x + bias.to(tl.float32)
    else:
        z = x + tl.load(bias_ptr + c, mask=c < C, other=0.0).to(tl.float32)[None, :, :]
    positive = z > 0
    y = tl.where(positive, z, z * slope[None, :, :])
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)
    if KEEP:
        bits = tl.sum(positive.to(tl.int32) << tl.arange(0, 8)[None, None, :], 2)
        byte = tl.arange(0, BYTES)[None, :]
        known = (row < R)[:, None] & (byte < (C + 7) // 8)
        target = bits_ptr + row.to(tl.int64)[:, None] * ((C + 7) // 8) + byte
        tl.store(target, bits.to(tl.uint8), mask=known)


@triton.jit
def bias_prelu_backward_kernel(
    dy_ptr,  # [R, C]
    bits_ptr,  # [R, ceil(C / 8)] uint8
    slope_ptr,  # [C]
    dx_ptr,  # [R, C]
    R,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Grid (ceil(R / ROWS))."""
    row, c, place, inside = tile(R, C, ROWS, BYTES)
    dy = tl.load(dy_ptr + place, mask=inside, other=0.0).to(tl.float32)
    slope = tl.load(slope_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    byte = tl.arange(0, BYTES)[None, :]
    known = (row < R)[:, None] & (byte < (C + 7) // 8)
    source = bits_ptr + row.to(tl.int64)[:, None] * ((C + 7) // 8) + byte
    bits = tl.load(source, mask=known, other=0).to(tl.int32)
    positive = ((bits[:, :, None] >> tl.arange(0, 8)[None, None, :]) & 1) != 0
    dx = tl.where(positive, dy, dy * slope[None, :, :])
    tl.store(dx_ptr + place, dx.to(dx_ptr.dtype.element_ty), mask=inside)

# mypy: ignore-errors
"""Triton: the sum of two tensors and a channel's bias; two reads and one write."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def bias_residual_kernel(
    x_ptr,  # [R, C]
    bias_ptr,  # [C]
    shortcut_ptr,  # [R, C]
    s_ptr,  # [R, C]
    R,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr,  # power of two >= C
):
    """Grid (ceil(R / ROWS))."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK_C)
    inside = (row < R)[:, None] & (c < C)[None, :]
    place = row.to(tl.int64)[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    shortcut = tl.load(shortcut_ptr + place, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=c < C, other=0.0).to(tl.float32)
    s = x + bias[None, :] + shortcut
    tl.store(s_ptr + place, s.to(s_ptr.dtype.element_ty), mask=inside)

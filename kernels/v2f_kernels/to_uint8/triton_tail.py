# mypy: ignore-errors
"""Triton: the decoder's tail in one kernel, each element normalised once.

A program walks down STRIP output rows of one image. For each input row it normalises the whole row
(BLOCK_W pixels by BLOCK_C channels at a time) and multiplies it with three [C, 16] matrices, one per
kernel row; their 16 columns are the taps (kernel column, output channel), 3 x 3 padded to 4 x 4. Kernel
rows meet by carrying the two unfinished output rows in registers; kernel columns meet by one gather along
the row, which shifts each column of taps by its offset. So an element costs one SiLU, or (STRIP + 2) /
STRIP with the rows a strip shares with its neighbours, instead of nine.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels._triton.rounding import multiply_add


@triton.jit
def to_uint8_kernel(
    x_ptr,  # [B, H, W, C]
    terms_ptr,  # [B, 2, C] fp32: scale, shift
    weight_ptr,  # [3 (kernel row), C, 4 (kernel column), 4 (output channel)], zero where padded; dtype of x
    bias_ptr,  # [3]
    image_ptr,  # [B, H, W, 3] uint8
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,  # a multiple of BLOCK_C
    STRIP: tl.constexpr,  # output rows per program
    BLOCK_W: tl.constexpr,  # power of two >= W
    BLOCK_C: tl.constexpr,
):
    """Grid (ceil(H / STRIP), B)."""
    image = tl.program_id(1).to(tl.int64)
    top = tl.program_id(0) * STRIP
    w = tl.arange(0, BLOCK_W)
    c = tl.arange(0, BLOCK_C)
    tap = tl.arange(0, 16)
    source = w[:, None] + (tap // 4)[None, :] - 1  # the pixel whose column of taps lands on pixel w
    reaches = (source >= 0) & (source < W)
    source = tl.minimum(tl.maximum(source, 0), BLOCK_W - 1)
    channel = tl.arange(0, 4)
    bias = tl.load(bias_ptr + channel, mask=channel < 3, other=0.0).to(tl.float32)
    above = tl.zeros((BLOCK_W, 16), tl.float32)  # output row r - 1: kernel rows 0 and 1 are in
    here = tl.zeros((BLOCK_W, 16), tl.float32)  # output row r: kernel row 0 is in
    for step in tl.range(0, STRIP + 2):
        r = top - 1 + step
        inside = (w < W) & (r >= 0) & (r < H)
        next0 = tl.zeros((BLOCK_W, 16), tl.float32)
        for block in tl.range(0, C // BLOCK_C):
            k = block * BLOCK_C + c
            x = tl.load(
                x_ptr + image * (H * W * C) + (r * W + w)[:, None] * C + k[None, :],
                mask=inside[:, None],
                other=0.0,
            )
            scale = tl.load(terms_ptr + image * (2 * C) + k)
            shift = tl.load(terms_ptr + image * (2 * C) + C + k)
            z = x.to(tl.float32) * scale[None, :] + shift[None, :]
            z = z / (1.0 + tl.exp(-z))
            z = tl.where(inside[:, None], z, 0.0).to(x.dtype)
            weight = weight_ptr + k[:, None] * 16 + tap[None, :]
            above = tl.dot(z, tl.load(weight + 2 * C * 16), above, input_precision="ieee")
            here = tl.dot(z, tl.load(weight + C * 16), here, input_precision="ieee")
            next0 = tl.dot(z, tl.load(weight), next0, input_precision="ieee")
        done = r - 1
        shifted = tl.where(reaches, tl.gather(above, source, 0), 0.0)
        value = tl.sum(tl.reshape(shifted, (BLOCK_W, 4, 4)), 1) + bias[None, :]
        value = tl.where(tl.abs(value) < float("inf"), value, -1.0)
        raised = tl.minimum(tl.maximum(value, -1.0), 1.0) + 1.0
        # raised * 127.5, rounded to fp32; 2^23 added and subtracted again rounds that to an integer, ties to even.
        level = multiply_add(raised, tl.full(raised.shape, 127.5, tl.float32), 8388608.0) - 8388608.0
        place = image_ptr + (image * H + done) * (W * 3) + w[:, None] * 3 + channel[None, :]
        kept = (w < W)[:, None] & (channel < 3)[None, :] & (done >= top) & (done < H)
        tl.store(place, level.to(tl.uint8), mask=kept)
        above = here
        here = next0

# mypy: ignore-errors
"""Triton: 3x3 convolution as nine products of shifted views of one matrix, tiles fetched by the tensor memory
accelerator (TMA).

The input lies flat with shared zero borders, [B (H+1) (W+1), C]: every row of W pixels is followed by one zero, which
is also the left neighbour of the next row's first pixel, every image by one row of zeros, which is also above the
next image. A tap is then the same matrix moved by (dy, dx) -> dy (W+1) + dx rows, without a mask, so that a tile of it
is one rectangle: TMA writes it to shared memory as wgmma reads it, and no operand passes through registers. Rows before
the first and behind the last are out of range, for which TMA gives zeros.

A program makes BLOCK_M consecutive positions of one image by BLOCK_N output channels. Positions on a border are
computed and dropped: of 99 tiles of 128 at 112x112, 1.0 % of the work; 2 % at 56x56, 14 % at 28x28 (the last tile's
rest included). The epilogue adds bias and residual, rounds once, and writes mean and M2 per channel of the rounded tile
for the next norm; a tile lies in one image, and the merge knows how many of its positions are pixels.

What it must reach, us an image, fp16, H200. Measured: cuDNN's time (batch 256, first run). Computed: a pass over y at
3.3 TB/s, the border's bytes (0.01 to 0.02 us), and TFLOP/s of the pixels' products at which this kernel ties.

                      128->128@112   128->128@56   256->128@56   256->256@28
    GFLOP, MB of y      3.70, 3.21    0.92, 0.80    1.85, 0.80    0.92, 0.40
    cuDNN, measured           5.24          1.36          2.57          1.24
    a bias: 2 y               1.95          0.49          0.49          0.24
    b residual: 3 y           2.92          0.73        (none)          0.36
    c moments: y              0.97          0.24          0.24          0.12
    ties with cuDNN and
      a + b + c, as torch    11.06: 334     2.81: 329     3.28: 564     1.96: 472
      one pass for all three  8.14: 454     2.08: 444     3.04: 609     1.60: 579
      c alone, where cuDNN's
      graph adds a and b      6.20: 597     1.59: 580     2.80: 662     1.35: 684
    here at 482 / 600         7.75 / 6.23   1.96 / 1.57   3.92 / 3.15   2.19 / 1.76

The last row is a prediction and counts dropped positions; 482 is what the implicit product beside this one was measured
at. At that rate it wins over torch's own passes and over one joined pass where C = O = 128, and nowhere else; at 600
over torch's everywhere, over a joined pass still only there, and over cuDNN's graph nowhere by more than 0.02 us: that
takes 650 and more. At 28x28 a seventh of the work is dropped, so 784 would be needed. Without a norm the pass that lays
rows flat is a copy, 1.96 us at 112, 0.50 at 56 (128 channels), 0.25 at 28 more: there it cannot win.

Its likely limit is L2: every tap of every tile is fetched, 64 FLOP a byte for 128 x 128 and 85 for 256 x 128, so 600
TFLOP/s need 9.4 or 7.1 TB/s. 256 x 128 takes 190 registers and leaves one program to a multiprocessor; 128 x 128 takes
107, so that one's epilogue runs beside another's products. Which is better only a card knows: the search tries both.

With e4m3 operands (X_SCALE not 0; `bench.candidates.conv3x3_fp8`) the same in half the bytes, 124 registers.
"""

from __future__ import annotations

import triton
import triton.language as tl
from v2f_kernels.group_norm_silu.triton_moments import store_moments

from bench.candidates.conv3x3_flat.triton_merge import pixels_before


@triton.jit
def _finish(
    product,  # [M, N] fp32
    n0,
    first,
    image_at,  # offset of this image in residual and y
    scale_ptr,  # [O] fp32
    bias_ptr,  # [O]
    residual_ptr,  # [B, H, W, O]
    y_ptr,  # [B, H, W, O]
    moments_ptr,  # [2, O], of this tile
    pixels,
    H: tl.constexpr,
    W: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    X_SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_MOMENTS: tl.constexpr,
):
    """y and its moments at positions first .. first + M - 1, of which `pixels` are pixels, and channels n0 .."""
    m = first + tl.arange(0, product.shape[0])
    n = n0 + tl.arange(0, product.shape[1])
    row = m // (W + 1)
    column = m % (W + 1)
    inside = (row < H) & (column < W)
    if X_SCALE:
        product *= tl.load(scale_ptr + n, mask=n < O, other=0.0)[None, :] / X_SCALE
    if HAS_BIAS:
        product += tl.load(bias_ptr + n, mask=n < O, other=0.0).to(tl.float32)[None, :]
    place = (row * W + column)[:, None] * O + n[None, :]
    kept = inside[:, None] & (n < O)[None, :]
    if HAS_RESIDUAL:
        product += tl.load(residual_ptr + image_at + place, mask=kept, other=0.0).to(tl.float32)
    y = product.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + image_at + place, y, mask=kept)
    if HAS_MOMENTS:
        store_moments(y.to(tl.float32), inside, moments_ptr, n, pixels, O)


@triton.jit
def conv3x3_flat_kernel(
    x_desc,  # [B (H+1) (W+1), C] by [BLOCK_M, BLOCK_K], borders zero
    weight_desc,  # [O, 9 C] by [BLOCK_N, BLOCK_K]: [O, 3, 3, C] as it lies
    scale_ptr,  # [O] fp32: of e4m3 weights
    bias_ptr,  # [O]
    residual_ptr,  # [B, H, W, O]
    y_ptr,  # [B, H, W, O]
    partial_ptr,  # [B, TILES, 2, O] fp32: mean, M2 of y per tile
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,  # a multiple of BLOCK_K
    O: tl.constexpr,  # noqa: E741  (output channels)
    X_SCALE: tl.constexpr,  # of an e4m3 x; 0: x and weight have y's dtype
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_MOMENTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Grid (ceil(O / BLOCK_N), TILES, B): output blocks of one tile run side by side and share it in L2."""
    tile = tl.program_id(1)
    image = tl.program_id(2)
    first = tile * BLOCK_M
    n0 = tl.program_id(0) * BLOCK_N
    start = image * ((H + 1) * (W + 1)) + first
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(0, 9 * (C // BLOCK_K)):
        block = step // 9
        tap = step % 9
        moved = (tap // 3 - 1) * (W + 1) + tap % 3 - 1
        a = x_desc.load([start + moved, block * BLOCK_K])
        b = weight_desc.load([n0, tap * C + block * BLOCK_K])
        accumulator = tl.dot(a, b.T, accumulator, input_precision="ieee")
    bordered = tl.minimum(first + BLOCK_M, H * (W + 1))
    pixels = (pixels_before(bordered, W + 1) - pixels_before(first, W + 1)).to(tl.float32)
    image_at = image.to(tl.int64) * (H * W * O)
    moments_ptr = partial_ptr
    if HAS_MOMENTS:
        moments_ptr += (image.to(tl.int64) * tl.num_programs(1) + tile) * (2 * O)
    # In two halves of the channels: 107 registers instead of 142, so that two programs fit on a multiprocessor.
    halves = tl.permute(tl.reshape(accumulator, (BLOCK_M, 2, BLOCK_N // 2)), (0, 2, 1))
    left, right = tl.split(halves)
    _finish(
        left, n0, first, image_at, scale_ptr, bias_ptr, residual_ptr, y_ptr, moments_ptr, pixels,
        H, W, O, X_SCALE, HAS_BIAS, HAS_RESIDUAL, HAS_MOMENTS,
    )  # fmt: skip
    _finish(
        right, n0 + BLOCK_N // 2, first, image_at, scale_ptr, bias_ptr, residual_ptr, y_ptr, moments_ptr, pixels,
        H, W, O, X_SCALE, HAS_BIAS, HAS_RESIDUAL, HAS_MOMENTS,
    )  # fmt: skip

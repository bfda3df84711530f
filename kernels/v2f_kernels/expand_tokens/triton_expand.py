# mypy: ignore-errors
"""Triton: identity vector to normalised tokens in one pass, and the deterministic backward.

Forward: a program holds ROWS token rows of one image; it reads the image's vector and the rows' positions and
writes the rows. Nothing of size [B, 50, D] is read.

Backward, with e the row before LayerNorm and de its gradient (`layer_norm.triton_norm`):
    dfeature = sum over rows of c * de,   c = 1 where masked or row 0, else weight[r]
    dweight[r] = sum of de * feature,     dbias[r] = sum of de       over images where r is kept and not masked
    dposition[1 + r] = sum of de          over images where r is kept
One program walks all rows of one image, so dfeature and the image's shares of everything else have one writer.
dposition needs rows of all images: de is written to memory (fp32, in `de`), with the place of each row in its
image (`slot`), and a second kernel adds it up in the order of images. No atomics: the same bits every time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.layer_norm.triton_norm import norm_gradient, row_moments


@triton.jit
def _describe(row, weight_ptr, bias_ptr, masked_ptr, kept_ptr, image, K: tl.constexpr):
    """(r, scale, shift, plain) of token rows 0..K of one image: e = scale * feature + shift + position; r is the
    row's position, 0..49; plain where e holds the vector itself."""
    listed = (row > 0) & (row <= K)
    r = tl.load(kept_ptr + image * K + row - 1, mask=listed, other=0)
    masked = tl.load(masked_ptr + image * 49 + r, mask=listed, other=1) != 0
    plain = masked | (row == 0)
    scale = tl.load(weight_ptr + r, mask=listed & ~masked, other=1.0).to(tl.float32)
    shift = tl.load(bias_ptr + r, mask=listed & ~masked, other=0.0).to(tl.float32)
    return tl.where(row == 0, 0, r + 1), scale, shift, plain


@triton.jit
def expand_forward_kernel(
    feature_ptr,  # [B, D]
    weight_ptr,  # [49]
    bias_ptr,  # [49]
    masked_ptr,  # [B, 49] uint8
    kept_ptr,  # [B, K] int64
    position_ptr,  # [50, D]
    norm_weight_ptr,  # [D]
    norm_bias_ptr,  # [D]
    tokens_ptr,  # [B, 1 + K, D]
    eps,
    K: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,  # power of two >= D
    ROWS: tl.constexpr,
):
    """Grid (ceil((1 + K) / ROWS), B)."""
    image = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    lanes = column < D
    inside = (row <= K)[:, None] & lanes[None, :]
    r, scale, shift, _ = _describe(row, weight_ptr, bias_ptr, masked_ptr, kept_ptr, image, K)
    feature = tl.load(feature_ptr + image * D + column, mask=lanes, other=0.0).to(tl.float32)
    position = tl.load(position_ptr + r[:, None] * D + column[None, :], mask=inside, other=0.0)
    e = scale[:, None] * feature[None, :] + shift[:, None] + position.to(tl.float32)
    xhat, _ = row_moments(tl.where(inside, e, 0.0), lanes[None, :], eps, D)
    norm_weight = tl.load(norm_weight_ptr + column, mask=lanes, other=0.0).to(tl.float32)
    norm_bias = tl.load(norm_bias_ptr + column, mask=lanes, other=0.0).to(tl.float32)
    y = xhat * norm_weight[None, :] + norm_bias[None, :]
    place = (image * (1 + K) + row[:, None]) * D + column[None, :]
    tl.store(tokens_ptr + place, y.to(tokens_ptr.dtype.element_ty), mask=inside)


@triton.jit
def expand_backward_kernel(
    dtokens_ptr,  # [B, 1 + K, D]
    feature_ptr,  # [B, D]
    weight_ptr,  # [49]
    bias_ptr,  # [49]
    masked_ptr,  # [B, 49] uint8
    kept_ptr,  # [B, K] int64
    position_ptr,  # [50, D]
    norm_weight_ptr,  # [D]
    dfeature_ptr,  # [B, D]
    line_ptr,  # [B, 2, 49] fp32, zeroed: this image's shares of dweight, dbias
    norm_ptr,  # [B, 2, D] fp32: this image's shares of dnorm_weight, dnorm_bias
    de_ptr,  # [B, 1 + K, D] fp32
    slot_ptr,  # [B, 50] int32, filled with -1: token row that holds each position
    eps,
    K: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Grid (B)."""
    image = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    lanes = column < D
    feature = tl.load(feature_ptr + image * D + column, mask=lanes, other=0.0).to(tl.float32)
    norm_weight = tl.load(norm_weight_ptr + column, mask=lanes, other=0.0).to(tl.float32)
    dfeature = tl.zeros((ROWS, BLOCK), tl.float32)
    dnorm_weight = tl.zeros((ROWS, BLOCK), tl.float32)
    dnorm_bias = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in tl.range(0, 1 + K, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row <= K)[:, None] & lanes[None, :]
        r, scale, shift, plain = _describe(row, weight_ptr, bias_ptr, masked_ptr, kept_ptr, image, K)
        position = tl.load(position_ptr + r[:, None] * D + column[None, :], mask=inside, other=0.0)
        e = scale[:, None] * feature[None, :] + shift[:, None] + position.to(tl.float32)
        xhat, rstd = row_moments(tl.where(inside, e, 0.0), lanes[None, :], eps, D)
        place = (image * (1 + K) + row[:, None]) * D + column[None, :]
        dy = tl.load(dtokens_ptr + place, mask=inside, other=0.0).to(tl.float32)
        de = norm_gradient(dy * norm_weight[None, :], xhat, rstd, D)
        de = tl.where(inside, de, 0.0)
        tl.store(de_ptr + place, de, mask=inside)
        tl.store(slot_ptr + image * 50 + r, row, mask=row <= K)
        line = line_ptr + image * 98 + r - 1
        expanded = (row <= K) & ~plain
        tl.store(line, tl.sum(de * feature[None, :], 1), mask=expanded)
        tl.store(line + 49, tl.sum(de, 1), mask=expanded)
        dfeature += de * scale[:, None]
        dnorm_weight += dy * xhat
        dnorm_bias += dy
    total = tl.sum(dfeature, 0).to(dfeature_ptr.dtype.element_ty)
    tl.store(dfeature_ptr + image * D + column, total, mask=lanes)
    norm = norm_ptr + image * (2 * D) + column
    tl.store(norm, tl.sum(dnorm_weight, 0), mask=lanes)
    tl.store(norm + D, tl.sum(dnorm_bias, 0), mask=lanes)


@triton.jit
def expand_position_kernel(
    de_ptr,  # [B, 1 + K, D] fp32
    slot_ptr,  # [B, 50] int32
    dposition_ptr,  # [50, D] fp32
    B,
    K: tl.constexpr,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    IMAGES: tl.constexpr,
):
    """Grid (ceil(D / COLUMNS), 50)."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    place = tl.program_id(1)
    sums = tl.zeros((IMAGES, COLUMNS), tl.float32)
    for start in tl.range(0, B, IMAGES):
        image = start + tl.arange(0, IMAGES)
        slot = tl.load(slot_ptr + image * 50 + place, mask=image < B, other=-1)
        source = (image.to(tl.int64) * (1 + K) + slot)[:, None] * D + column[None, :]
        sums += tl.load(de_ptr + source, mask=(slot >= 0)[:, None] & (column < D)[None, :], other=0.0)
    tl.store(dposition_ptr + place * D + column, tl.sum(sums, 0), mask=column < D)

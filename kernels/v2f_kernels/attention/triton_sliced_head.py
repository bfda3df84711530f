# mypy: ignore-errors
"""Triton: the same attention in full fp32, on CUDA cores.

Products of fp32 operands without rounding to tf32 are fused multiply-adds, for which Triton keeps every
operand of a `tl.dot` in registers along the whole inner dimension: 64 wide, that spills (255 registers and
141 spill instructions for the backward of `triton_whole_head`, sm_90). So every product here runs over slices of
16 of its inner dimension in a loop; slices of q, k, v, dO come from memory (L1), slices of P and dS are
gathered from registers. Mathematics, masks and determinism as in `triton_whole_head`. The last slice of a head
dimension that is no multiple of 16 is masked.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.attention.triton_whole_head import keep_mask, load_tile, softmax_terms, store_tile

SLICE = tl.constexpr(16)


@triton.jit
def _columns(tile, first, ROWS: tl.constexpr):
    """tile[:, first : first + SLICE]."""
    index = first + tl.arange(0, SLICE)[None, :] + tl.zeros((ROWS, 1), tl.int32)
    return tl.gather(tile, index, 1)


@triton.jit(do_not_specialize=["seed", "threshold"])
def attention_forward_fp32_kernel(
    qkv_ptr,  # [B, N, 3, H, d]
    out_ptr,  # [B, N, H * d]
    seed,  # integer, or pointer to an int64
    threshold,  # a weight is dropped when its random word is below
    keep_scale,  # 1 / (1 - dropout)
    N: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    WIDTH: tl.constexpr,  # power of two >= D
    SCALE: tl.constexpr,  # 1 / sqrt(d)
    DROPOUT: tl.constexpr,
    SEED_IN_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (B * H)."""
    tile = tl.program_id(0)
    image = (tile // H).to(tl.int64)
    head = tile % H
    IN: tl.constexpr = 3 * H * D
    OUT: tl.constexpr = H * D
    q_ptr = qkv_ptr + image * (N * IN) + head * D
    k_ptr = q_ptr + H * D
    v_ptr = q_ptr + 2 * H * D
    o_ptr = out_ptr + image * (N * OUT) + head * D
    rows = tl.arange(0, BLOCK)

    scores = tl.zeros((BLOCK, BLOCK), tl.float32)
    for c in tl.range(0, D, SLICE):
        q = load_tile(q_ptr, rows, c, IN, N, D, SLICE)
        k = load_tile(k_ptr, rows, c, IN, N, D, SLICE)
        scores = tl.dot(q, tl.trans(k), acc=scores, input_precision="ieee")

    p, total = softmax_terms(scores, SCALE, N, BLOCK)
    factor = 1.0 / total
    if DROPOUT:
        key = tl.load(seed) if SEED_IN_MEMORY else seed
        p = tl.where(keep_mask(tile, key, threshold, BLOCK), p, 0.0)
        factor = factor * keep_scale

    o = tl.zeros((BLOCK, WIDTH), tl.float32)
    for first in tl.range(0, BLOCK, SLICE):
        v = load_tile(v_ptr, first + tl.arange(0, SLICE), 0, IN, N, D, WIDTH)
        o = tl.dot(_columns(p, first, BLOCK), v, acc=o, input_precision="ieee")
    store_tile(o_ptr, rows, o * factor[:, None], OUT, N, D, WIDTH)


@triton.jit(do_not_specialize=["seed", "threshold"])
def attention_backward_fp32_kernel(
    qkv_ptr,  # [B, N, 3, H, d]
    dout_ptr,  # [B, N, H * d]
    dqkv_ptr,  # [B, N, 3, H, d]
    seed,  # integer, or pointer to an int64
    threshold,  # a weight is dropped when its random word is below
    keep_scale,  # 1 / (1 - dropout)
    N: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    WIDTH: tl.constexpr,  # power of two >= D
    SCALE: tl.constexpr,  # 1 / sqrt(d)
    DROPOUT: tl.constexpr,
    SEED_IN_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (B * H)."""
    tile = tl.program_id(0)
    image = (tile // H).to(tl.int64)
    head = tile % H
    IN: tl.constexpr = 3 * H * D
    OUT: tl.constexpr = H * D
    place = image * (N * IN) + head * D
    q_ptr = qkv_ptr + place
    k_ptr = q_ptr + H * D
    v_ptr = q_ptr + 2 * H * D
    do_ptr = dout_ptr + image * (N * OUT) + head * D
    rows = tl.arange(0, BLOCK)

    scores = tl.zeros((BLOCK, BLOCK), tl.float32)
    dp = tl.zeros((BLOCK, BLOCK), tl.float32)
    for c in tl.range(0, D, SLICE):
        q = load_tile(q_ptr, rows, c, IN, N, D, SLICE)
        k = load_tile(k_ptr, rows, c, IN, N, D, SLICE)
        scores = tl.dot(q, tl.trans(k), acc=scores, input_precision="ieee")
        do = load_tile(do_ptr, rows, c, OUT, N, D, SLICE)
        v = load_tile(v_ptr, rows, c, IN, N, D, SLICE)
        dp = tl.dot(do, tl.trans(v), acc=dp, input_precision="ieee")

    p, total = softmax_terms(scores, SCALE, N, BLOCK)
    p = p * (1.0 / total)[:, None]
    kept = p
    if DROPOUT:
        key = tl.load(seed) if SEED_IN_MEMORY else seed
        keep = keep_mask(tile, key, threshold, BLOCK)
        kept = tl.where(keep, p * keep_scale, 0.0)
        dp = tl.where(keep, dp * keep_scale, 0.0)
    ds = p * (dp - tl.sum(p * dp, 1)[:, None]) * SCALE

    _product(ds, k_ptr, dqkv_ptr + place, IN, IN, N, D, WIDTH, BLOCK)
    _product(tl.trans(ds), q_ptr, dqkv_ptr + place + H * D, IN, IN, N, D, WIDTH, BLOCK)
    _product(tl.trans(kept), do_ptr, dqkv_ptr + place + 2 * H * D, OUT, IN, N, D, WIDTH, BLOCK)


@triton.jit
def _product(
    a,  # [BLOCK, BLOCK] in registers
    b_ptr,  # [N, D]
    target_ptr,  # [N, D]
    B_STRIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    N: tl.constexpr,
    D: tl.constexpr,
    WIDTH: tl.constexpr,  # power of two >= D
    BLOCK: tl.constexpr,
):
    """target <- a b."""
    rows = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for first in tl.range(0, BLOCK, SLICE):
        b = load_tile(b_ptr, first + tl.arange(0, SLICE), 0, B_STRIDE, N, D, WIDTH)
        total = tl.dot(_columns(a, first, BLOCK), b, acc=total, input_precision="ieee")
    store_tile(target_ptr, rows, total, STRIDE, N, D, WIDTH)

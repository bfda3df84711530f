"""Triton: the same attention in full fp32, on CUDA cores.

Products of fp32 operands without rounding to tf32 are fused multiply-adds, for which Triton keeps every
operand of a `tl.dot` in registers along the whole inner dimension: 64 wide, that spills (255 registers and
141 spill instructions for the backward of `triton_fused`, sm_90). So every product here runs over slices of
16 of its inner dimension in a loop; slices of q, k, v, dO come from memory (L1), slices of P and dS are
gathered from registers. Mathematics, masks and determinism as in `triton_fused`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from v2f_kernels.attention.triton_fused import keep_mask, load_tile, softmax_terms, store_tile

SLICE = tl.constexpr(16)


@triton.jit
def _columns(tile, first, ROWS: tl.constexpr):
    """tile[:, first : first + SLICE]."""
    index = first + tl.arange(0, SLICE)[None, :] + tl.zeros((ROWS, 1), tl.int32)
    return tl.gather(tile, index, 1)


@triton.jit
def attention_forward_fp32_kernel(
    qkv_ptr,  # [B, N, 3, H, d]
    out_ptr,  # [B, N, H * d]
    seed,  # integer, or pointer to an int64
    threshold,  # a weight is dropped when its random word is below
    keep_scale,  # 1 / (1 - dropout)
    N: tl.constexpr,
    H: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    SCALE: tl.constexpr,  # 1 / sqrt(d)
    DROPOUT: tl.constexpr,
    SEED_IN_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (B * H)."""
    D: tl.constexpr = D0 + D1
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
        q = load_tile(q_ptr + c, rows, IN, N, 0, SLICE)
        k = load_tile(k_ptr + c, rows, IN, N, 0, SLICE)
        scores = tl.dot(q, tl.trans(k), acc=scores, input_precision="ieee")

    p, total = softmax_terms(scores, SCALE, N, BLOCK)
    factor = 1.0 / total
    if DROPOUT:
        key = tl.load(seed) if SEED_IN_MEMORY else seed
        p = tl.where(keep_mask(tile, key, threshold, BLOCK), p, 0.0)
        factor = factor * keep_scale

    o0 = tl.zeros((BLOCK, D0), tl.float32)
    if D1 > 0:
        o1 = tl.zeros((BLOCK, D1), tl.float32)
    for first in tl.range(0, BLOCK, SLICE):
        some = first + tl.arange(0, SLICE)
        part = _columns(p, first, BLOCK)
        o0 = tl.dot(part, load_tile(v_ptr, some, IN, N, 0, D0), acc=o0, input_precision="ieee")
        if D1 > 0:
            o1 = tl.dot(part, load_tile(v_ptr, some, IN, N, D0, D1), acc=o1, input_precision="ieee")
    store_tile(o_ptr, rows, o0 * factor[:, None], OUT, N, 0, D0)
    if D1 > 0:
        store_tile(o_ptr, rows, o1 * factor[:, None], OUT, N, D0, D1)


@triton.jit
def attention_backward_fp32_kernel(
    qkv_ptr,  # [B, N, 3, H, d]
    dout_ptr,  # [B, N, H * d]
    dqkv_ptr,  # [B, N, 3, H, d]
    seed,  # integer, or pointer to an int64
    threshold,  # a weight is dropped when its random word is below
    keep_scale,  # 1 / (1 - dropout)
    N: tl.constexpr,
    H: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    SCALE: tl.constexpr,  # 1 / sqrt(d)
    DROPOUT: tl.constexpr,
    SEED_IN_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (B * H)."""
    D: tl.constexpr = D0 + D1
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
        q = load_tile(q_ptr + c, rows, IN, N, 0, SLICE)
        k = load_tile(k_ptr + c, rows, IN, N, 0, SLICE)
        scores = tl.dot(q, tl.trans(k), acc=scores, input_precision="ieee")
        do = load_tile(do_ptr + c, rows, OUT, N, 0, SLICE)
        v = load_tile(v_ptr + c, rows, IN, N, 0, SLICE)
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

    _product(ds, k_ptr, dqkv_ptr + place, IN, IN, N, D0, D1, BLOCK)
    _product(tl.trans(ds), q_ptr, dqkv_ptr + place + H * D, IN, IN, N, D0, D1, BLOCK)
    _product(tl.trans(kept), do_ptr, dqkv_ptr + place + 2 * H * D, OUT, IN, N, D0, D1, BLOCK)


@triton.jit
def _product(
    a,  # [BLOCK, BLOCK] in registers
    b_ptr,  # [N, D]
    target_ptr,  # [N, D]
    B_STRIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    N: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """target <- a b."""
    rows = tl.arange(0, BLOCK)
    sum0 = tl.zeros((BLOCK, D0), tl.float32)
    if D1 > 0:
        sum1 = tl.zeros((BLOCK, D1), tl.float32)
    for first in tl.range(0, BLOCK, SLICE):
        some = first + tl.arange(0, SLICE)
        part = _columns(a, first, BLOCK)
        b0 = load_tile(b_ptr, some, B_STRIDE, N, 0, D0)
        sum0 = tl.dot(part, b0, acc=sum0, input_precision="ieee")
        if D1 > 0:
            b1 = load_tile(b_ptr, some, B_STRIDE, N, D0, D1)
            sum1 = tl.dot(part, b1, acc=sum1, input_precision="ieee")
    store_tile(target_ptr, rows, sum0, STRIDE, N, 0, D0)
    if D1 > 0:
        store_tile(target_ptr, rows, sum1, STRIDE, N, D0, D1)

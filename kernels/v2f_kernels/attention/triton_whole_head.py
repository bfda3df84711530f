# mypy: ignore-errors
"""Triton: a whole attention row in one program, forward and backward.

One program holds one (image, head): N <= 64 tokens padded to BLOCK = 32 or 64, so the softmax needs no
running maximum and the scores never leave registers. The head dimension is one tile of WIDTH columns, the next
power of two from 32 up; columns from D on belong to the next head, so they are zero when loaded and never stored.
A masked column moves no bytes, and the op is bound by memory, so the products with zeros cost little. (Splitting
48 into 32 + 16 saves them, but one assembler compiles its four-warp code for sm_90 wrongly: see FACTS.md.)

Backward recomputes the softmax from q and k instead of reading anything that forward saved, because the whole
row is at hand: with P the weights, M the scaled dropout mask and dP = M * (dO V^T),
    dV = (M * P)^T dO      dS = P * (dP - rowsum(P * dP))      dQ = dS K / sqrt(d)      dK = dS^T Q / sqrt(d)
Seven tensors move (q, k, v, dO in; dQ, dK, dV out). Every output element has one writer and a fixed order of
summation: no atomics, the same bits every time.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_tile(base, rows, START, STRIDE: tl.constexpr, N: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr):
    """Tile [len(rows), WIDTH] of columns from START on; rows from N on and columns from D on are zero."""
    column = START + tl.arange(0, WIDTH)[None, :]
    inside = rows[:, None] < N
    if D // WIDTH * WIDTH != D:  # `%` lacks a form for the interpreter
        inside = inside & (column < D)
    return tl.load(base + rows[:, None] * STRIDE + column, mask=inside, other=0.0)


@triton.jit
def store_tile(base, rows, tile, STRIDE: tl.constexpr, N: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr):
    """The first N rows and D columns of the tile."""
    column = tl.arange(0, WIDTH)[None, :]
    inside = rows[:, None] < N
    if D // WIDTH * WIDTH != D:  # `%` lacks a form for the interpreter
        inside = inside & (column < D)
    tl.store(base + rows[:, None] * STRIDE + column, tile.to(base.dtype.element_ty), mask=inside)


@triton.jit
def softmax_terms(scores, SCALE: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):
    """(p, total): weights of each row before division by their sum; exp2, fp32."""
    column = tl.arange(0, BLOCK)[None, :]
    scores = tl.where(column < N, scores * (SCALE * LOG2_E), float("-inf"))
    p = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return p, tl.sum(p, 1)


@triton.jit
def keep_mask(tile, seed, threshold, BLOCK: tl.constexpr):
    """bool [BLOCK, BLOCK]: which weights of (image, head) number `tile` survive; see the op's contract."""
    block = tl.arange(0, BLOCK)[:, None] * 16 + tl.arange(0, BLOCK // 4)[None, :]
    base = tile.to(tl.int64) * 1024  # 64 x 64 weights, four to a counter
    low = (base & 0xFFFFFFFF).to(tl.uint32) + block.to(tl.uint32)
    high = (base >> 32).to(tl.uint32) + tl.zeros_like(low)
    zero = tl.zeros_like(low)
    w0, w1, w2, w3 = tl.philox(seed, low, high, zero, zero)
    limit = threshold.to(tl.uint32)
    even = tl.join(w0 >= limit, w2 >= limit)
    odd = tl.join(w1 >= limit, w3 >= limit)
    return tl.reshape(tl.join(even, odd), (BLOCK, BLOCK))


@triton.jit(do_not_specialize=["seed", "threshold"])
def attention_forward_kernel(
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

    q = load_tile(q_ptr, rows, 0, IN, N, D, WIDTH)
    k = load_tile(k_ptr, rows, 0, IN, N, D, WIDTH)
    scores = tl.dot(q, tl.trans(k))

    p, total = softmax_terms(scores, SCALE, N, BLOCK)
    factor = 1.0 / total
    if DROPOUT:
        key = tl.load(seed) if SEED_IN_MEMORY else seed
        p = tl.where(keep_mask(tile, key, threshold, BLOCK), p, 0.0)
        factor = factor * keep_scale
    v = load_tile(v_ptr, rows, 0, IN, N, D, WIDTH)
    o = tl.dot(p.to(v.dtype), v) * factor[:, None]
    store_tile(o_ptr, rows, o, OUT, N, D, WIDTH)


@triton.jit(do_not_specialize=["seed", "threshold"])
def attention_backward_kernel(
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
    dq_ptr = dqkv_ptr + place
    dk_ptr = dq_ptr + H * D
    dv_ptr = dq_ptr + 2 * H * D
    do_ptr = dout_ptr + image * (N * OUT) + head * D
    rows = tl.arange(0, BLOCK)

    q = load_tile(q_ptr, rows, 0, IN, N, D, WIDTH)
    k = load_tile(k_ptr, rows, 0, IN, N, D, WIDTH)
    do = load_tile(do_ptr, rows, 0, OUT, N, D, WIDTH)
    v = load_tile(v_ptr, rows, 0, IN, N, D, WIDTH)
    scores = tl.dot(q, tl.trans(k))
    dp = tl.dot(do, tl.trans(v))

    p, total = softmax_terms(scores, SCALE, N, BLOCK)
    p = p * (1.0 / total)[:, None]
    kept = p
    if DROPOUT:
        key = tl.load(seed) if SEED_IN_MEMORY else seed
        keep = keep_mask(tile, key, threshold, BLOCK)
        kept = tl.where(keep, p * keep_scale, 0.0)
        dp = tl.where(keep, dp * keep_scale, 0.0)
    ds = p * (dp - tl.sum(p * dp, 1)[:, None]) * SCALE

    kept = tl.trans(kept.to(do.dtype))
    store_tile(dv_ptr, rows, tl.dot(kept, do), IN, N, D, WIDTH)
    ds = ds.to(k.dtype)
    store_tile(dq_ptr, rows, tl.dot(ds, k), IN, N, D, WIDTH)
    store_tile(dk_ptr, rows, tl.dot(tl.trans(ds), q), IN, N, D, WIDTH)

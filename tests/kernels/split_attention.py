"""Attention forward as at commit ad7a1a4, its head dimension split into two products: what ptxas 12.8.93 compiles
wrongly for sm_90 at four warps, and rightly at one, two and eight. Kept for the lint of machine code to find.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_tile(base, rows, STRIDE: tl.constexpr, N: tl.constexpr, START: tl.constexpr, D: tl.constexpr):
    """Tile [BLOCK, D] of columns START..START+D; rows from N on are zero."""
    place = rows[:, None] * STRIDE + START + tl.arange(0, D)[None, :]
    return tl.load(base + place, mask=rows[:, None] < N, other=0.0)


@triton.jit
def store_tile(base, rows, tile, STRIDE: tl.constexpr, N: tl.constexpr, START: tl.constexpr, D: tl.constexpr):
    place = rows[:, None] * STRIDE + START + tl.arange(0, D)[None, :]
    tl.store(base + place, tile.to(base.dtype.element_ty), mask=rows[:, None] < N)


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

    q = load_tile(q_ptr, rows, IN, N, 0, D0)
    k = load_tile(k_ptr, rows, IN, N, 0, D0)
    scores = tl.dot(q, tl.trans(k))
    if D1 > 0:
        q = load_tile(q_ptr, rows, IN, N, D0, D1)
        k = load_tile(k_ptr, rows, IN, N, D0, D1)
        scores = tl.dot(q, tl.trans(k), acc=scores)

    p, total = softmax_terms(scores, SCALE, N, BLOCK)
    factor = 1.0 / total
    if DROPOUT:
        key = tl.load(seed) if SEED_IN_MEMORY else seed
        p = tl.where(keep_mask(tile, key, threshold, BLOCK), p, 0.0)
        factor = factor * keep_scale
    p = p.to(q.dtype)
    v = load_tile(v_ptr, rows, IN, N, 0, D0)
    o = tl.dot(p, v) * factor[:, None]
    store_tile(o_ptr, rows, o, OUT, N, 0, D0)
    if D1 > 0:
        v = load_tile(v_ptr, rows, IN, N, D0, D1)
        o = tl.dot(p, v) * factor[:, None]
        store_tile(o_ptr, rows, o, OUT, N, D0, D1)


def launch_split(
    qkv: torch.Tensor, out: torch.Tensor, num_warps: int, split: tuple[int, int] = (32, 16)
) -> None:
    """out [B, N, H * d] <- attention of qkv [B, N, 3, H, d], d = sum(split)."""
    images, tokens, _, heads, depth = qkv.shape
    assert depth == sum(split)
    attention_forward_kernel[(images * heads,)](
        qkv, out, 1, 0, 1.0,
        N=tokens, H=heads, D0=split[0], D1=split[1], SCALE=depth**-0.5, DROPOUT=False, SEED_IN_MEMORY=False,
        BLOCK=64, num_warps=num_warps, num_stages=1,
    )  # fmt: skip


def split_case(num_warps: int, dtype: torch.dtype = torch.float16) -> None:
    """The decoder's shape, 50 tokens of 16 heads of 48, on meta tensors: for the compile gate."""
    qkv = torch.empty((8, 50, 3, 16, 48), dtype=dtype, device="meta")
    launch_split(qkv, qkv[:, :, 0].flatten(2), num_warps)

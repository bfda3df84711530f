# mypy: ignore-errors
"""Triton: Philox4x32-10 and its float forms, the same bits as `reference`.

Every kernel that calls `normal_from_bits` must be launched with enable_fp_fusion=False: the contract
rounds each product and each sum, and a fused multiply-add rounds once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from v2f_kernels._triton.rounding import multiply_add
from v2f_kernels.philox import reference

_M0 = tl.constexpr(reference.MULTIPLIERS[0])
_M1 = tl.constexpr(reference.MULTIPLIERS[1])
_STEP0 = tl.constexpr(reference.KEY_STEPS[0])
_STEP1 = tl.constexpr(reference.KEY_STEPS[1])
_ROUNDS = tl.constexpr(reference.ROUNDS)
_LOG2 = tl.constexpr(reference.LOG2)
_CENTRAL = tl.constexpr(reference.CENTRAL)
_TAIL = tl.constexpr(reference.TAIL)
_LOG2_DEGREE = tl.constexpr(len(reference.LOG2) - 1)
_CENTRAL_DEGREE = tl.constexpr(len(reference.CENTRAL) - 1)
_TAIL_DEGREE = tl.constexpr(len(reference.TAIL) - 1)


@triton.jit
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four uint32 words for counter (c0, c1, c2, c3) and key (k0, k1), all uint32 of one shape or scalars."""
    for _ in tl.static_range(_ROUNDS):
        high0 = tl.umulhi(c0, tl.full((1,), _M0, tl.uint32))
        low0 = c0 * tl.full((1,), _M0, tl.uint32)
        high1 = tl.umulhi(c2, tl.full((1,), _M1, tl.uint32))
        low1 = c2 * tl.full((1,), _M1, tl.uint32)
        c0 = high1 ^ c1 ^ k0
        c2 = high0 ^ c3 ^ k1
        c1 = low1
        c3 = low0
        k0 += tl.full((1,), _STEP0, tl.uint32)
        k1 += tl.full((1,), _STEP1, tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def draw_words(purpose, identity, image, first_block, k0, k1, BLOCKS: tl.constexpr):
    """Words [4 * BLOCKS] uint32 of one place, from number 4 * first_block on; k0, k1: the key."""
    block = (first_block + tl.arange(0, BLOCKS)).to(tl.uint32)
    zero = tl.zeros((BLOCKS,), tl.uint32)
    w0, w1, w2, w3 = philox4x32(
        zero + purpose.to(tl.uint32),
        zero + identity.to(tl.uint32),
        zero + image.to(tl.uint32),
        block,
        zero + k0.to(tl.uint32),
        zero + k1.to(tl.uint32),
    )
    return tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (4 * BLOCKS,))


@triton.jit
def uniform_from_bits(bits):
    """float32 in [0, 1), multiples of 2**-24."""
    return (bits >> 8).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def _horner(coefficients: tl.constexpr, DEGREE: tl.constexpr, x):
    """The polynomial with `coefficients`, lowest power first, at x: one product, then one sum per step."""
    total = tl.full(x.shape, coefficients[DEGREE], tl.float32)
    for step in tl.static_range(DEGREE):
        total = multiply_add(total, x, tl.full(x.shape, coefficients[DEGREE - 1 - step], tl.float32))
    return total


@triton.jit
def normal_from_bits(bits):
    """float32 normals, one word each; see the contract for the formula."""
    t = (bits << 1) | 1
    x = (0 - t).to(tl.float32) * 2.3283064365386963e-10
    a = t.to(tl.float32) * 2.3283064365386963e-10 * (x + 1.0)
    i = a.to(tl.int32, bitcast=True) - 0x3F2AAAAB
    d = ((i & 0x7FFFFF) + 0x3F2AAAAB).to(tl.float32, bitcast=True) - 1.0
    w = -multiply_add(d, _horner(_LOG2, _LOG2_DEGREE, d), (i >> 23).to(tl.float32))
    central = x * _horner(_CENTRAL, _CENTRAL_DEGREE, w - 3.5)
    tail = x * _horner(_TAIL, _TAIL_DEGREE, w - 19.0)
    z = tl.where(w < 7.0, central, tail)
    return (z.to(tl.uint32, bitcast=True) | (bits & 0x80000000)).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["n", "purpose", "k0", "k1"])
def draw_kernel(
    identity_ptr,  # [B] uint32
    image_ptr,  # [B] uint32
    out_ptr,  # [B, n] uint32 or float32
    n,
    purpose,  # the bits of a uint32 in an int32, as k0 and k1: the key
    k0,
    k1,
    KIND: tl.constexpr,  # "bits", "uniform" or "normal"
    BLOCKS: tl.constexpr,
):
    """Grid (B, ceil(n / (4 * BLOCKS)))."""
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCKS
    words = draw_words(purpose, tl.load(identity_ptr + row), tl.load(image_ptr + row), first, k0, k1, BLOCKS)
    column = first.to(tl.int64) * 4 + tl.arange(0, 4 * BLOCKS)
    place = out_ptr + row * n + column
    if KIND == "bits":
        tl.store(place, words, mask=column < n)
    elif KIND == "uniform":
        tl.store(place, uniform_from_bits(words), mask=column < n)
    else:
        tl.store(place, normal_from_bits(words), mask=column < n)

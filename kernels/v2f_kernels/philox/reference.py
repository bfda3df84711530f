"""Philox4x32-10 and its uniform and normal forms in NumPy; the contract is in this folder's `__init__.py`.

Words are held as uint64 so that a 32 x 32 product needs no splitting, in chunks that stay in the L2 cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
CHUNK = 16_384
"""Counters per chunk: four uint64 words and two products of 16,384 counters are 768 KiB."""

# Least-maximum fits (Lawson's iteration on Chebyshev bases), lowest power first. LOG2 stands for
# log2(1 + d) / d, CENTRAL and TAIL for quantile / (1 - 2p); relative errors before rounding 3e-8, 4e-9, 2e-8.
LOG2 = (
    1.4426950216293335, -0.7213465571403503, 0.4808959662914276, -0.36078956723213196, 0.2887113392353058,
    -0.23678652942180634, 0.2017991840839386, -0.22222118079662323, 0.2027866393327713,
)  # fmt: skip
CENTRAL = (
    2.09747576713562, 0.2423565536737442, -0.002644559368491173, -0.0006205366225913167, 7.17783477739431e-05,
    -7.671844741707901e-07, -5.796954383185948e-07, 4.946782539150263e-08, 2.1623167700823842e-09,
    -4.777172546432951e-10,
)  # fmt: skip
TAIL = (
    4.900968551635742, 0.13615486025810242, -0.0017582544824108481, 4.430342232808471e-05,
    -1.360935129923746e-06, 4.382357943200077e-08, -1.1499050600605187e-09, 2.029760214072862e-11,
    -1.0455260789077325e-12, -1.0484735096186887e-13, 2.3893578020533872e-14, -9.475777697966355e-16,
)  # fmt: skip

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """counter: uint32 `[..., 4]`, key: uint32 `[..., 2]`, broadcast together; returns uint32 `[..., 4]`."""
    words, keys = np.asarray(counter), np.asarray(key)
    fits = words.shape[-1:] == (4,) and keys.shape[-1:] == (2,)
    if not fits or words.dtype != np.uint32 or keys.dtype != np.uint32:
        raise ValueError(
            f"philox4x32 expects counter uint32 [..., 4] and key uint32 [..., 2], found {words.dtype} "
            f"{list(words.shape)} and {keys.dtype} {list(keys.shape)}"
        )
    shape = np.broadcast_shapes(words.shape[:-1], keys.shape[:-1])
    planes = [np.broadcast_to(words[..., i], shape).astype(np.uint64) for i in range(4)]
    _rounds(planes, keys[..., 0].astype(np.uint64), keys[..., 1].astype(np.uint64))
    return np.stack(planes, axis=-1).astype(np.uint32)


def _rounds(c: list[NDArray[np.uint64]], k0: Any, k1: Any) -> None:
    """Ten rounds in place on four planes of words below 2**32; k0 and k1 uint64 scalars or arrays."""
    p0, p1 = np.empty_like(c[0]), np.empty_like(c[0])
    m0, m1 = (np.uint64(m) for m in MULTIPLIERS)
    for turn in range(ROUNDS):
        np.multiply(c[0], m0, out=p0)
        np.multiply(c[2], m1, out=p1)
        for word, product, other, subkey in (
            (c[0], p1, c[1], (k0 + np.uint64(turn * KEY_STEPS[0])) & _LOW),
            (c[2], p0, c[3], (k1 + np.uint64(turn * KEY_STEPS[1])) & _LOW),
        ):
            np.right_shift(product, _HALF, out=word)
            np.bitwise_xor(word, other, out=word)
            np.bitwise_xor(word, subkey, out=word)
        np.bitwise_and(p1, _LOW, out=c[1])
        np.bitwise_and(p0, _LOW, out=c[3])


def uniform_from_bits(bits: NDArray[np.uint32]) -> NDArray[np.float32]:
    """bits: uint32, any shape; returns float32 in [0, 1), multiples of 2**-24."""
    return np.asarray((bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24))


def normal_from_bits(bits: NDArray[np.uint32]) -> NDArray[np.float32]:
    """bits: uint32, any shape; returns float32 normals by the inverse distribution, one word each."""
    t = (bits << np.uint32(1)) | np.uint32(1)
    scale = np.float32(2.0**-32)
    x = np.negative(t).astype(np.float32) * scale  # 2**32 - t, by wrap-around
    a = t.astype(np.float32) * scale * (x + np.float32(1))
    i = a.view(np.int32) - np.int32(0x3F2AAAAB)
    d = ((i & np.int32(0x7FFFFF)) + np.int32(0x3F2AAAAB)).view(np.float32) - np.float32(1)
    w = -((i >> np.int32(23)).astype(np.float32) + d * _horner(LOG2, d))
    z = x * _horner(CENTRAL, w - np.float32(3.5))
    tail = np.flatnonzero(w >= np.float32(7))
    if tail.size:
        z.reshape(-1)[tail] = x.reshape(-1)[tail] * _horner(TAIL, w.reshape(-1)[tail] - np.float32(19))
    sign = bits & np.uint32(0x80000000)
    return np.asarray((z.view(np.uint32) | sign).view(np.float32))


def _horner(coefficients: tuple[float, ...], x: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        np.multiply(total, x, out=total)
        np.add(total, np.float32(coefficient), out=total)
    return total


_FORMS: dict[str, tuple[Any, Any]] = {
    "bits": (np.uint32, lambda bits: bits),
    "uniform": (np.float32, uniform_from_bits),
    "normal": (np.float32, normal_from_bits),
}


def draw(kind: str, seed: int, purpose: int, identity: ArrayLike, image: ArrayLike, n: int) -> NDArray[Any]:
    """`n` numbers for each of B places: uint32 or float32 `[B, n]`. Arguments as in the contract.

    Raises:
        ValueError: a kind, seed, purpose, identity, image or n outside its range, or lengths that differ.
    """
    if kind not in _FORMS:
        raise ValueError(f"kind must be one of {sorted(_FORMS)}, found {kind!r}")
    dtype, form = _FORMS[kind]
    low, high = check_integer("seed", seed, 64) & 0xFFFFFFFF, seed >> 32
    use = check_integer("purpose", purpose, 32)
    people, pictures = np.broadcast_arrays(check_words("identity", identity), check_words("image", image))
    count = check_integer("n", n, 34)
    rows, blocks = len(people), -(-count // 4)
    out = np.empty((rows, count), dtype)
    if not rows or not count:
        return out
    wide = min(blocks, CHUNK)
    tall = max(1, CHUNK // wide)
    for top in range(0, rows, tall):
        for left in range(0, blocks, wide):
            c1, c2 = people[top : top + tall, None], pictures[top : top + tall, None]
            block = np.arange(left, min(left + wide, blocks), dtype=np.uint64)[None, :]
            size = (len(c1), block.size)
            planes = [
                np.full(size, use, np.uint64),
                *(np.broadcast_to(c, size).copy() for c in (c1, c2, block)),
            ]
            _rounds(planes, np.uint64(low), np.uint64(high))
            bits = np.empty((*size, 4), np.uint32)
            for word, plane in enumerate(planes):
                bits[..., word] = plane
            values = form(bits).reshape(len(c1), -1)
            right = min(4 * left + values.shape[1], count)
            out[top : top + tall, 4 * left : right] = values[:, : right - 4 * left]
    return out


def check_integer(what: str, value: int, width: int) -> int:
    """`value` as int if it is an integer of at most `width` bits; otherwise ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 1 << width:
        raise ValueError(f"{what} must be an integer from 0 to 2**{width} - 1, found {value!r}")
    return int(value)


def check_words(what: str, values: ArrayLike) -> NDArray[np.uint64]:
    """`values` as uint64 `[B]` if they are integers in 0 .. 2**32 - 1; otherwise ValueError naming a row."""
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{what} must be integers [B], found {array.dtype} {list(array.shape)}")
    outside = np.flatnonzero((array < 0) | (array > 0xFFFFFFFF))
    if outside.size:
        row = int(outside[0])
        raise ValueError(f"{what} must lie in 0 .. 2**32 - 1, found {int(array[row])} in row {row}")
    return array.astype(np.uint64)

"""Philox4x32-10: random numbers that are a pure function of where they are used.

Two ops share this folder. Neither is differentiable; neither has state.

`OP`, the bit generator (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011)::

    philox4x32(counter uint32 [..., 4], key uint32 [..., 2]) -> uint32 [..., 4]

`DRAW`, what the engine uses: `n` numbers for each of `B` places::

    draw(kind, seed, purpose, identity [B], image [B], n) -> [B, n]

    kind      "bits" -> uint32; "uniform" -> float32 in [0, 1); "normal" -> float32 N(0, 1), |z| < 6.34
    seed      int, 0 <= seed < 2**64; key = (seed mod 2**32, seed >> 32)
    purpose   int, 0 <= purpose < 2**32: keeps the streams of different uses apart
    identity  integers [B], 0 <= identity < 2**32
    image     integers [B], 0 <= image < 2**32
    n         numbers per place; number k is word k mod 4 of counter (purpose, identity, image, k // 4)

A value therefore depends on (seed, purpose, identity, image, k) alone: never on B, n, order, worker or
device. A value out of range raises `ValueError`; nothing wraps around silently.

**Every backend returns the same bits**, normals included, because both float forms use only IEEE float32
`+ - *` rounded one operation at a time (no fused multiply-add, no division, no library function: torch's
vectorised square root, for one, is not correctly rounded):

    uniform   (bits >> 8) * 2**-24: all 2**24 multiples, exact, 1.0 excluded
    normal    inverse of the normal distribution at one 32-bit word b; top bit set: negative. With
              m = b mod 2**31 and t = 2m + 1, p = t / 2**33 is the tail probability, in (0, 1/2):
                x = float(2**32 - t) * 2**-32                       1 - 2p
                a = (float(t) * 2**-32) * (1 + x)                   4p(1 - p)
                w = -log2(a): with integer i = bits(a) - 0x3F2AAAAB, exponent e = i >> 23 (arithmetic),
                    d = float with bits((i & 0x7FFFFF) + 0x3F2AAAAB) - 1 in [-1/3, 1/3),
                    w = -(float(e) + d * LOG2(d))
                z = x * CENTRAL(w - 3.5)                if w < 7        (99.6 % of all words)
                z = x * TAIL(w - 19)                    otherwise
              The polynomials (`reference.py`) are evaluated by Horner's rule from the highest power, each
              step one multiplication, then one addition. z differs from the true quantile by at most
              4e-7 relative.
"""

from v2f_kernels._op import Op

OP = Op("philox", {"reference": "v2f_kernels.philox.reference:philox4x32"})
DRAW = Op(
    "philox_draw",
    {
        "reference": "v2f_kernels.philox.reference:draw",
        "native": "v2f_kernels.philox.native:draw",
    },
)

__all__ = ["DRAW", "OP"]

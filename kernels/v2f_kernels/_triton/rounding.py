# mypy: ignore-errors
"""Triton: arithmetic that must round as a contract says, whatever the compiler would like to fuse."""

from __future__ import annotations

import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def multiply_add(a, b, c):
    """a * b + c in fp32, the product rounded and then the sum."""
    if _INTERPRETED:
        return a * b + c
    else:  # noqa: RET505  (both branches of a compile-time choice)
        # For sm_120 LLVM packs neighbours into mul.rn.f32x2 and add.rn.f32x2, which ptxas 12.9 fuses although
        # fusion is off; it cannot see into this.
        return tl.inline_asm_elementwise(
            "{ .reg .f32 p; mul.rn.f32 p, $1, $2; add.rn.f32 $0, p, $3; }",
            "=f,f,f,f",
            [a, b, c],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )

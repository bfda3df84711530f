"""Two vector instructions for the kernels: weighted sums of consecutive floats, every sum in the written order.

LLVM does not make vectors of a short unrolled loop, so these say it: 16 attributes of a vertex, or 6 channels of a
texel, in one register (21 to 10 ns a pixel, measured). No fused multiply-add: the bits are those of scalar code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

ATTRIBUTES, CHANNELS = 16, 6
"""Floats of a row of the vertex table, and of a texel of the skin."""


Function = TypeVar("Function", bound=Callable[..., Any])
_instruction = cast(Callable[[Function], Callable[..., Any]], intrinsic)
"""Called from a kernel, an intrinsic lacks its first parameter."""


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return cast(Any, cgutils).create_struct_proxy(kind)(context, builder, value=value).data


def _place(builder: Any, data: Any, at: Any, n: int) -> Any:
    return builder.bitcast(builder.gep(data, [at]), ir.VectorType(ir.FloatType(), n).as_pointer())


def _weighted(builder: Any, data: Any, at: Any, weight: Any, n: int) -> Any:
    """`n` floats from index `at` on, each times `weight`; floats are aligned to 4 bytes only."""
    loaded = builder.load(_place(builder, data, at, n))
    loaded.align = 4
    spread = ir.Constant(loaded.type, ir.Undefined)
    for lane in range(n):
        spread = builder.insert_element(spread, weight, ir.Constant(ir.IntType(32), lane))
    return builder.fmul(spread, loaded)


@_instruction
def mix_vertices(
    typing: Any, out: Any, at: Any, table: Any, a: Any, b: Any, c: Any, wa: Any, wb: Any, wc: Any
) -> Any:
    """`out[at:at + 16] = wa * table[a:a + 16] + wb * table[b:b + 16] + wc * table[c:c + 16]`; no bounds checks."""
    u64, f32 = types.uint64, types.float32
    signature = types.void(out, u64, table, u64, u64, u64, f32, f32, f32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = _data(context, builder, signature.args[2], args[2])
        parts = [
            _weighted(builder, source, place, weight, ATTRIBUTES)
            for place, weight in zip(args[3:6], args[6:9], strict=True)
        ]
        total = builder.fadd(builder.fadd(parts[0], parts[1]), parts[2])
        target = _data(context, builder, signature.args[0], args[0])
        stored = builder.store(total, _place(builder, target, args[1], ATTRIBUTES))
        stored.align = 4
        return context.get_dummy_value()

    return signature, generate


@_instruction
def mix_texels(typing: Any, texture: Any, upper: Any, lower: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Six channels of four texels: `upper`, its right neighbour, `lower`, its right neighbour, times a, b, c, d."""
    u64, f32 = types.uint64, types.float32
    signature = cast(Any, types).UniTuple(f32, CHANNELS)(texture, u64, u64, f32, f32, f32, f32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = _data(context, builder, signature.args[0], args[0])
        step = ir.Constant(ir.IntType(64), CHANNELS)
        places = [args[1], builder.add(args[1], step), args[2], builder.add(args[2], step)]
        parts = [
            _weighted(builder, source, place, weight, CHANNELS)
            for place, weight in zip(places, args[3:7], strict=True)
        ]
        total = builder.fadd(builder.fadd(builder.fadd(parts[0], parts[1]), parts[2]), parts[3])
        lanes = [builder.extract_element(total, ir.Constant(ir.IntType(32), i)) for i in range(CHANNELS)]
        return context.make_tuple(builder, signature.return_type, lanes)

    return signature, generate

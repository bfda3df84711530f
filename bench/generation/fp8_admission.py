"""May the 8-bit convolutions be a precision of the product? The second half of `bench.generation.fp8`: the time.

First every shape of residual block at 28 pixels and above, beside what `choose` takes for it, each given the
statistics that a block like itself would have left; e4m3 stays where it wins. Then the whole network so made beside
the chosen path, batch by batch in turns, after its images were held against the same network by the specification.
Below 28 pixels a seventh and more of a tile's positions are borders, and there is little time to win.

Predicted, not measured: us an image, base, fp16 beside e4m3, H200. GFLOP counts dropped positions (1, 2, 14 %);
e4m3 products at 1.2 and at 1.6 times the 482 TFLOP/s that the implicit product reached in fp16 with tiles of the same
bytes: 578 and 771. (It read 64 FLOP a byte from L2, so L2 gave 7.5 TB/s; e4m3 tiles of 128 x 128 are 128 FLOP a byte,
4.5 and 6.0 TB/s; 600 in fp16 would need 9.4.) Passes at 3.3 TB/s: the norm's, 2 y in fp16, 1.5 y in e4m3.

                                    128->128@112   128->128@56   256->128@56   256->256@28
    convolutions an image                      4             3             1             4
    GFLOP, MB of x in fp16            3.73, 3.21    0.94, 0.80    1.88, 1.61    1.05, 0.40
    product, e4m3                   6.46 .. 4.84  1.63 .. 1.22  3.26 .. 2.45  1.82 .. 1.37
    the norm's pass, fp16 / e4m3     1.95 / 1.47   0.49 / 0.37   0.97 / 0.74   0.24 / 0.19
    both                            7.93 .. 6.31  2.00 .. 1.59  4.00 .. 3.19  2.01 .. 1.56
    cuDNN (measured) + norm's pass          7.19          1.85          3.54          1.48
      + bias or residual as torch   half 2.92     half 0.73             -     half 0.36
      + the next norm's moments             0.97          0.24          0.24          0.12

So against passes as torch has them (9.62, 2.46, 3.78, 1.78 with half a residual) e4m3 wins everywhere at 1.6, at 1.2 at
112 and 128@56; against cuDNN's graph (moments alone: 8.16, 2.09, 3.78, 1.60) at the same places, by less. Together
at 1.6: 4 (9.62 - 6.31) + 3 (2.46 - 1.59) + (3.78 - 3.19) + 4 (1.78 - 1.56) = 17 us of 113.8, times 1.18; at 1.2 8 us,
times 1.08. Of a path of 83 us whose passes are fused, 10 us, times 1.13, and 1 us. **REFUSED is predicted**: 1.2 needs
19 us of 113.8, products at 812 TFLOP/s (6.3 TB/s of L2), or 14 us of 83, 888.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from v2f_kernels._contract import STATISTICS, joined
from v2f_kernels.group_norm_silu import STATISTICS as GROUP_STATISTICS

from bench import protocol
from bench.generation import ladder, rungs
from bench.generation.fp8_network import EightBitBlock, Shape, eight_bit, shape_of
from v2f_engine.backends import Choice
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.image_decoder import ResidualBlock
from v2f_engine.models.joined import Known
from v2f_engine.models.vec2face import Vec2Face

SMALLEST = 28
"""Side of the smallest blocks that take part."""
FASTER = 1.2
"""Times, of the whole network."""
CHOSEN, EIGHT = "what choose takes", "e4m3"
JUDGED = 8
"""Images that the specification makes as well."""


def bound(model: Vec2Face, base: Choice) -> Vec2Face:
    frozen = freeze(model, device=base.device, dtype=base.dtype)
    bind_ops(frozen, base)
    return frozen


@torch.inference_mode()
def by_shape(
    model: Vec2Face, base: Choice, backend: str, rows: int, *, rounds: int = 7, budget_s: float = 1.0
) -> tuple[list[protocol.Row], frozenset[Shape]]:
    """(two rows a shape, the shapes where e4m3 is faster)."""
    blocks = {
        shape_of(m): m for m in bound(model, base).modules() if isinstance(m, ResidualBlock) and m.side >= SMALLEST
    }  # fmt: skip
    found, won = [], set[Shape]()
    for shape, block in blocks.items():
        draw = torch.Generator(base.device).manual_seed(0)
        size = (rows, shape[0], shape[2], shape[2])
        x = torch.randn(size, generator=draw, device=base.device).to(base.dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        statistics = GROUP_STATISTICS.backend("reference")(x, block.groups)
        # A chosen block has statistics where one like it would have left them.
        leaves = STATISTICS in joined(block.ops[3])
        given = {CHOSEN: Known(x, statistics if leaves else None), EIGHT: Known(x, statistics)}
        parts = {CHOSEN: block, EIGHT: EightBitBlock(block, backend)}
        made = {name: part.carry(given[name], block.groups).x.float() for name, part in parts.items()}
        off = float((made[EIGHT] - made[CHOSEN]).square().mean().sqrt() / made[CHOSEN].std())
        calls = {name: _call(part, given[name], block.groups) for name, part in parts.items()}
        timed = protocol.time_calls(calls, device=base.device, rounds=rounds, budget_s=budget_s)
        case = f"block {shape[0]}->{shape[1]}@{shape[2]}, batch {rows}"
        words = f"e4m3 and {base.precision} are {off:.3f} of a standard deviation apart"
        found += [
            protocol.Row(
                "8-bit convolutions by shape", case, name, off < 0.2, words, timing, items=rows, baseline=CHOSEN
            )
            for name, timing in timed.items()
        ]  # fmt: skip
        if off < 0.2 and timed[EIGHT].p50 < timed[CHOSEN].p50:
            won.add(shape)
        del x, made, given, calls
    return found, frozenset(won)


def _call(part: Any, given: Known, groups: int) -> Callable[[int], object]:
    return lambda _: part.carry(given, groups)


def whole_network(
    model: Vec2Face, base: Choice, backend: str, shapes: frozenset[Shape], rows: int, *, rounds: int = 10
) -> list[protocol.Row]:
    """[the chosen path, the same with e4m3 at `shapes`]: judged, then timed in turns, as `ladder` times."""
    batch = rungs.Batch.draw(rows, base.device)
    exact = rungs.oracle(model.to(base.device), batch)
    runs = {
        CHOSEN: _runner(bound(model, base), base, rows),
        EIGHT: _runner(eight_bit(bound(model, base), backend, shapes), base, rows),
    }
    made = {name: torch.from_numpy(run(*batch.host)).to(base.device) for name, (run, _) in runs.items()}
    spec = eight_bit(bound(model, base), "reference", shapes)
    with torch.inference_mode():
        part = [t[:JUDGED] for t in batch.device]
        wanted = spec.decode(part[0].to(base.dtype), part[1], part[2], rungs.N_DROPPED).to(torch.int16)
    agree, words = rungs.grey_check(made[EIGHT][:JUDGED], wanted)
    away = {
        name: (images.to(torch.int16) - exact).abs().float().mean().item() for name, images in made.items()
    }
    checks = {
        CHOSEN: (away[CHOSEN] <= rungs.GREY, f"{away[CHOSEN]:.2f} grey levels off fp32"),
        EIGHT: (agree, f"beside its specification: {words}; {away[EIGHT]:.2f} grey levels off fp32"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    if all(passed for passed, _ in checks.values()):
        for _ in range(rounds):
            for name, (_, call) in runs.items():
                seconds[name].append(ladder.wall(call, base.device, 1, 1.0).p50)
    return [
        protocol.Row(
            "8-bit convolutions, device only", f"batch {rows}", name, *checks[name],
            protocol.Timing.of(seconds[name], 1, "perf_counter") if seconds[name] else None,
            items=rows, inputs=protocol.hash_of(batch.device), baseline=CHOSEN,
        )
        for name in runs
    ]  # fmt: skip


def _runner(frozen: Vec2Face, base: Choice, rows: int) -> tuple[Any, Callable[[], object]]:
    """(host arrays -> images, a call on the device's own inputs)."""
    from v2f_engine.runtime.cuda_graph import CudaGraphRunner
    from v2f_engine.runtime.eager import EagerRunner

    if base.device != "cpu":
        graph = CudaGraphRunner(frozen, base, n_dropped=rungs.N_DROPPED, batch_size=rows)
        return graph, graph.replay
    eager = EagerRunner(frozen, base, n_dropped=rungs.N_DROPPED, batch_size=rows)
    host = rungs.Batch.draw(rows, base.device).host
    return eager, lambda: eager(*host)


def admission(
    model: Vec2Face, base: Choice, backend: str, rows: int, identity: tuple[bool, str], *, rounds: int = 10
) -> tuple[list[protocol.Row], bool, str]:
    """(rows, whether e4m3 is admitted, why): nothing is timed where faces do not stay who they are.

    Args:
        base: the device's choice, whole: a chunk is left out, which an 8-bit path has not been judged with.
        identity: whether the gate passed, in words.
    """
    if not identity[0]:
        return [], False, f"REFUSED: {identity[1]}; nothing was timed"
    base = replace(base, chunk=0)
    found, shapes = by_shape(model, base, backend, rows, rounds=min(rounds, 7))
    if not shapes:
        return found, False, f"REFUSED: e4m3 is faster at no shape; {identity[1]}"
    chosen, eight = whole_network(model, base, backend, shapes, rows, rounds=rounds)
    return [*found, chosen, eight], *verdict(chosen, eight, shapes, identity[1])


def verdict(
    chosen: protocol.Row, eight: protocol.Row, shapes: frozenset[Shape], identity: str
) -> tuple[bool, str]:
    """(whether e4m3 is admitted, the numbers)."""
    if chosen.timing is None or eight.timing is None:
        return False, f"REFUSED: {chosen.check}; {eight.check}; nothing was timed"
    ratio = chosen.timing.p50 / eight.timing.p50
    rates = [f"{row.items / row.timing.p50:,.0f}" for row in (chosen, eight) if row.timing is not None]
    where = ", ".join(f"{c}->{o}@{side}" for c, o, side in sorted(shapes))
    words = f"{rates[1]} images/s with e4m3 at {where}, {rates[0]} without: {ratio:.3f}x (at least {FASTER})"
    words = f"{words}; {identity}"
    return ratio >= FASTER, f"{'ADMITTED' if ratio >= FASTER else 'REFUSED'}: {words}"

"""Do the decoder's upper levels run faster a few images at a time, when what one kernel writes is still in L2?

    python -m bench.generation.chunks                          the arithmetic, at the rates of an H100 and an H200
    python -m bench.generation.chunks --device cuda --write    measures the whole network as one graph, all at once and
                                                               in chunks; the winner goes into the card's table

The upper levels (56 and 112 pixels) hold 0.8 to 3.2 MB an image and tensor in half precision: 256 images are ten times
the L2, so every pass reads what the pass before it wrote from memory. In chunks of n, a pass reads from L2 as long as
what was written since fits there; each kernel is launched 256 / n times, and each launch costs its start and the part
of its last wave in which multiprocessors idle.

Every chunk is judged like a rung of the ladder before it is timed: `rungs.grey_check`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from bench import protocol
from bench.generation import ladder, rungs
from bench.kernels import device_table
from bench.kernels.choose import GAIN
from v2f_engine.backends import Choice, choose
from v2f_engine.models.image_decoder import UPPER_LEVELS
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

SECTION = "upper levels in chunks"
CHUNKS = (32, 16, 8, 4)
LAUNCH_S = 1.3e-6
"""From the end of a graph's kernel to the start of the next that waits for it; a guess."""
TAIL_S = 2.0e-6
"""What a kernel's last, partly empty wave and its start cost beyond that; a guess."""
USABLE = 0.7
"""Share of L2 that a working set may have before it is counted as gone: both halves keep copies; a guess."""


@dataclass(frozen=True)
class Card:
    """A card: bytes/s of its memory (an H100 as its copy measured, an H200 as published of kernels like these) and
    of its L2 (a guess), and how much that holds.
    """

    name: str
    memory: float
    cache: float
    l2: float


CARDS = (Card("H100", 2.39e12, 5.5e12, 50e6), Card("H200", 4.1e12, 5.5e12, 50e6))


@dataclass(frozen=True)
class Pass:
    """A kernel of the upper levels that does no matrix product: what it reads and writes, bytes an image.

    Args:
        name: of what it does.
        fresh: bytes written since what it reads was written, its own reads and writes among them.
    """

    name: str
    read: float
    written: float
    fresh: float


def passes(config: Vec2FaceConfig, itemsize: int = 2) -> list[Pass]:
    """The passes of the upper levels as the first run on a card had them: moments, apply, residual, bias, the tail."""
    found: list[Pass] = []
    widths = [config.base_channels * m for m in config.multipliers]
    for level in reversed(range(UPPER_LEVELS)):
        side = 112 >> level
        tensor = float(widths[level] * side * side * itemsize)
        entering = float(widths[min(level + 1, len(widths) - 1)] * side * side * itemsize)
        for block in range(config.residual_blocks):
            first = entering if block == 0 else tensor
            found += [
                Pass(f"moments@{side}", first, 0.0, first),
                Pass(f"apply@{side}", first, first, 2 * first),
                Pass(f"moments@{side}", tensor, 0.0, tensor),
                Pass(f"apply@{side}", tensor, tensor, 2 * tensor),
            ]
            if block or entering == tensor:
                found.append(Pass(f"residual@{side}", 2 * tensor, tensor, 5 * tensor))
        if level:
            found.append(Pass(f"bias@{2 * side}", 4 * tensor, 4 * tensor, 8 * tensor))
        else:
            found += [
                Pass(f"moments@{side}", tensor, 0.0, tensor),
                Pass(f"tail@{side}", tensor, 3.0 * side * side, tensor),
            ]
    return found


def predicted_us(card: Card, work: Iterable[Pass], chunk: int, rows: int, products: int) -> float:
    """Microseconds an image of the passes and of what launching costs, in chunks of `chunk` images (all: `rows`).

    Args:
        products: launches of convolutions among the levels, which chunks multiply as well.
    """
    listed, seconds = list(work), 0.0
    for one in listed:
        near = one.fresh * chunk <= USABLE * card.l2
        seconds += one.read / (card.cache if near else card.memory)
        seconds += one.written / (card.cache if near else card.memory)
    launches = (len(listed) + products) * -(-rows // chunk)
    return 1e6 * (seconds + launches * (LAUNCH_S + TAIL_S) / rows)


def arithmetic(rows: int = 256) -> str:
    """The prediction as a table, for base size in half precision."""
    config = Vec2FaceConfig.base()
    work, products = passes(config), UPPER_LEVELS * 2 * config.residual_blocks + 1
    lines = [
        f"| predicted us an image, batch {rows} | all at once | {' | '.join(map(str, CHUNKS))} |",
        "|---|" + "---:|" * 5,
    ]
    for card in CARDS:
        numbers = [predicted_us(card, work, chunk, rows, products) for chunk in (rows, *CHUNKS)]
        lines.append(f"| {card.name} | " + " | ".join(f"{us:.1f}" for us in numbers) + " |")
    moved = sum(one.read + one.written for one in work) / 1e6
    lines.append(f"\n{len(work)} passes and {products} products; the passes move {moved:.1f} MB an image.")
    return "\n".join(lines)


def measure(
    model: Vec2Face, base: Choice, rows: int, *, rounds: int = 10, budget_s: float = 2.0
) -> tuple[list[protocol.Row], dict[int, float]]:
    """(a row a chunk, chunk -> seconds a batch of those that were right); 0 is all at once.

    Args:
        base: the device's choice; its chunk is replaced.
    """
    batch = rungs.Batch.draw(rows, base.device)
    expected = rungs.oracle(model.to(base.device), batch)
    rung = next(
        r for r in rungs.RUNGS if (r.chosen if base.device != "cpu" else r.folded and not r.needs_gpu)
    )
    found: list[protocol.Row] = []
    seconds: dict[int, float] = {}
    for chunk in (0, *(c for c in CHUNKS if c < rows)):
        name = f"{chunk} images" if chunk else "all at once"
        runner, call = rungs.build(replace(rung, chosen=True), model, replace(base, chunk=chunk), rows)
        made = torch.from_numpy(runner(*batch.host)).to(base.device)
        passed, words = rungs.grey_check(made, expected)
        timing = ladder.wall(call, base.device, rounds, budget_s) if passed else None
        if timing is not None:
            seconds[chunk] = timing.p50
        found.append(
            protocol.Row(
                SECTION, f"batch {rows}", name, passed, words, timing,
                items=rows, inputs=protocol.hash_of(batch.device), baseline="all at once",
            )
        )  # fmt: skip
        del runner, call, made
        if base.device != "cpu":
            torch.cuda.empty_cache()
    return found, seconds


def decide(seconds: dict[int, float], rows: int) -> tuple[int, str]:
    """(images at a time, 0 for all; the numbers): a chunk that is `GAIN` times faster than all at once."""
    best = min(seconds, key=lambda chunk: seconds[chunk])
    rates = {chunk: rows / s for chunk, s in seconds.items()}
    told = ", ".join(f"{chunk or 'all'}: {rate:,.0f}" for chunk, rate in rates.items())
    chunk = best if seconds[best] * GAIN <= seconds.get(0, float("inf")) else 0
    return chunk, f"images/s by images at a time, batch {rows}: {told}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", help="measure there; without it the arithmetic alone")
    parser.add_argument("--model", choices=("base", "large", "huge", "mini"), default="base")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--write", action="store_true", help="the winner into the card's table of tuned/")
    options = parser.parse_args(arguments)
    print(arithmetic(options.batch))
    if options.device is None:
        return 0
    base = choose(options.device, "fp32" if options.device == "cpu" else "auto")
    rows, seconds = measure(rungs.network(options.model), base, options.batch)
    for row in rows:
        rate = "failed" if row.timing is None else f"{options.batch / row.timing.p50:,.0f} images/s"
        print(f"{row.contender:12} {rate}; {row.check}")
    if options.write and seconds and base.device != "cpu":
        write(base, seconds, options.batch)
    return 0 if all(row.passed for row in rows) else 1


def write(base: Choice, seconds: dict[int, float], rows: int) -> None:
    """Puts the winner into the table of the card that `base` names."""
    card = torch.cuda.get_device_name(torch.device(base.device))
    source = f"bench.generation.chunks, {time.strftime('%Y-%m-%d', time.gmtime())}"
    table = device_table.DeviceTable(card, device_table.measurement(base.device, source))
    table.chunk(base.precision, *decide(seconds, rows))


if __name__ == "__main__":
    sys.exit(main())

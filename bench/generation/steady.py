"""A minute of nothing but one thing: what the card holds once it is warm, and the energy of an image.

Seconds are cut into parts of about `PART_S`, each ended by a synchronisation. The rate of the first part beside the
last one shows throttling; the energy is NVML's over the whole minute (`bench/generation/energy.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from bench import machine, protocol
from bench.generation import energy

PART_S = 1.0


def run(
    name: str,
    call: Callable[[], object],
    *,
    device: str,
    rows: int,
    seconds: float,
    check: str,
    board: energy.Board | None = None,
) -> tuple[protocol.Row, list[str]]:
    """A row whose timing is over parts, with the joules of a call, and notes.

    Args:
        name: of the contender.
        call: makes `rows` images; its check has passed already, in the words of `check`.
        seconds: how long.
    """

    def synchronised(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first = synchronised(1)
    times = max(1, round(PART_S / max(first, 1e-9))) if seconds > PART_S else 1
    parts: list[float] = []
    before = machine.clocks()
    with energy.measured(device, board) as used:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or not parts:
            parts.append(synchronised(times) / times)
    calls = len(parts) * times
    timing = protocol.Timing.of(parts, times, "perf_counter")
    row = protocol.Row(
        f"steady state, {seconds:g} s", f"batch {rows}", name, True, f"{check}; {used.per(calls * rows)}", timing,
        items=rows, joules=0.0 if used.joules is None else used.joules / calls,
    )  # fmt: skip
    tenth = max(1, len(parts) // 10)
    early, late = (rows * len(p) / sum(p) for p in (parts[:tenth], parts[-tenth:]))
    notes = [
        f"{name}: first tenth {early:.1f}, last tenth {late:.1f} images/s, {100 * (late / early - 1):+.1f} %;"
        f" clocks before: {before or 'unknown'}; after: {machine.clocks() or 'unknown'}"
    ]
    return row, notes

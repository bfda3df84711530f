"""A trace as a table by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bench.training.trace.kernels import Kernel
from bench.training.trace.recorder import Recorder

COLUMNS = ("TFLOP", "kernels", "layout conversions", "fp32 element-wise GB", "GB not matrix", "predicted ms")


def figures(kernels: Iterable[Kernel]) -> dict[str, float]:
    """The columns' values of some kernels."""
    found = list(kernels)
    plain = [k for k in found if not k.matrix]
    return dict(
        zip(
            COLUMNS,
            (
                sum(k.flop for k in found) / 1e12,
                sum(k.launches for k in found),
                sum(k.launches for k in found if k.converts),
                sum(k.wide for k in plain) / 1e9,
                sum(k.bytes for k in plain) / 1e9,
                sum(k.us for k in found) / 1e3,
            ),
            strict=True,
        )
    )


def by_part(recorder: Recorder) -> dict[str, dict[str, float]]:
    """Part and pass -> figures; `all` last."""
    rows = {
        f"{part}, {'backward' if backward else 'forward'}": figures(kernels)
        for (part, backward), kernels in recorder.kernels.items()
        if kernels
    }
    return {**rows, "all": figures(k for kernels in recorder.kernels.values() for k in kernels)}


def rounded(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """For files: nine decimals, so that a byte is seen."""
    return {part: {name: round(value, 9) for name, value in row.items()} for part, row in rows.items()}


def markdown(rows: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["| part | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for part, row in rows.items():
        values = [f"{row[c]:.0f}" if c in COLUMNS[1:3] else f"{row[c]:.2f}" for c in COLUMNS]
        lines.append(f"| {part} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def memory(recorder: Recorder) -> dict[str, float]:
    """GB by holder at the peak, and their sum."""
    held = {kind: count / 1e9 for kind, count in recorder.memory.peak.items() if count > 0}
    return {**held, "peak": sum(held.values())}


def longest(recorder: Recorder, top: int = 40) -> str:
    """The operators that take longest, of all parts."""
    spent: Counter[tuple[Any, ...]] = Counter()
    launches: Counter[tuple[Any, ...]] = Counter()
    for (part, backward), kernels in recorder.kernels.items():
        for k in kernels:
            key = (part, "bw" if backward else "fw", k.name, k.kind, k.shape)
            spent[key] += k.us  # type: ignore[assignment]
            launches[key] += k.launches
    lines = [
        f"{us / 1e3:8.3f} ms {launches[key]:5d} x  {' | '.join(map(str, key))}"
        for key, us in spent.most_common(top)
    ]
    return "\n".join(lines) + "\n"

"""The table of candidates: what each should bring, what every gate without a GPU says of it, and what a card measured.

    TRITON_INTERPRET=1 python -m bench.candidates.oracle     judges the kernels, writes candidates_oracle.json
    python -m bench.candidates.table                         writes bench/results/candidates.md

Columns: the arithmetic and its prediction (`predictions.py`); the error against the oracle in the interpreter, in
fp16; the compile gate for sm_90 (`bench/results/aot.json`): registers, stack and shared memory of the largest kernel;
the time that a card measured (`bench/results/<gpu>/gpu.json`), otherwise `unmeasured`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import RESULTS
from bench.candidates.predictions import CANDIDATES, SUM, Candidate

FILE, ORACLE = RESULTS / "candidates.md", RESULTS / "candidates_oracle.json"
TARGET = 90
HEAD = (
    "candidate", "op, shapes", "instead of", "arithmetic", "predicted", "error, fp16, interpreted",
    "compile gate, sm_90", "on a card",
)  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """What the compiler said of a candidate's kernels: the largest of each."""

    kernels: int
    registers: int
    stack: int
    shared: int

    def __str__(self) -> str:
        if not self.kernels:
            return "not compiled"
        spilled = "no spill" if not self.stack else f"**{self.stack} B spilled**"
        shared = f"{self.shared / 1024:.0f} KB shared"
        return f"{self.kernels} kernels, at most {self.registers} registers, {spilled}, {shared}"


def gate_of(candidate: Candidate, rows: Iterable[Mapping[str, Any]]) -> Gate | None:
    """Of the kernels that a candidate names; None where it names none (a library's)."""
    if not candidate.kernels:
        return None
    mine = [
        row
        for row in rows
        if row["target"] == TARGET
        and any(row["op"] == folder and name in ("*", row["kernel"]) for folder, name in candidate.kernels)
    ]
    most = {name: max((row[name] for row in mine), default=0) for name in ("registers", "stack", "shared")}
    return Gate(len(mine), **most)


def oracle_of(candidate: Candidate, found: Mapping[str, Mapping[str, str]]) -> str:
    """The judge's words on a candidate in the interpreter; what is a library's has none there."""
    if candidate.backend is None:
        return candidate.proven
    words = found.get(candidate.op, {}).get(candidate.backend)
    return (
        f"{words}; {candidate.proven}"
        if words and candidate.proven
        else words or candidate.proven or "not judged"
    )


def measured(candidate: Candidate, folder: Path = RESULTS) -> str:
    """What cards measured: every row of a result file whose op and contender are this candidate's."""
    told = []
    for path in sorted(folder.glob("*/gpu.json")):
        for row in json.loads(path.read_text()).get("rows", []):
            timing = row.get("timing")
            if (
                row.get("contender") == candidate.contender
                and row.get("case", "").startswith(candidate.case)
                and timing
            ):
                told.append(f"{path.parent.name}: {row['case']}: {1e6 * timing['p50']:.2f} us")
    return "; ".join(told) or "unmeasured"


def markdown(candidates: Iterable[Candidate] = CANDIDATES) -> str:
    """The table for people."""
    rows = json.loads((RESULTS / "aot.json").read_text())["rows"]
    found = json.loads(ORACLE.read_text()) if ORACLE.exists() else {}
    lines = [
        "# Candidates: predicted, proven without a GPU, measured or not",
        "",
        "Written by `python -m bench.candidates.table`. Predictions are arithmetic, not measurements: generation in us"
        " an image of base size in fp16 at batch 256, training in ms a step of base size at batch 128, both on an H200."
        " What loses twice in the contest (`python -m bench.gpu --only choice`) is deleted.",
    ]
    for kind in dict.fromkeys(c.kind for c in candidates):
        lines += [
            "",
            f"## {kind.capitalize()}",
            "",
            f"| {' | '.join(HEAD)} |",
            "|" + "---|" * len(HEAD),
        ]
        for c in (c for c in candidates if c.kind == kind):
            gate = gate_of(c, rows)
            cells = [
                f"`{c.name}`", f"`{c.op}`: {c.shapes}", c.replaces, c.arithmetic, c.predicted, oracle_of(c, found),
                str(gate or ("a library's" if c.backend else "no kernel of its own")), measured(c),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "## In sum", SUM])


def main() -> int:
    FILE.write_text(markdown())
    print(f"written: {FILE.relative_to(RESULTS.parent.parent)}, {len(CANDIDATES)} candidates")
    return 0


if __name__ == "__main__":
    sys.exit(main())

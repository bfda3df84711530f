"""Pictures of a result file: the ladder, and the kernels against the ceilings measured in the same run.

    python -m bench.plots bench/results/nvidia-h200/gpu.json      ladder and roofline, PNG and SVG, beside it

Only what stands in the file is drawn: rows whose check failed are left out and counted in the title. A rehearsal's
pictures say across the middle that they are none of a GPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LADDER = "ladder, device only"
MARKS = {"ladder, bytes on the host": "o", "ladder, null writer": "x"}
SUFFIXES = ("png", "svg")
Table = dict[str, Any]


def timed(table: Table, section: str | None = None) -> list[Table]:
    """Rows that passed and were timed."""
    return [
        row for row in table["rows"] if row["passed"] and row["timing"] and section in (None, row["section"])
    ]


def rate(row: Table, what: str) -> float:
    """`items`, `flop` or `bytes` a second."""
    return float(row[what]) / float(row["timing"]["p50"])


def _head(table: Table, what: str, failed: int) -> str:
    environment = table["environment"]
    where = environment.get("gpu") or environment.get("cpu") or "unknown machine"
    words = f"{what}\n{where}, torch {environment.get('torch', '?')}\ncommit {environment.get('commit', '?')}"
    return words + (f"\n{failed} failed rows not drawn" if failed else "")


def _finish(figure: Any, table: Table, folder: Path, name: str) -> list[Path]:
    import matplotlib.pyplot as plt

    if "NOT a measurement" in table["title"]:
        figure.text(
            0.5, 0.5, "REHEARSAL ON A CPU\nnot a measurement", ha="center", va="center", rotation=20,
            fontsize=28, color="red", alpha=0.35,
        )  # fmt: skip
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in SUFFIXES]
    for path in paths:
        figure.savefig(path, dpi=120)
    plt.close(figure)
    return paths


def _axes(rows: int, columns: int = 1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(1, columns, figsize=(9 * columns, 0.42 * rows + 2.0), squeeze=False)


def ladder(table: Table, folder: Path, name: str = "ladder") -> list[Path]:
    """Images/s of every rung: bars for the device alone, marks with the host and with the null writer."""
    rows = timed(table, LADDER)
    if not rows:
        return []
    failed = sum(r["section"] == LADDER and not r["passed"] for r in table["rows"])
    figure, ((axes,),) = _axes(len(rows))
    names = [row["contender"] for row in rows]
    bars = axes.barh(names, [rate(row, "items") for row in rows], color="#4477aa", label="device only")
    axes.bar_label(bars, fmt="%.4g", padding=3, fontsize=8)
    for section, mark in MARKS.items():
        found = [row for row in timed(table, section) if row["contender"] in names]
        if found:
            axes.plot(
                [rate(row, "items") for row in found], [row["contender"] for row in found], mark,
                color="black", label=section.removeprefix("ladder, "),
            )  # fmt: skip
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("images/s")
    axes.legend(fontsize=8)
    axes.set_title(_head(table, "One change a rung, the same weights", failed), fontsize=10)
    return _finish(figure, table, folder, name)


def roofline(table: Table, folder: Path, name: str = "roofline") -> list[Path]:
    """Left: forward ops with products, FLOP/s over FLOP a byte, under the two ceilings. Right: those without, as
    a share of the copy ceiling."""
    rows = [row for row in timed(table) if row["section"].endswith(", forward") and row["bytes"]]
    copy, product = (table["ceilings"].get(k) for k in ("copy bytes/s", "matmul FLOP/s"))
    if not rows or not copy or not product:
        return []
    failed = sum(r["section"].endswith(", forward") and not r["passed"] for r in table["rows"])
    dense = [row for row in rows if row["flop"]]
    thin = [row for row in rows if not row["flop"]]
    figure, ((left, right),) = _axes(max(12, len(thin)), 2)
    points = [row["flop"] / row["bytes"] for row in dense] or [1.0]
    low, high = min(points) / 4, max(*points, product / copy) * 4
    edge = product / copy
    left.loglog([low, edge, high], [low * copy, product, product], color="black", label="measured ceilings")
    for contender in dict.fromkeys(row["contender"] for row in dense):
        mine = [row for row in dense if row["contender"] == contender]
        left.loglog(
            [row["flop"] / row["bytes"] for row in mine], [rate(row, "flop") for row in mine],
            "*" if contender == "triton" else ".", markersize=12 if contender == "triton" else 7, label=contender,
        )  # fmt: skip
    left.set_xlabel("FLOP a byte (inputs and outputs once)")
    left.set_ylabel("FLOP/s")
    left.legend(fontsize=7)
    left.set_title(_head(table, "Kernels under the ceilings of the same run", failed), fontsize=10)
    labels = [f"{row['section'].removesuffix(', forward')} {row['case']}: {row['contender']}" for row in thin]
    colours = ["#ee6677" if row["contender"] == "triton" else "#bbbbbb" for row in thin]
    right.barh(labels, [100 * rate(row, "bytes") / copy for row in thin], color=colours)
    right.axvline(100, color="black")
    right.invert_yaxis()
    right.tick_params(axis="y", labelsize=7)
    right.set_xlabel("% of the measured copy bandwidth")
    return _finish(figure, table, folder, name)


def draw(path: Path) -> list[Path]:
    """Both pictures of a result file, beside it; what the file has no rows for is left out."""
    table = json.loads(path.read_text())
    return [*ladder(table, path.parent), *roofline(table, path.parent)]


def main(arguments: list[str]) -> int:
    made = [path for name in arguments for path in draw(Path(name))]
    for path in made:
        print(path)
    if not made:
        print("nothing to draw: give a gpu.json with ladder or kernel rows", file=sys.stderr)
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

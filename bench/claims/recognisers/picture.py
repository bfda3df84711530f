"""The result as a table in Markdown and as a curve over the number of identities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats


def ordered(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows by source and size: rendered first."""
    return sorted(record["rows"].values(), key=lambda row: (row["source"] != "rendered", row["identities"]))


def table(record: dict[str, Any]) -> str:
    """Accuracies in percent, one line a training set."""
    names = list(record["emphases"])
    head = ["training set", "identities", "images", *names, "average"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in ordered(record):
        cells = [row["source"], f"{row['identities']:,}", f"{row['images']:,}"]
        cells += [f"{row['accuracy'][name]:.1f}" for name in names] + [
            f"**{row['average']:.1f}**{_range(row)}"
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _range(row: dict[str, Any]) -> str:
    seeds = row.get("averages", [])
    return f" ({min(seeds):.1f} to {max(seeds):.1f})" if len(seeds) > 1 else ""


def gap(record: dict[str, Any]) -> str:
    """How far generated people stay behind as many rendered ones, in points, with Welch's 95 % interval over seeds.

    The interval says what other seeds of the recogniser would bring; people and test pairs are the same in all.
    """
    sides = []
    for source in ("rendered", "generated"):
        row = next(row for row in ordered(record) if row["source"] == source)
        sides.append((row["identities"], np.asarray(row.get("averages", [row["average"]]), np.float64)))
    (count, real), (_, made) = sides
    text = f"gap at {count:,} identities: {real.mean() - made.mean():.2f} points"
    if min(len(real), len(made)) < 2:
        return f"{text} (one training of each: no interval)"
    low, high = stats.ttest_ind(real, made, equal_var=False).confidence_interval(0.95)
    return f"{text} (95 % interval {low:.2f} to {high:.2f}, {len(real)} and {len(made)} trainings)"


def figure(record: dict[str, Any], path: Path) -> None:
    """Average and single accuracies of the generated sets over their identities, beside the rendered set's."""
    from matplotlib.figure import Figure

    rows = ordered(record)
    made = [row for row in rows if row["source"] == "generated"]
    real = [row for row in rows if row["source"] == "rendered"]
    canvas = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = canvas.subplots()
    x = [row["identities"] for row in made]
    for name in record["emphases"]:
        axes.plot(x, [row["accuracy"][name] for row in made], linewidth=1, alpha=0.55, marker=".", label=name)
    axes.plot(x, [row["average"] for row in made], color="black", linewidth=2.5, marker="o", label="average")
    for row in real:
        axes.axhline(row["average"], color="black", linestyle="--", linewidth=1)
        axes.annotate(
            f"rendered people, {row['identities']:,} identities: {row['average']:.1f} %",
            (0.98, row["average"]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{n:,}" for n in x])
    axes.minorticks_off()
    axes.set_xlabel("generated identities trained on, same number of steps")
    axes.set_ylabel("verification accuracy, %")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    canvas.savefig(path, dpi=130)

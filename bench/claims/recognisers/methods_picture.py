"""The methods as a table in Markdown, and as a plot of their accuracies beside rendered people's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

RENDERED = "rendered people"


def ordered(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(name, row): rendered people, then the best first."""
    rows = record["rows"].items()
    return sorted(rows, key=lambda row: (row[0] != RENDERED, -row[1]["average"]))


def difference(better: list[float], worse: list[float]) -> str:
    """Points by which one is above the other, with Welch's 95 % interval where both have several trainings."""
    points = f"{np.mean(better) - np.mean(worse):.2f}"
    if min(len(better), len(worse)) < 2:
        return points
    low, high = stats.ttest_ind(better, worse, equal_var=False).confidence_interval(0.95)
    return f"{points} ({low:.2f} to {high:.2f})"


def table(record: dict[str, Any]) -> str:
    """One line a method: accuracy in percent, the gap to rendered people in points, single tests, what the extractor
    sees."""
    names = list(record["emphases"])
    head = ["training set", "average", "gap", "trainings", *names, "pair cosine", "own EER"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    real = record["rows"].get(RENDERED, {}).get("averages", [])
    for name, row in ordered(record):
        made = row["averages"]
        cells = [name, f"**{row['average']:.1f}** ({min(made):.1f} to {max(made):.1f})"]
        cells += ["" if name == RENDERED or not real else difference(real, made), f"{len(made)}"]
        cells += [f"{row['accuracy'][test]:.1f}" for test in names]
        cells += [f"{row['pair_cosine']:.3f}", f"{row['own_eer']:.2%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(record: dict[str, Any], path: Path) -> None:
    """Trainings as dots, their mean and its 95 % interval, a line a method; rendered people as a band."""
    from matplotlib.figure import Figure

    rows = ordered(record)[::-1]
    canvas = Figure(figsize=(8, 1.4 + 0.32 * len(rows)), layout="constrained")
    axes = canvas.subplots()
    for place, (name, row) in enumerate(rows):
        values = np.asarray(row["averages"])
        colour = "black" if name == RENDERED else "tab:blue"
        if len(values) > 1:
            reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
            axes.errorbar(values.mean(), place, xerr=reach, color=colour, capsize=3, linewidth=1.2)
        axes.plot(values, np.full(len(values), place), "o", color=colour, alpha=0.35, markersize=5)
        axes.plot(values.mean(), place, "|", color=colour, markersize=13, markeredgewidth=2.5)
        if name == RENDERED:
            axes.axvspan(values.min(), values.max(), color="black", alpha=0.08)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_xlabel(
        "mean verification accuracy over seven tests, %; dots: trainings, bars: 95 % of their mean"
    )
    axes.grid(axis="x", alpha=0.25)
    size = record["settings"]
    axes.set_title(
        f"{size['identities']} people x {size['images']} images, {size['steps']:,} steps", fontsize=10
    )
    canvas.savefig(path, dpi=130)

"""Loss curves of a training as one PNG: a panel a term, with the validation beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from v2f_engine.errors import ConfigError
from v2f_engine.train.loop import LOG, read_log

VALIDATION = "validation.jsonl"
COLUMNS = 4
LOSS, HELD_OUT = "#0072b2", "#d55e00"
"""Blue and vermilion of Okabe and Ito: told apart by readers with any colour vision."""


def plot_curves(folder: Path) -> Path:
    """Draws `folder/curves.png` from `log.jsonl` and, where there is one, `validation.jsonl`.

    Raises:
        ConfigError: no lines to draw.
    """
    from matplotlib.figure import Figure

    panels = [(name, xs, ys, LOSS) for name, (xs, ys) in _series(folder / LOG).items()]
    held_out = folder / VALIDATION
    if held_out.exists():
        panels += [(f"held out: {n}", xs, ys, HELD_OUT) for n, (xs, ys) in _series(held_out).items()]
    if not panels:
        raise ConfigError(f"{folder / LOG} holds no lines yet: nothing to draw.")
    rows = math.ceil(len(panels) / COLUMNS)
    height = 2.4 * rows
    figure = Figure(figsize=(3.4 * COLUMNS, height))  # a constrained layout takes three times as long to draw
    figure.subplots_adjust(0.05, 0.45 / height, 0.99, 1 - 0.3 / height, wspace=0.22, hspace=0.45)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for place, (name, xs, ys, colour) in zip(axes, panels, strict=False):
        place.plot(xs, ys, color=colour, linewidth=1, marker="." if len(xs) < 40 else None, markersize=3)
        place.set_title(name, fontsize=9)
        place.grid(alpha=0.25)
        place.tick_params(labelsize=7)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    for place in axes[max(0, len(panels) - COLUMNS) : len(panels)]:
        place.set_xlabel("step", fontsize=8)
    path = folder / "curves.png"
    temporary = folder / ".curves.tmp.png"
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)
    return path


def _series(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Name -> (steps, values) of every number in a log but the step itself."""
    if not path.exists():
        return {}
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in read_log(path):
        for name, value in _numbers(line).items():
            xs, ys = found.setdefault(name, ([], []))
            xs.append(int(line["step"]))
            ys.append(value)
    return found


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in line.items() if k != "step" and isinstance(v, int | float)}

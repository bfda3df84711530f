"""Charts as SVG: lines and histograms whose colours are the page's variables, so one drawing suits light and dark.

Coordinates are of a 640 x 300 drawing that scales with its column; text is 13 units, 11 pixels on a phone of 390.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 330
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 34, 56


@dataclass(frozen=True)
class Axis:
    """One axis.

    Args:
        label: below or beside it.
        low, high: ends, in the values drawn.
        log: decades instead of even steps.
        tick: how a value is written.
    """

    label: str
    low: float
    high: float
    log: bool = False
    tick: Callable[[float], str] = field(default=lambda value: f"{value:g}")

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; clipped."""
        if self.log:
            value, low, high = (math.log10(max(v, 1e-300)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """About five round values, or the decades."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
        count = int((self.high - self.low) / step + 1e-9)
        start = math.ceil(self.low / step - 1e-9) * step
        found = [round(start + step * n, 12) for n in range(count + 2)]
        return [value for value in found if value <= self.high + step * 1e-6]


@dataclass(frozen=True)
class Series:
    """A line, or with `fill` an area down to zero.

    Args:
        name: in the legend.
        x, y: points.
        colour: a CSS colour or variable.
        fill, dashed: how it is drawn.
    """

    name: str
    x: Sequence[float] | NDArray[np.float64]
    y: Sequence[float] | NDArray[np.float64]
    colour: str
    fill: bool = False
    dashed: bool = False


def area(name: str, outline: Sequence[Sequence[float]], colour: str) -> Series:
    """A filled series from (x, y) as `histogram` gives them."""
    x, y = outline
    return Series(name, x, y, colour, fill=True)


@dataclass(frozen=True)
class Mark:
    """A vertical line at `x` with a word at its top."""

    x: float
    name: str


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark] = ()) -> str:
    """The SVG of lines and areas, with axes, grid, marks and a legend below in HTML.

    Args:
        title: read aloud by screen readers.
    """
    parts = [
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    ]
    parts += _grid(x, y)
    for line in series:
        parts.append(_path(line, x, y))
    for number, mark in enumerate(marks):
        at = _across(x, mark.x)
        level = TOP + 12 + 22 * (number % 4)
        anchor, shift = ("end", -5) if at > WIDTH * 0.72 else ("start", 5)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        at_text = f'x="{at + shift:.1f}" y="{level}" text-anchor="{anchor}"'
        parts.append(f'<text class="markname" {at_text}>{escape(mark.name)}</text>')
    parts.append("</svg>")
    if any(line.name for line in series):
        keys = "".join(
            f'<span><i style="background:{line.colour}"></i>{escape(line.name)}</span>'
            for line in series
            if line.name
        )
        parts.append(f'<figcaption class="legend">{keys}</figcaption>')
    parts.append("</figure>")
    return "".join(parts)


def _across(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _up(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for value in x.ticks():
        at = _across(x, value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x.tick(value)}</text>'
        )
    for value in y.ticks():
        at = _up(y, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{y.tick(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x.label)}</text>'
    )
    parts.append(f'<text class="axis" x="0" y="{TOP - 14}">{escape(y.label)}</text>')
    return parts


def _path(line: Series, x: Axis, y: Axis) -> str:
    points = [(_across(x, a), _up(y, b)) for a, b in zip(line.x, line.y, strict=True)]
    if not points:
        return ""
    text = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    if line.fill:
        floor = HEIGHT - BOTTOM
        text += f"L{points[-1][0]:.1f} {floor}L{points[0][0]:.1f} {floor}Z"
        return f'<path d="{text}" fill="{line.colour}" fill-opacity=".38" stroke="{line.colour}"/>'
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    return f'<path d="{text}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>'


def histogram(
    values: NDArray[np.floating], low: float, high: float, bins: int = 80
) -> tuple[list[float], list[float]]:
    """(x, density) of the outline of a histogram, two points a bin."""
    counts, edges = np.histogram(np.clip(values, low, high), bins, (low, high))
    density = counts / max(1, counts.sum()) / (edges[1] - edges[0])
    return np.repeat(edges, 2)[1:-1].tolist(), np.repeat(density, 2).tolist()

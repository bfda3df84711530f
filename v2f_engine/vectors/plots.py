"""Pictures of plans and measurements, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from v2f_engine.errors import OutputFolderError

if TYPE_CHECKING:
    from v2f_engine.vectors.packing import Packing
    from v2f_engine.vectors.planner import IdentityPlan
    from v2f_engine.vectors.proof import Proof
    from v2f_engine.vectors.separability import SeparabilityCurve


def plot_saturation(plan: IdentityPlan, path: str | Path) -> None:
    """Expected identities against candidates, with the request and the budget.

    Raises:
        OutputFolderError: the file cannot be written.
    """
    figure, axes = _axes("candidates drawn", "identities kept")
    drawn, kept = plan.curve()
    axes.loglog(drawn, drawn, color="0.7", linestyle=":", label="nothing rejected")
    axes.loglog(drawn, kept, label=f"{plan.source}, cosine < {plan.max_cosine:g}")
    axes.axhline(plan.identities, color="C2", linewidth=1, label=f"asked for: {plan.identities:,}")
    axes.axvline(plan.max_candidates, color="C3", linewidth=1, label=f"budget: {plan.max_candidates:,}")
    pilot = plan.pilot
    axes.plot(pilot.rows, pilot.kept, "k.", label=f"pilot: {pilot.kept:,} of {pilot.rows:,}")
    axes.set_title(f"p = {pilot.p:.3g}, dimension {pilot.cosine_dimension:.0f}")
    _write(figure, axes, path)


def plot_separability(curves: Mapping[str, SeparabilityCurve], path: str | Path) -> None:
    """Unique identities among the first N for each named table, as in the publication.

    Raises:
        OutputFolderError: the file cannot be written.
    """
    figure, axes = _axes("identities N", "unique among the first N")
    longest = max(int(curve.first[-1]) for curve in curves.values())
    axes.plot([0, longest], [0, longest], color="0.7", linestyle=":", label="all unique")
    for name, curve in curves.items():
        label = f"{name}: {int(curve.unique[-1]):,} of {int(curve.first[-1]):,}"
        axes.plot([0, *curve.first], [0, *curve.unique], label=label)
    limits = " / ".join(f"{t:.2f}" for t in sorted({curve.threshold for curve in curves.values()}))
    axes.set_title(f"repeat: cosine above {limits} to an earlier identity")
    _write(figure, axes, path)


def plot_proof(proof: Proof, path: str | Path) -> None:
    """Nearest other identity's cosine before and after, and what every round made and kept.

    Raises:
        OutputFolderError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    lowest = float(min(c.nearest.min() for c in (proof.before, proof.after)))
    highest = max(proof.max_cosine, *(float(c.nearest.max()) for c in (proof.before, proof.after)))
    bins = np.linspace(lowest, highest, 120)
    for name, found, colour in (("before", proof.before, "#d55e00"), ("after", proof.after, "#0072b2")):
        label = f"{name}: {found.repeated:,} of {found.identities:,} collide"
        left.hist(found.nearest, bins, alpha=0.55, color=colour, label=label)
    left.axvline(
        proof.max_cosine, color="0.3", linestyle="--", linewidth=1, label=f"threshold {proof.max_cosine:.3f}"
    )
    left.set(xlabel="cosine of the faces to the most similar other identity", ylabel="identities")
    made = np.cumsum([0, *(r.made for r in proof.rounds)])
    right.plot(made, [0, *(r.kept for r in proof.rounds)], "o-", color="#0072b2", label="kept, by rounds")
    drawn = np.geomspace(10, max(made[-1], proof.identities) * 1.1, 200)
    predicted = [proof.plan.pilot.predicted(float(n)) for n in drawn]
    right.plot(drawn, predicted, color="0.5", linestyle=":", label="predicted after round 1")
    right.axhline(proof.identities, color="C2", linewidth=1, label=f"asked for: {proof.identities:,}")
    right.set(xlabel="identities made into images", ylabel="identities kept")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize=8)
    _save(figure, path)


def plot_packing(packed: Packing, path: str | Path) -> None:
    """Cosine to the nearest other before and after, and what every look at all pairs found.

    Raises:
        OutputFolderError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    both = (("before", packed.before, "#d55e00"), ("after", packed.after, "#0072b2"))
    bins = np.linspace(min(float(c.min()) for _, c, _ in both), float(packed.before.max()), 120)
    for name, cosines, colour in both:
        label = f"{name}: worst {cosines.max():.4f}, mean {cosines.mean():.4f}"
        left.hist(cosines, bins, alpha=0.55, color=colour, label=label)
    left.axvline(packed.target, color="0.3", linestyle="--", linewidth=1, label=f"target {packed.target:.4f}")
    left.set(xlabel="cosine to the most similar other identity", ylabel="identities")
    steps = [point.step for point in packed.curve]
    right.plot(steps, [point.worst for point in packed.curve], "o-", color="#0072b2", label="worst cosine")
    right.plot(
        steps, [point.mean for point in packed.curve], "o-", color="#56b4e9", label="mean to the nearest"
    )
    right.axvline(packed.step, color="0.3", linestyle="--", linewidth=1, label=f"kept: step {packed.step}")
    right.set(xlabel="steps", ylabel="cosine")
    beside = right.twinx()
    beside.plot(steps, [point.typicality for point in packed.curve], color="#009e73", label="distance")
    middle = packed.typicality[0]
    beside.set_ylim(middle - 1.5 * packed.spread, middle + 1.5 * packed.spread)
    beside.set_ylabel(
        f"mean Mahalanobis' distance (one candidate's: +- {packed.spread:.2f})", color="#009e73"
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize=8)
    _save(figure, path)


def _axes(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _write(figure: Any, axes: Any, path: str | Path) -> None:
    axes.legend(loc="upper left")
    _save(figure, path)


def _save(figure: Any, path: str | Path) -> None:
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise OutputFolderError(f"{path}: cannot be written ({error.strerror}).") from error

"""Identities moved apart after rejection: those too near push each other off, held where their source draws people.

Rejection keeps what candidates happen to be far enough apart; a set that may move does better. That identities can be
packed on the sphere by gradient descent, with a regulariser that keeps them among real embeddings, is the idea of
HyperFace (Shahreza and Marcel, ICLR 2025, arXiv 2411.08470). How: `packing_steps.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.arguments import COUNT, FUNCTION, GALLERY, NUMBER, VECTORS_OR_PATH, WORD, takes
from v2f_engine.atomic import write_atomically
from v2f_engine.config import between
from v2f_engine.errors import ConfigError
from v2f_engine.vectors.identities import Identities, table_of
from v2f_engine.vectors.likelihood import Likelihood
from v2f_engine.vectors.nearest import nearest_other
from v2f_engine.vectors.neighbours import TILE
from v2f_engine.vectors.packing_request import asked_of, bounded
from v2f_engine.vectors.packing_steps import Point, Progress, Steps
from v2f_engine.vectors.sources import VectorSource
from v2f_engine.vectors.spherical_codes import least_worst_cosine
from v2f_engine.vectors.statistics import Statistics

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

METHOD = "v2f-packing/1"
STEPS, PULL, DRIFT = 20, 0.02, 1.0
"""Defaults: of 1,000 of `mini` the worst cosine is then within 0.002 of the target (0.4217 for 0.4202)."""
DROP = 0.07
"""How far below the worst cosine the target lies unless said otherwise."""


@dataclass(frozen=True, eq=False)
class Packing:
    """A packed table and what was found on the way.

    Args:
        table: the identities, with a provenance that says so.
        step: steps behind it; 0 where no arrangement was better than the given one.
        target: the cosine that was aimed at.
        curve: every look at all pairs.
        before, after: float64 `[N]`, exact cosine of each identity to its nearest other.
        typicality: mean Mahalanobis' distance before and after.
        spread: standard deviation of one candidate's distance.
        stayed: float64 `[N]`, cosine of each identity to where it began.
        bound: no N directions in D dimensions have a smaller worst cosine.
        dimension, guide: the source's effective dimension, and that bound there, which holds for no set that leaves it.
    """

    table: Identities
    step: int
    target: float
    curve: tuple[Point, ...]
    before: Float64
    after: Float64
    typicality: tuple[float, float]
    spread: float
    stayed: Float64
    bound: float
    dimension: float
    guide: float

    def lines(self) -> list[str]:
        """What happened, for people, a fact a line."""
        (first, last), dimension = self.typicality, self.table.shape[1]
        moved = round((last - first) / self.spread, 2) + 0.0  # without it -0.00
        kept = f"step {self.step} of {self.curve[-1].step}" if self.step else "as given: no step was better"
        return [
            f"worst    {self.before.max():.4f} -> {self.after.max():.4f} (target {self.target:.4f}), {kept}",
            f"mean     {self.before.mean():.4f} -> {self.after.mean():.4f}, of each identity to its nearest other",
            f"typical  mean distance {first:.3f} -> {last:.3f}, {moved:+.2f} spreads of one "
            f"candidate's ({self.spread:.2f}); cosine to the start {self.stayed.mean():.4f} in the mean, "
            f"{self.stayed.min():.4f} at least",
            f"bound    no {len(self.table):,} directions in {dimension} dimensions stay below {self.bound:.4f}; in the "
            f"source's {self.dimension:.1f} effective ones it would be {self.guide:.4f}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the vectors."""
        return {
            "identities": len(self.table),
            "step": self.step,
            "target": self.target,
            "worst_cosine": [float(self.before.max()), float(self.after.max())],
            "mean_nearest_cosine": [float(self.before.mean()), float(self.after.mean())],
            "mean_mahalanobis": list(self.typicality),
            "spread_of_mahalanobis": self.spread,
            "cosine_to_start": {"mean": float(self.stayed.mean()), "least": float(self.stayed.min())},
            "bound": self.bound,
            "effective_dimension": self.dimension,
            "bound_at_effective_dimension": self.guide,
            "curve": [asdict(point) for point in self.curve],
            "table_hash": self.table.table_hash,
        }


def pack_identities(
    table: Identities | str | Path | NDArray[Any],
    *,
    source: str | Path | Statistics | VectorSource = "auto",
    steps: int = STEPS,
    target: float | None = None,
    pull: float = PULL,
    max_drift: float = DRIFT,
    exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
    device: str = "cpu",
    block: int = TILE,
    progress: Progress | None = None,
) -> Identities:
    """The same identities further apart: `packing(...).table`; arguments and errors as there."""
    return packing(
        table,
        source=source,
        steps=steps,
        target=target,
        pull=pull,
        max_drift=max_drift,
        exclude=exclude,
        device=device,
        block=block,
        progress=progress,
    ).table


@takes(
    table=VECTORS_OR_PATH, steps=COUNT, target=NUMBER, pull=NUMBER, max_drift=NUMBER, exclude=GALLERY, device=WORD,
    block=COUNT, progress=FUNCTION,
)  # fmt: skip
def packing(
    table: Identities | str | Path | NDArray[Any],
    *,
    source: str | Path | Statistics | VectorSource = "auto",
    steps: int = STEPS,
    target: float | None = None,
    pull: float = PULL,
    max_drift: float = DRIFT,
    exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
    device: str = "cpu",
    block: int = TILE,
    progress: Progress | None = None,
) -> Packing:
    """Moves identities apart until no two are as similar as a target, or the steps are used up.

    The worst and the mean cosine to the nearest other are never larger than before. Lengths stay, to a float32's
    rounding; so do keys and candidates: row i is whom row i was, moved. A look at all N identities is N^2 D operations
    (each pair once: N^2 D / 2 products and as many additions), and there are steps / 5 + 1 of them: 10,000 of 512 are
    5.1e10 a look, a million 5.1e14. Memory beside the table is three times its size, 128 MiB for a block of cosines,
    and 24 bytes a watched pair.

    Args:
        table: sampled identities, float32 `[N, D]`, N >= 2, D <= 1024, or their file; vectors that nobody drew, too.
        source: what they were drawn from: `"auto"` finds the Gaussian, `mini`'s statistics and those of the model that
            the table names; a file of `v2f ids fit` has to be named again. Vectors that nobody drew need one, too.
        steps: at most.
        target: cosine that no two shall exceed; 0.07 below the table's worst by default.
        pull: share of its way back to where it was drawn that the first step moves each vector; 0 leaves all free.
        max_drift: how far the mean Mahalanobis' distance may go from where it began, in standard deviations of one
            candidate's own; what lies beyond is not kept, and ends the steps.
        exclude: the real people that the table was kept apart from, the same rows in the same order, or others. Whoever
            would come to resemble one stays where he began.
        device: torch's name of what computes the products of all pairs; the rest is the host's.
        block: rows and columns of those at a time.
        progress: called with (steps done, steps).

    Raises:
        VectorError: a table proven on its faces, rescaled or of groups; two identities of one direction, which no push
            parts; identities that resemble an excluded person already.
        ConfigError: a source that is not the table's or is not known; real people who are missing or not the same;
            options out of range; a target that the table meets already, or below what is possible.
        SaturationError: a target with more than 256 pairs an identity above it.
    """
    table, device = table_of(table), bounded(steps, pull, max_drift, block, device)
    asked = asked_of(table, source, exclude)
    likely = Likelihood.of(asked.source)
    before = nearest_other(table.vectors)
    bound = least_worst_cosine(len(table), table.shape[1])
    aim = aim_of(target, float(before.max()), bound)
    run = Steps(table.vectors, likely, asked.shield, aim, steps, pull, max_drift, device, block)
    best, best_step = run.to_the_end(progress)
    after = nearest_other(best) if best_step else before
    if after.max() > before.max() or after.mean() > before.mean():  # rounded cosines had it otherwise
        best, best_step, after = table.vectors, 0, before
    about = {
        "method": METHOD,
        "from": table.table_hash,
        "statistics": asked.source.sha256,
        "target": aim,
        "steps": steps,
        "pull": pull,
        "max_drift": max_drift,
        "step": best_step,
        "worst_cosine": [float(before.max()), float(after.max())],
    }
    if "packed" in table.provenance:
        about["before"] = table.provenance["packed"]
    provenance = {**table.provenance, "packed": about}
    if asked.shield is not None:
        provenance["exclude"] = asked.shield.describe()
    dimension = asked.dimension
    return Packing(
        table=replace(table, vectors=best, provenance=provenance),
        step=best_step,
        target=aim,
        curve=tuple(run.curve),
        before=before,
        after=after,
        typicality=(likely.mean_distance(table.vectors), likely.mean_distance(best)),
        spread=likely.spread,
        stayed=_cosines(table.vectors, best),
        bound=bound,
        dimension=dimension,
        guide=least_worst_cosine(len(table), max(2, round(dimension))),
    )


def save_curve(packed: Packing, path: str | Path) -> None:
    """Writes a CSV with a row a look: the fields of `Point`.

    Raises:
        DiskFull, OutputFolderError: it cannot be written.
    """
    names = [one.name for one in fields(Point)]
    rows = [",".join(str(getattr(point, name)) for name in names) for point in packed.curve]
    write_atomically(Path(path), ("\n".join([",".join(names), *rows]) + "\n").encode())


def aim_of(target: float | None, worst: float, bound: float) -> float:
    """The target: as given, or so far below the worst cosine as `DROP` says, and never below what is possible.

    Raises:
        ConfigError: one that is met already, or out of reach.
    """
    if target is None:
        return max(round(worst - DROP, 6), bound)
    between("target", target, -1, 1)
    if target >= worst:
        raise ConfigError(
            f"target: no two identities are as similar as {target:g}: the nearest have {worst:.4f}."
        )
    if target < bound - 1e-9:
        raise ConfigError(
            f"target: {target:g} is out of reach: of so many some two have a cosine of {bound:.4f}."
        )
    return float(target)


def _cosines(one: Float32, other: Float32) -> Float64:
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / lengths)

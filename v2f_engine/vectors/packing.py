"""Identities moved apart after rejection: those too near push each other off, held where their source draws people.

Rejection keeps what candidates happen to be far enough apart; a set that may move does better. That identities can be
packed on the sphere by gradient descent, with a regulariser that keeps them among real embeddings, is the idea of
HyperFace (Shahreza and Marcel, ICLR 2025, arXiv 2411.08470). Here each pair whose cosine c is above a target t costs
(c - t)^2 / 2 and no other pair costs anything. A step moves each vector down that cost in the measure of its source's
statistics (`likelihood.py`), shared among all whom it evades at once, and is drawn back towards where the vector was
drawn by a share that fades to nothing over the steps; then the vector gets back its length. Every few steps all pairs
are looked at anew, and the best arrangement seen there is what comes back: never a worse one than was given.

Everything that decides is whole numbers or one operation an entry, so the same table with the same settings gives the
same bits whatever the block, threads, library or device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.arguments import COUNT, FUNCTION, GALLERY, NUMBER, WORD, takes
from v2f_engine.config import at_least, between
from v2f_engine.errors import ConfigError
from v2f_engine.vectors.exclusion import Exclusion
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.likelihood import Likelihood
from v2f_engine.vectors.nearest import nearest_other
from v2f_engine.vectors.neighbours import TILE, UNIT, Neighbours, codes_of, neighbours_of
from v2f_engine.vectors.packing_request import asked_of
from v2f_engine.vectors.sources import VectorSource
from v2f_engine.vectors.spherical_codes import least_worst_cosine
from v2f_engine.vectors.statistics import Statistics

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Progress = Callable[[int, int], None]

METHOD = "v2f-packing/1"
STEPS, PULL, DRIFT = 20, 0.02, 1.0
"""Defaults: of 1,000 of `mini` the worst cosine is then within 0.002 of the target (0.4217 for 0.4202)."""
DROP = 0.07
"""How far below the worst cosine the target lies unless said otherwise."""
EVERY = 5
"""Steps between two looks at all pairs."""
MARGIN = 0.03
"""How far below the target pairs are watched between two looks; a look moves few of the others above it."""
RATE = 0.5
"""Of a gap that a step closes from either side, were there no other pair."""
SHARED = 0.5
"""Of another neighbour's push that counts against a step's length: who is near one identity is near the others, too."""
NEIGHBOURS = 256
"""Pairs an identity in the mean at most."""
BLOCK = 4096


@dataclass(frozen=True)
class Point:
    """What a look at all pairs found.

    Args:
        step: steps before it.
        worst, mean: largest and mean cosine of an identity to its nearest other, to 1e-4 (`neighbours.py`).
        typicality: mean Mahalanobis' distance to the source's mean.
        above: pairs above the target.
        held: identities that are back where they began, lest they resemble an excluded person.
    """

    step: int
    worst: float
    mean: float
    typicality: float
    above: int
    held: int


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


@takes(
    steps=COUNT, target=NUMBER, pull=NUMBER, max_drift=NUMBER, exclude=GALLERY, device=WORD,
    block=COUNT, progress=FUNCTION,
)  # fmt: skip
def pack_identities(
    table: Identities,
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


def packing(
    table: Identities,
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
    rounding; so do keys and candidates: row i is whom row i was, moved. A look at all N identities is N^2 D operations,
    twice that counted as multiplications and additions, and there are steps / 5 + 1 of them; memory beside the table
    is three times its size, 128 MiB for a block of cosines, and 24 bytes a watched pair.

    Args:
        table: sampled identities, float32 `[N, D]`, N >= 2.
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
        VectorError: a table proven on its faces or rescaled; identities that resemble an excluded person already.
        ConfigError: a source that is not the table's or is not known; real people who are missing or not the same;
            options out of range; a target that the table meets already, or below what is possible.
        SaturationError: a target with more than 256 pairs an identity above it.
    """
    at_least("steps", steps, 1)
    between("pull", pull, 0, 1)
    at_least("max_drift", max_drift, 0)
    at_least("block", block, 1)
    asked = asked_of(table, source, exclude)
    likely = Likelihood.of(asked.source)
    before = nearest_other(table.vectors)
    bound = least_worst_cosine(len(table), table.shape[1])
    aim = _aim(target, float(before.max()), bound)
    run = _Run(table.vectors, likely, asked.shield, aim, steps, pull, max_drift, device, block)
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
        typicality=(_mean(likely, table.vectors), _mean(likely, best)),
        spread=likely.spread,
        stayed=_cosines(table.vectors, best),
        bound=bound,
        dimension=dimension,
        guide=least_worst_cosine(len(table), max(2, round(dimension))),
    )


def _aim(target: float | None, worst: float, bound: float) -> float:
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


def _mean(likely: Likelihood, vectors: Float32) -> float:
    return float(likely.distances(vectors).mean())


def _cosines(one: Float32, other: Float32) -> Float64:
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / lengths)


class _Run:
    """The steps of one packing."""

    def __init__(
        self, start: Float32, likely: Likelihood, shield: Exclusion | None, aim: float, steps: int, pull: float,
        max_drift: float, device: str, block: int,
    ) -> None:  # fmt: skip
        self.start, self.likely, self.shield, self.steps, self.pull = start, likely, shield, steps, pull
        self.aim, self.max_drift, self.device, self.block = aim, max_drift * likely.spread, device, block
        self.whole_aim = int(np.floor(aim * UNIT**2))
        self.now = start.copy()
        self.lengths = np.concatenate([
            np.sqrt((rows * rows).sum(axis=1))
            for rows in (start[at : at + BLOCK].astype(np.float64) for at in range(0, len(start), BLOCK))
        ])  # fmt: skip
        self.stay = np.zeros(len(start), bool)
        self.curve: list[Point] = []

    def to_the_end(self, progress: Progress | None) -> tuple[Float32, int]:
        """The best arrangement seen, and the steps before it."""
        best, best_step, near = self.start, 0, self._look(0)
        first = self.curve[0]
        lowest = first.worst
        for step in range(1, self.steps + 1):
            self._step(near, 1 - (step - 1) / self.steps)
            if progress is not None:
                progress(step, self.steps)
            if step % EVERY and step < self.steps:
                continue
            near = self._look(step)
            point = self.curve[-1]
            if round(abs(point.typicality - first.typicality), 9) > self.max_drift:
                break
            if point.worst < lowest and point.mean <= first.mean:
                best, best_step, lowest = self.now.copy(), step, point.worst
            if not point.above:
                break
        return best, best_step

    def _look(self, step: int) -> Neighbours:
        """All pairs near the target, after whoever resembles an excluded person is back where he began."""
        if self.shield is not None and step:
            passing = np.zeros(len(self.now), bool)
            passing[self.shield.passing(self.now)] = True
            self.stay |= ~passing
            self.now[self.stay] = self.start[self.stay]
        self.codes = codes_of(self.now)
        near = neighbours_of(
            self.codes,
            self.aim - MARGIN,
            most=NEIGHBOURS * len(self.now),
            aim=self.whole_aim,
            device=self.device,
            block=self.block,
        )
        cosines, held = near.cosines, int(self.stay.sum())
        self.curve.append(
            Point(
                step,
                float(cosines.max()),
                float(cosines.mean()),
                _mean(self.likely, self.now),
                near.above,
                held,
            )
        )
        self._fresh = True
        return near

    def _gaps(self, near: Neighbours, row: int) -> tuple[Float32, Float64]:
        """A row's neighbours, and how far each is above the target, in whole numbers."""
        others = self.codes[near.others[near.starts[row] : near.starts[row + 1]]]
        return others, (others @ self.codes[row]).astype(np.float64) - self.whole_aim

    def _step(self, near: Neighbours, faded: float) -> None:
        if not self._fresh:
            self.codes = codes_of(self.now)
        self._fresh = False
        for first in range(0, len(self.now), BLOCK):
            part = slice(first, min(first + BLOCK, len(self.now)))
            pushes = self._tangent(
                np.stack([self._push(near, row) for row in range(part.start, part.stop)]), self.codes[part]
            )
            start, lengths = self.start[part].astype(np.float64), self.lengths[part, None]
            rows = self.now[part].astype(np.float64)
            rows -= pushes * (RATE / UNIT**3) * lengths
            rows += (self.pull * faded) * (start - rows)
            rows *= lengths / np.sqrt((rows * rows).sum(axis=1))[:, None]
            self.now[part] = rows
        self.now[self.stay] = self.start[self.stay]

    def _tangent(self, pushes: Float64, codes: Float32) -> Float64:
        """Pushes in the measure of the source, without what they would change of a vector's length.

        What is taken away lies along covariance @ u, not along u: scaled back to its length, a vector pushed inwards
        where the source varies most would grow in all other directions, and be less typical for nothing.
        """
        along, across = self.likely.within(pushes), self.likely.within(codes.astype(np.float64))
        share = (codes * along).sum(axis=1) / (codes * across).sum(axis=1)
        return np.asarray(along - share[:, None] * across)

    def _push(self, near: Neighbours, row: int) -> Float64:
        """float64 `[D]`: the sum of all whom a row evades, each by how far above the target, shared among them."""
        others, gaps = self._gaps(near, row)
        close = gaps > 0
        if not close.any():
            return np.zeros(self.codes.shape[1])
        weights = gaps[close]
        many = weights.sum() / weights.max()
        total = weights @ others[close].astype(np.float64)  # below 2**37 a neighbour: exact
        return np.asarray(total / (1 + SHARED * (many - 1)))

"""The steps of a packing: who is too near is pushed off, in the measure of the source, and drawn back a little.

Each pair whose cosine c is above a target t costs (c - t)^2 / 2, and no other pair costs anything. A step moves each
vector down that cost in the measure of its source's statistics (`likelihood.py`), tangent to the sphere and shared
among all whom it evades at once; draws it back towards where it was drawn, by a share that fades to nothing over the
steps; and gives it back its length. Every few steps all pairs are looked at anew, and the best arrangement seen there
is what comes back.

Everything that decides is whole numbers or one operation an entry, so the same table with the same settings gives the
same bits whatever the block, threads, library or device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.vectors.exclusion import Exclusion
from v2f_engine.vectors.likelihood import Likelihood
from v2f_engine.vectors.neighbours import UNIT, Neighbours, codes_of, neighbours_of

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Progress = Callable[[int, int], None]

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


class Steps:
    """The steps of one packing.

    Args:
        start: float32 `[N, D]`, as given; never changed.
        likely: of their source.
        shield: real people, or None.
        aim: the cosine that no two shall exceed.
        steps, pull, max_drift, device, block: as in `packing.packing`.
    """

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
                self.likely.mean_distance(self.now),
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
        inwards, outwards = (codes * along).sum(axis=1), (codes * across).sum(axis=1)
        share = inwards / np.where(
            outwards > 0, outwards, 1
        )  # 0: the source does not vary along this vector at all
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

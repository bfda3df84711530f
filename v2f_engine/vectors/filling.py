"""Filling the places of a table in the order of a mix, each with a person of its group, everybody apart from everybody.

Places come in rounds. A pass gives every empty place of the round, in order, the next candidate of its group; those
unlike everybody kept before stay, and each takes the first empty place of its group. A group that fills less than half
of its places in a pass has twice as many candidates in the next one, so the last ones may stand in places of a later
round. None of this depends on how many places are asked for: which candidate a place ends with is settled by (source,
mix, seed, threshold, exclusion) alone, and the first n of a larger table are the table of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError, SaturationError
from v2f_engine.vectors.mix import order_of_mix
from v2f_engine.vectors.sources import LAST, LabelledSource

FIRST, LARGEST = 64, 4096
"""Places of the first round and of the largest; each has as many as all before it. Part of what a table is."""
MANY = 256
"""Candidates for an empty place in one pass, at most. Part of what a table is."""
ENOUGH = 1024
"""Candidates of a group after which its rate bounds what comes."""

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Keep = Callable[[Float32], Int64]
"""Of candidates `[N, D]` in order, the rows that are apart from all real people and all kept; they are kept now."""


class Filling:
    """The state of a table that is filled.

    Args:
        source: labelled, in its mix.
        seed: of the candidates.
        keep: decides.
        max_cosine: for messages.
    """

    def __init__(self, source: LabelledSource, seed: int, keep: Keep, max_cosine: float | None) -> None:
        self.source, self.seed, self.keep, self.max_cosine = source, seed, keep, max_cosine
        groups = len(source.names)
        self.drawn = np.zeros(groups, np.int64)
        """Candidates of each group."""
        self.count = np.zeros(groups, np.int64)
        """Kept of each group: they have its first places."""
        self._found: list[list[tuple[Int64, Int64]]] = [
            [] for _ in range(groups)
        ]  # (kept as which, candidate)
        self._many = np.ones(groups, np.int64)
        self._order = np.zeros(0, np.int64)
        self._stop = 0
        self._own, self._nth = np.zeros(0, np.int64), np.zeros(0, np.int64)  # of the round's places
        self._recent = np.zeros((groups, 2))  # candidates and kept ones, since `_rate` was told last
        self._rate = np.ones((groups, 2))  # share kept, and a bound on it

    def fill(
        self, n: int, budget: int, progress: Callable[[int, int, int], None] | None = None
    ) -> tuple[Int64, Int64, Int64]:
        """Fills the first `n` places.

        Returns:
            int64 `[n]` each: which of those kept, in the order of acceptance, has the place; its candidate, as in
            `Identities.candidate`; its group.

        Raises:
            SaturationError: not from `budget` candidates in all; the message names the group that runs out.
            ConfigError: a group of this seed has no more candidates.
        """
        self._reserve(n)
        order, groups = self._order[:n], len(self.count)
        wanted = np.bincount(order, minlength=groups)
        while (self.count < wanted).any():
            if (self._nth < self.count[self._own]).all():
                self._next_round()
                continue
            self._pass(budget, wanted)
            missing = np.maximum(wanted - self.count, 0)
            if progress is not None:
                progress(n - int(missing.sum()), n, int(self.drawn.sum()))
            # Acceptance only falls: three standard deviations above a group's last rate bound the rest.
            if int(self.drawn.sum()) + float((missing / self._rate[:, 1]).sum()) > budget:
                raise self._refused(budget, wanted)
        row, candidate = np.empty(n, np.int64), np.empty(n, np.int64)
        for group in np.flatnonzero(wanted):
            rows, numbers = (np.concatenate(parts) for parts in zip(*self._found[group], strict=True))
            own = order == group
            row[own], candidate[own] = rows[: wanted[group]], numbers[: wanted[group]]
        return row, candidate, order.copy()

    def _reserve(self, places: int) -> None:
        """An order of so many places; twice as many as before where it is too short: it is dealt from its start."""
        if places > len(self._order):
            self._order = order_of_mix(self.source.parts, max(places + LARGEST, 2 * len(self._order)))

    def _next_round(self) -> None:
        begun, groups = self._stop, len(self.count)
        self._stop = begun + min(max(begun, FIRST), LARGEST)
        self._reserve(self._stop)
        before = np.bincount(self._order[:begun], minlength=groups)
        self._own = self._order[begun : self._stop]
        self._nth = np.empty(len(self._own), np.int64)
        for group in np.unique(self._own):
            own = self._own == group
            self._nth[own] = before[group] + np.arange(int(own.sum()))

    def _pass(self, budget: int, wanted: Int64) -> None:
        groups = len(self.count)
        empty = self._own[self._nth >= self.count[self._own]]
        turns = np.concatenate(
            [empty[self._many[empty] > turn] for turn in range(int(self._many[empty].max()))]
        )
        if int(self.drawn.sum()) + len(turns) > budget:
            raise self._refused(budget, wanted)
        rows, number = (
            np.empty((len(turns), self.source.dimension), np.float32),
            np.empty(len(turns), np.int64),
        )
        tried = np.bincount(turns, minlength=groups)
        for group in np.flatnonzero(tried):
            first, many = int(self.drawn[group]), int(tried[group])
            if (first + many) * groups > LAST:
                raise ConfigError(
                    f"{self.source.name}: group {self.source.names[group]!r} has {LAST // groups:,} candidates a seed, "
                    "and all are drawn. Use another seed."
                )
            own = turns == group
            rows[own] = self.source.sources[group].candidates(self.seed, first, many)
            number[own] = (first + np.arange(many)) * groups + group
        kept, before = self.keep(rows), int(self.count.sum())
        stayed = np.bincount(turns[kept], minlength=groups)
        for group in np.flatnonzero(stayed):
            own = turns[kept] == group
            self._found[group].append((before + np.flatnonzero(own), number[kept[own]]))
        places = np.bincount(empty, minlength=groups)
        self._many[2 * stayed < places] *= 2
        self._many[(stayed > places) & (self._many > 1)] //= 2
        self._many = np.minimum(self._many, MANY)
        self.drawn += tried
        self.count += stayed
        self._recent += np.stack([tried, stayed], axis=1)
        for group in np.flatnonzero(self._recent[:, 0] >= ENOUGH):
            count, own_kept = self._recent[group]
            self._rate[group] = (
                own_kept / count,
                min(1.0, (own_kept + 3 * math.sqrt(own_kept + 1) + 3) / count),
            )
            self._recent[group] = 0

    def _refused(self, budget: int, wanted: Int64) -> SaturationError:
        missing = np.maximum(wanted - self.count, 0)
        rate = np.minimum(self._rate[:, 0], (self._recent[:, 1] + 1) / (self._recent[:, 0] + 1))
        worst = int(np.argmax(missing / np.maximum(rate, 1e-9)))
        return SaturationError(
            f"{int(wanted.sum()):,} identities with every cosine below {self.max_cosine} cannot be drawn from "
            f"{self.source.name!r} in this mix within {budget:,} candidates: group {self.source.names[worst]!r} has "
            f"{int(wanted[worst] - missing[worst]):,} of {int(wanted[worst]):,}, kept of {int(self.drawn[worst]):,} "
            f"drawn, of the last ones a share of {rate[worst]:.2g}; {int(self.drawn.sum()):,} were drawn of all. "
            "Give that group a smaller share (--mix), ask for fewer identities, raise max_cosine or max_candidates, "
            "exclude less, or fit it on more people."
        )


def drawn_of(candidate: Int64, group: Int64, groups: int) -> int:
    """Candidates up to the last one of each group in a table of a labelled source."""
    last = np.zeros(groups, np.int64)
    np.maximum.at(last, group, candidate // max(groups, 1) + 1)
    return int(last.sum())

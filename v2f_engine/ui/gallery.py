"""Everybody the page knows: vectors by person, who was drawn so far, who is kept, and who is nearest to whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.backends import function
from v2f_engine.errors import ConfigError
from v2f_engine.ui.asked import Who
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.people import People
from v2f_engine.vectors.sampling import sample_identities

Float32 = NDArray[np.float32]

BLOCK = 256
"""The model's people are sampled in so many at a time, 50 ms for `mini`; those before them stay the same."""
SEEDS = 16
"""Seeds whose people are held at a time."""
FACES = 64
"""Uploaded faces that are held."""


@dataclass(frozen=True)
class Nearest:
    """The person most like another.

    Args:
        who: that person.
        cosine: of the two vectors.
        rejected: whether the sampler would refuse the later of the two.
    """

    who: Who
    cosine: float
    rejected: bool


class Gallery:
    """Who there is.

    Args:
        people: of the model.
        table: that was loaded, if any; admitted by the model.
    """

    def __init__(self, people: People, table: Identities | None = None) -> None:
        self.people, self.table, self.limit = people, table, people.max_cosine
        self._own: dict[int, Identities] = {}
        self._faces: list[Float32] = []
        self._drawn: dict[Who, Float32] = {}
        self._kept: dict[Who, None] = {}

    def vector(self, who: Who) -> Float32:
        """float32 `[512]`.

        Raises:
            ConfigError: nobody of that number. SaturationError: the model does not know that many people.
        """
        if who.kind == "own":
            return np.asarray(self._own_people(who).vectors[who.number])
        rows = self._faces if who.kind == "face" else [] if self.table is None else self.table.vectors
        if who.number >= len(rows):
            what = "uploaded faces" if who.kind == "face" else "rows in the table"
            raise ConfigError(f"{who.name}: there are {len(rows):,} {what}, counted from 0.")
        return np.asarray(rows[who.number])

    def key(self, who: Who) -> int:
        """What keys that person's noise and masks: the number in the set where `v2f generate` makes it.

        Two people of different seeds may have the same: their images are then moved alike from different vectors.
        """
        self.vector(who)
        return int(self.table.keys[who.number]) if who.kind == "table" and self.table else who.number

    def _own_people(self, who: Who) -> Identities:
        held = self._own.get(who.seed)
        if held is None or len(held) <= who.number:
            count = (who.number // BLOCK + 1) * BLOCK
            source = self.people.require_source()
            held = sample_identities(count, max_cosine=self.limit, seed=who.seed, source=source)
            self._own[who.seed] = held
            while len(self._own) > SEEDS:
                del self._own[next(iter(self._own))]
        return held

    def add_face(self, vector: Float32) -> Who:
        """A person of an uploaded face.

        Raises:
            ConfigError: there are too many.
        """
        if len(self._faces) >= FACES:
            raise ConfigError(f"{FACES} faces are held already; start `v2f ui` again to begin anew.")
        self._faces.append(vector)
        return Who("face", len(self._faces) - 1)

    def note_drawn(self, who: Who) -> None:
        """That person was seen."""
        self._drawn.setdefault(who, self.vector(who))

    def nearest(self, who: Who) -> Nearest | None:
        """Among those drawn so far and the table, without `who`; None where there is nobody else."""
        query = self.vector(who)[None]
        found: list[tuple[float, Who]] = []
        others = [one for one in self._drawn if one != who]
        if others:
            row, cosine = _nearest(query, np.stack([self._drawn[one] for one in others]))
            found.append((cosine, others[row]))
        if self.table is not None:
            own = who.number if who.kind == "table" else len(self.table)
            for first, rows in ((0, self.table.vectors[:own]), (own + 1, self.table.vectors[own + 1 :])):
                if len(rows):
                    row, cosine = _nearest(query, rows)
                    found.append((cosine, Who("table", first + row)))
        if not found:
            return None
        cosine, one = max(found, key=lambda pair: pair[0])
        return Nearest(one, cosine, cosine >= self.limit)

    @property
    def kept(self) -> tuple[Who, ...]:
        """Those who are kept, in the order in which they were."""
        return tuple(self._kept)

    def keep(self, who: Who) -> None:
        """Keeps a person who was drawn.

        Raises:
            ConfigError: nobody has seen that person.
        """
        if who not in self._drawn:
            raise ConfigError(f"{who.name} was not drawn yet: draw that person first.")
        self._kept.setdefault(who)

    def drop(self, who: Who) -> None:
        """Keeps a person no longer."""
        self._kept.pop(who, None)

    def kept_table(self) -> Identities:
        """Those who are kept as a table whose images are those on the page.

        Raises:
            ConfigError: nobody is kept.
        """
        chosen = self.kept
        if not chosen:
            raise ConfigError("Nobody is kept yet: keep somebody first.")
        source = self.people.source
        about = {"source": f"kept in v2f ui: {', '.join(one.name for one in chosen)}", "noise": "candidate"}
        if all(one.kind == "own" for one in chosen):
            about |= {"source_sha256": source.sha256, "model": self.people.model}
        keys = np.array([self.key(one) for one in chosen], np.int64)
        return Identities(np.stack([self._drawn[one] for one in chosen]), keys, about)


def _nearest(query: Float32, rows: Float32) -> tuple[int, float]:
    """(row, cosine) of the row most like `query [1, D]`."""
    cosine, index = function("nearest_cosine")(query, np.ascontiguousarray(rows))
    return int(index[0]), float(cosine[0])

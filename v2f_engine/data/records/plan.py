"""Which images go into which shard: contiguous identities, known before the first image is made."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

from v2f_engine.config import at_least
from v2f_engine.errors import ConfigError

MAX_IMAGES_PER_SHARD = 10_000
"""About 70 MB of JPEGs at 7 KB: one second of work at 10,000 images/s, one fsync in 70 MB."""

MIN_IMAGES_PER_SHARD = 1_000


@dataclass(frozen=True)
class PlannedShard:
    """Shard `number` holds all images of `identities`."""

    number: int
    identities: range


@dataclass(frozen=True)
class _Part:
    """Shards of one size: those of identities `first` to `stop`, numbered from `shard` on."""

    first: int
    stop: int
    per_shard: int
    shard: int

    @property
    def shards(self) -> int:
        return -(-(self.stop - self.first) // self.per_shard)


@dataclass(frozen=True)
class Plan:
    """The shape of a dataset.

    Args:
        identities: number of identities; their labels are 0..identities-1.
        images_per_id: images of each identity, or the largest such number when not `uniform`.
        identities_per_shard: identities of each shard (the last may hold fewer).
        uniform: every identity has exactly `images_per_id` images. Conversions of foreign sets have False.
        before: (identities, identities per shard) of the set each time before it grew, where a set made at once would
            have other shards: then a shard ends there that need not be full, and a new one begins.

    Raises:
        ConfigError: a count below 1, or growth that does not rise.
    """

    identities: int
    images_per_id: int
    identities_per_shard: int
    uniform: bool = True
    before: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("identities", "images_per_id", "identities_per_shard"):
            value = getattr(self, name)
            if type(value) is not int:
                raise ConfigError(f"{name} must be a whole number, found {value!r}.")
            at_least(name, value, 1)
        ends = [0, *(identities for identities, _ in self.before), self.identities]
        if any(later <= earlier for earlier, later in pairwise(ends)):
            raise ConfigError(
                f"before: expected numbers of identities that rise to {self.identities}, found {ends}."
            )
        for _, per_shard in self.before:
            at_least("identities_per_shard", per_shard, 1)

    @classmethod
    def of(cls, identities: int, images_per_id: int, images_per_shard: int | None = None) -> Plan:
        """A plan with shards of about `images_per_shard` images (by default a sixteenth, 1,000 to 10,000)."""
        for name, value in (("identities", identities), ("images_per_id", images_per_id)):
            at_least(name, value, 1)
        if images_per_shard is None:
            sixteenth = identities * images_per_id // 16
            images_per_shard = min(MAX_IMAGES_PER_SHARD, max(MIN_IMAGES_PER_SHARD, sixteenth))
        at_least("images_per_shard", images_per_shard, 1)
        return cls(identities, images_per_id, min(identities, max(1, images_per_shard // images_per_id)))

    @property
    def shards(self) -> int:
        """Number of shards."""
        last = self._parts[-1]
        return last.shard + last.shards

    @property
    def images(self) -> int:
        """Number of images; an upper bound when not `uniform`."""
        return self.identities * self.images_per_id

    def shard(self, number: int) -> PlannedShard:
        """Shard `number`, 0..shards-1."""
        if not 0 <= number < self.shards:
            raise ConfigError(f"Shard {number} does not exist: this dataset has shards 0..{self.shards - 1}.")
        part = self._part(number)
        first = part.first + (number - part.shard) * part.per_shard
        return PlannedShard(number, range(first, min(part.stop, first + part.per_shard)))

    def shards_with(self, number: int) -> int:
        """How many shards the set had in all when shard `number` was first planned."""
        part = self._part(number)
        return part.shard + part.shards

    def extended(self, identities: int, per_shard: int | None = None, *, remembered: bool = False) -> Plan:
        """The plan of the set with more identities; every shard of this one is one of its shards.

        Args:
            identities: in all.
            per_shard: identities of each new shard; by default as before.
            remembered: whether the former size is told even where a set made at once would have the same shards.

        Raises:
            ConfigError: not more identities, or so many that the names of all would get another digit.
        """
        if identities <= self.identities:
            raise ConfigError(f"A set of {self.identities:,} identities grows to more, found {identities:,}.")
        size = per_shard or self.identities_per_shard
        last = self._parts[-1]
        same = size == last.per_shard and (self.identities - last.first) % size == 0
        before = (
            self.before
            if same and not remembered
            else (*self.before, (self.identities, self.identities_per_shard))
        )
        larger = replace(self, identities=identities, identities_per_shard=size, before=before)
        if larger._widths != self._widths:
            raise ConfigError(
                f"{identities:,} identities need names of {larger._widths[0]} digits, those that are there have "
                f"{self._widths[0]}: no file of the set would keep its name. Make a set of that size anew."
            )
        return larger

    @cached_property
    def _parts(self) -> tuple[_Part, ...]:
        sizes = (*self.before, (self.identities, self.identities_per_shard))
        firsts = [0, *(stop for stop, _ in self.before)]
        counts = [-(-(stop - first) // size) for first, (stop, size) in zip(firsts, sizes, strict=True)]
        numbers = accumulate(counts[:-1], initial=0)
        return tuple(
            _Part(first, stop, size, number)
            for first, (stop, size), number in zip(firsts, sizes, numbers, strict=True)
        )

    def _part(self, number: int) -> _Part:
        return self._parts[bisect_right([part.shard for part in self._parts], number) - 1]

    @cached_property
    def _widths(self) -> tuple[int, int]:
        return max(6, len(str(self.identities - 1))), max(3, len(str(self.images_per_id - 1)))

    def identity_name(self, identity: int) -> str:
        """`000012`: at least six digits, and as many for all, since ImageFolder labels by sorted names."""
        return str(identity).zfill(self._widths[0])

    def image_name(self, image: int) -> str:
        """`003`: at least three digits, and as many for all."""
        return str(image).zfill(self._widths[1])

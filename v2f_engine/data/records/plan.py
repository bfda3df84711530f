"""Which images go into which shard: contiguous identities, known before the first image is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
class Plan:
    """The shape of a dataset.

    Args:
        identities: number of identities; their labels are 0..identities-1.
        images_per_id: images of each identity, or the largest such number when not `uniform`.
        identities_per_shard: identities of each shard (the last may hold fewer).
        uniform: every identity has exactly `images_per_id` images. Conversions of foreign sets have False.

    Raises:
        ConfigError: a count below 1.
    """

    identities: int
    images_per_id: int
    identities_per_shard: int
    uniform: bool = True

    def __post_init__(self) -> None:
        for name in ("identities", "images_per_id", "identities_per_shard"):
            value = getattr(self, name)
            if type(value) is not int:
                raise ConfigError(f"{name} must be a whole number, found {value!r}.")
            at_least(name, value, 1)

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
        return -(-self.identities // self.identities_per_shard)

    @property
    def images(self) -> int:
        """Number of images; an upper bound when not `uniform`."""
        return self.identities * self.images_per_id

    def shard(self, number: int) -> PlannedShard:
        """Shard `number`, 0..shards-1."""
        if not 0 <= number < self.shards:
            raise ConfigError(f"Shard {number} does not exist: this dataset has shards 0..{self.shards - 1}.")
        first = number * self.identities_per_shard
        return PlannedShard(number, range(first, min(self.identities, first + self.identities_per_shard)))

    @cached_property
    def _widths(self) -> tuple[int, int]:
        return max(6, len(str(self.identities - 1))), max(3, len(str(self.images_per_id - 1)))

    def identity_name(self, identity: int) -> str:
        """`000012`: at least six digits, and as many for all, since ImageFolder labels by sorted names."""
        return str(identity).zfill(self._widths[0])

    def image_name(self, image: int) -> str:
        """`003`: at least three digits, and as many for all."""
        return str(image).zfill(self._widths[1])

"""Which images of a person are kept: a rule, and the choice it makes, with the reason for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import between, one_of, whole_number
from v2f_engine.errors import ConfigError
from v2f_engine.selection.criteria import BELOW, CRITERIA, DUPLICATE, FAILED, FINE, Person


@dataclass(frozen=True)
class Rule:
    """How many images of a person are kept, and which.

    Several criteria are put together by rank: the images with the smallest sums of places in each, equal scores
    sharing a place. Three kinds are kept only where there are too few others: failed images last of all, before them
    those that repeat an earlier one (the later goes first), before them those below `min_cosine`. Of equal ones the
    smaller number goes before.

    Args:
        keep: images of each person.
        by: names in `CRITERIA`.
        min_cosine: to the person's centre, below which an image is passed over.
        duplicate_cosine: above which two images count as one; equal pixels always do.
        at_least: people with fewer than `keep` images, but so many, keep all of them; `keep` by default: none may
            have fewer.

    Raises:
        ConfigError: fewer than one image, a criterion nobody knows or twice, or numbers out of range.
    """

    keep: int
    by: tuple[str, ...] = ("centre",)
    min_cosine: float | None = None
    duplicate_cosine: float | None = None
    at_least: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", whole_number("keep", self.keep, 1))
        given: Any = self.by
        by = (given,) if isinstance(given, str) else tuple(given)
        if not by or len(set(by)) < len(by):
            raise ConfigError(f"by: expected one criterion or several different ones, found {list(by)}.")
        for name in by:
            one_of("by", name, CRITERIA)
        object.__setattr__(self, "by", by)
        for name in ("min_cosine", "duplicate_cosine"):
            value = getattr(self, name)
            if value is not None:
                between(name, value, -1, 1)
                object.__setattr__(self, name, float(value))
        if self.at_least is not None:
            object.__setattr__(self, "at_least", whole_number("at_least", self.at_least, 1))
            if self.at_least > self.keep:
                raise ConfigError(
                    f"at_least ({self.at_least}) is above keep ({self.keep}): people with at_least images keep all."
                )

    @property
    def fewest(self) -> int:
        """Images that a person must have."""
        return self.keep if self.at_least is None else self.at_least

    @property
    def reads(self) -> frozenset[str]:
        """What has to be known of images: `features`, `quality`, `vector`."""
        cosine = self.min_cosine is not None or self.duplicate_cosine is not None
        needed = frozenset[str]().union(*(CRITERIA[name].reads for name in self.by))
        return needed | ({"features"} if cosine else frozenset())

    @property
    def kinds(self) -> np.dtype[np.void]:
        """Columns of a choice, see `choose`."""
        said = ["rank", "tier", "duplicate_of"]
        kinds = [("image", "<i8"), ("kept", "?"), *((name, "<i8") for name in said), ("to_centre", "<f8")]
        return np.dtype([*kinds, *((name, "<f8") for name in self.by)])

    def describe(self) -> dict[str, Any]:
        """JSON values, for manifests; what was not asked for is absent."""
        given = {name: getattr(self, name) for name in ("min_cosine", "duplicate_cosine", "at_least")}
        return {
            "keep": self.keep,
            "by": list(self.by),
            **{name: value for name, value in given.items() if value is not None},
        }

    def choose(self, person: Person) -> NDArray[np.void]:
        """The choice among one person's images: a row an image, in order of numbers.

        Columns: `image` its number; `rank` its place, 0 the best; `kept`; `tier`, see `criteria`; `duplicate_of` the
        number of the image it repeats, or -1; `to_centre`, cosine to the person's centre, NaN where no features were
        read; and the score by each criterion. It does not depend on the order in which the images were given.

        Raises:
            VectorError: what cannot be judged, by person and image.
        """
        if (person.min_cosine, person.duplicate_cosine) != (self.min_cosine, self.duplicate_cosine):
            raise ConfigError(
                "choose: the person was judged by another rule's cosines; build it by Rule.person."
            )
        table = np.zeros(len(person), self.kinds)
        places = np.zeros(len(person), np.int64)
        for name in self.by:
            score = CRITERIA[name].score(person)
            table[name] = score
            places += person.places(score)
        rank = person.ranked(-places.astype(np.float64))
        table["image"], table["rank"], table["kept"] = person.images, rank, rank < self.keep
        table["tier"], table["duplicate_of"] = person.tier, person.duplicate_of
        table["to_centre"] = np.nan if person.features is None else person.to_centre
        return table

    def person(self, name: str, images: NDArray[np.int64], **known: Any) -> Person:
        """A `Person` judged by this rule's cosines."""
        return Person(
            name, images, min_cosine=self.min_cosine, duplicate_cosine=self.duplicate_cosine, **known
        )


WORDS = {
    FINE: "",
    BELOW: "below the least cosine to the centre",
    DUPLICATE: "the same as image {duplicate_of}",
    FAILED: "failed",
}
"""Tier -> words."""


def reasons(table: NDArray[np.void]) -> list[str]:
    """Why each image of a choice was kept or dropped."""

    def one(row: Any) -> str:
        why = WORDS[int(row["tier"])].format(duplicate_of=row["duplicate_of"])
        place = f"place {row['rank'] + 1} of {len(table)}"
        if row["kept"]:
            return f"kept: {place}" + (f", though {why}: too few others" if why else "")
        return f"dropped: {why or place}"

    return [one(row) for row in table]


@dataclass(frozen=True)
class Tally:
    """What became of many images.

    Args:
        people, images, kept: how many.
        fewer: people who had fewer images than the rule keeps, and keep all.
        duplicates: images that repeat another of their person; of them kept for want of others, `duplicates_kept`.
        below: images below the least cosine; `below_kept`.
        failed: images that failed; `failed_kept`.
    """

    people: int
    images: int
    kept: int
    fewer: int
    duplicates: int
    duplicates_kept: int
    below: int
    below_kept: int
    failed: int
    failed_kept: int

    @classmethod
    def of(cls, tables: Sequence[NDArray[np.void]], keep: int) -> Tally:
        """Of the choices of many people."""
        whole = np.concatenate(tables)

        def count(tier: int) -> tuple[int, int]:
            among = whole["tier"] == tier
            return int(among.sum()), int((among & whole["kept"]).sum())

        fewer = sum(len(table) < keep for table in tables)
        tiers = (*count(DUPLICATE), *count(BELOW), *count(FAILED))
        return cls(len(tables), len(whole), int(whole["kept"].sum()), fewer, *tiers)

    def __add__(self, other: Tally) -> Tally:
        """Of these people and the others."""
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def lines(self) -> list[str]:
        """What a user should know, a sentence each; empty where all went as asked."""
        found = []
        if self.fewer:
            found.append(f"{self.fewer:,} people have fewer images and keep all of them")
        for what, among, kept in (
            ("repeat another of their person and went first", self.duplicates, self.duplicates_kept),
            ("are below the least cosine", self.below, self.below_kept),
            ("failed", self.failed, self.failed_kept),
        ):
            if among:
                stay = f", {kept:,} of them kept for want of others" if kept else ""
                found.append(f"{among:,} images {what}{stay}")
        return found

"""What makes one image of a person better than another: scores by name, of that person's features and qualities alone.

    centre      cosine of an image's feature to the person's centre, the mean of the unit features that count
    vector      cosine to the identity's own vector
    quality     what an estimator of quality says
    diversity   farthest-point traversal: first the image nearest to the centre, then always the one whose nearest
                chosen image is farthest away (Gonzalez, Theoretical Computer Science 38, 1985: within twice the best
                covering radius)

All arithmetic is float64, row by row: a matrix product rounds equal rows otherwise by their place, and two equal images
must have equal scores. They are compared to `DECIMALS`, since both images of two are equally near to their centre, and
rounding would choose between them. Failed images and duplicates move no centre.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError

SHORTEST = 1e-12
"""Length below which a mean of unit features has no direction, and a feature none."""
FARTHEST = 2.0
"""Distance (1 - cosine) of opposite features; what stands for the first image of a traversal, which has none before."""
DECIMALS = 12
"""To which scores are compared: a sum over 512 entries of float64 is right to about 1e-15, features to about 1e-7."""
NEVER = -1
"""Of `duplicate_of`: no image."""
FINE, BELOW, DUPLICATE, FAILED = range(4)
"""Tiers: an image of a later one is kept only where all of the earlier ones are."""


@dataclass(frozen=True)
class Person:
    """One person's images, as far as they are judged.

    Args:
        name: of the person, for messages.
        images: int64 `[m]`, the images' numbers, all different; rows are put in their order.
        features: float32 `[m, D]` of one recogniser, any length.
        qualities: float `[m]`, larger is better.
        vector: float32 `[D]`, the identity's own.
        pixels: a hash of each image's pixels, `[m]`; equal ones are one picture. None: no two are equal.
        failed: bool `[m]`, images that show nothing; by default none.
        min_cosine: to the centre, below which an image is passed over.
        duplicate_cosine: above which two images count as one.

    Raises:
        VectorError: no image, a number twice, other lengths, what is not finite or has no direction, features and
            vector of two widths; the message names person and image.
    """

    name: str
    images: NDArray[np.int64]
    features: NDArray[np.float32] | None = None
    qualities: NDArray[np.float32] | None = None
    vector: NDArray[np.float32] | None = None
    pixels: NDArray[np.bytes_] | None = None
    failed: NDArray[np.bool_] | None = None
    min_cosine: float | None = None
    duplicate_cosine: float | None = None
    order: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        images = np.asarray(self.images, np.int64)
        if images.ndim != 1 or not len(images) or len(np.unique(images)) < len(images):
            raise VectorError(
                f"{self.name}: expected images of different numbers, found {images.tolist()!s:.80}."
            )
        order = np.argsort(images, kind="stable")
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "images", images[order])
        for name in ("features", "qualities", "pixels", "failed"):
            given = getattr(self, name)
            if given is None:
                continue
            given = np.asarray(given)
            if len(given) != len(images) or given.ndim != (2 if name == "features" else 1):
                raise VectorError(
                    f"{self.name}: expected {name} of {len(images)} images, found {list(given.shape)}."
                )
            object.__setattr__(self, name, given[order])
        for name in ("features", "qualities"):
            self._refuse_not_finite(name, getattr(self, name))

    def _refuse_not_finite(self, name: str, values: NDArray[np.float32] | None) -> None:
        if values is None:
            return
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            shown = ", ".join(map(str, self.images[bad][:5]))
            raise VectorError(
                f"{self.name}: {name} of {bad.sum()} of {len(values)} images are not finite (image {shown}): what "
                "reads them overflows, or gets pixels of another range. Nothing can be chosen by them."
            )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def units(self) -> NDArray[np.float64]:
        """Features of length 1, `[m, D]`."""
        if self.features is None:
            raise VectorError(f"{self.name}: this needs features of a recogniser, and none were read.")
        return unit_rows(self.features, lambda row: f"{self.name}, image {self.images[row]}: its feature")

    @cached_property
    def duplicate_of(self) -> NDArray[np.int64]:
        """int64 `[m]`: the number of the first image that each repeats, or `NEVER`."""
        return duplicates(
            self.images,
            self.pixels,
            None if self.duplicate_cosine is None else self.units,
            self.duplicate_cosine,
        )

    @cached_property
    def counting(self) -> NDArray[np.bool_]:
        """bool `[m]`: images that are no repetition of another and did not fail; all where there is no such image."""
        counts = self.duplicate_of == NEVER
        if self.failed is not None:
            counts &= ~self.failed
        return counts if counts.any() else np.ones(len(self), bool)

    @cached_property
    def to_centre(self) -> NDArray[np.float64]:
        """Cosine of each image to the person's centre, `[m]`."""
        mean = self.units[self.counting].mean(axis=0)
        return cosines(
            self.units, unit_rows(mean[None], lambda row: f"{self.name}: the mean of its features")[0]
        )

    @cached_property
    def tier(self) -> NDArray[np.int8]:
        """int8 `[m]`: `FINE`, `BELOW`, `DUPLICATE` or `FAILED`."""
        tier = np.full(len(self), FINE, np.int8)
        if self.min_cosine is not None:
            tier[compared(self.to_centre) < self.min_cosine] = BELOW
        tier[self.duplicate_of != NEVER] = DUPLICATE
        if self.failed is not None:
            tier[self.failed] = FAILED
        return tier

    def ranked(self, score: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64 `[m]`: place of each image, 0 the best, all different: by tier, then by score, then by number.

        Duplicates go by their numbers alone: the later one goes first, whatever it scores.
        """
        order = np.lexsort((self.images, -self._scored(score), self.tier))
        ranks = np.empty(len(self), np.int64)
        ranks[order] = np.arange(len(self))
        return ranks

    def places(self, score: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64 `[m]`: how many images are better than each; equal ones share a place."""
        scored, tier = self._scored(score), self.tier
        order = np.lexsort((-scored, tier))
        differs = (np.diff(tier[order]) != 0) | (np.diff(scored[order]) != 0)
        first = np.maximum.accumulate(np.where(np.append(True, differs), np.arange(len(self)), 0))
        places = np.empty(len(self), np.int64)
        places[order] = first
        return places

    def _scored(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.tier == DUPLICATE, 0.0, compared(score))


def unit_rows(rows: NDArray[np.floating], what: Callable[[int], str]) -> NDArray[np.float64]:
    """Rows of length 1, float64; `what` names a row.

    Raises:
        VectorError: a row without direction.
    """
    wide = np.asarray(rows, np.float64)
    largest = np.abs(wide).max(axis=1)  # so that no square over- or underflows
    for row in np.flatnonzero(largest < SHORTEST):
        raise VectorError(f"{what(int(row))} is zero and has no direction: nothing can be chosen by it.")
    wide = wide / largest[:, None]
    units: NDArray[np.float64] = wide / np.sqrt((wide * wide).sum(axis=1))[:, None]
    return units


def cosines(units: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each unit row `[m, D]` to one, `[m]`; a row's does not depend on the others."""
    found: NDArray[np.float64] = (units * to).sum(axis=1)
    return found


def compared(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores without the digits that rounding decides."""
    return np.round(scores, DECIMALS)


def duplicates(
    images: NDArray[np.int64],
    pixels: NDArray[np.bytes_] | None,
    units: NDArray[np.float64] | None,
    above: float | None,
) -> NDArray[np.int64]:
    """Of each image, in order of numbers, the first earlier one that it repeats and that repeats none itself.

    Args:
        images: int64 `[m]`, ascending.
        pixels: equal where two are one picture.
        units: `[m, D]`, needed with `above`.
        above: cosine above which two are one.
    """
    found = np.full(len(images), NEVER, np.int64)
    for row in range(1, len(images)):
        same = np.zeros(row, bool)
        if pixels is not None:
            same |= pixels[:row] == pixels[row]
        if units is not None and above is not None:
            same |= compared(cosines(units[:row], units[row])) > above
        first = np.flatnonzero(same & (found[:row] == NEVER))
        if len(first):
            found[row] = images[first[0]]
    return found


def _centre(person: Person) -> NDArray[np.float64]:
    return person.to_centre


def _vector(person: Person) -> NDArray[np.float64]:
    if person.vector is None:
        raise VectorError(f"{person.name}: this needs the identity's own vector, which is not known.")
    if len(person.vector) != person.units.shape[1]:
        raise VectorError(
            f"{person.name}: its own vector has {len(person.vector)} numbers, the features have "
            f"{person.units.shape[1]}: of another recogniser. Use the one whose features the vectors are."
        )
    own = unit_rows(np.asarray(person.vector)[None], lambda row: f"{person.name}: its own vector")[0]
    return cosines(person.units, own)


def _quality(person: Person) -> NDArray[np.float64]:
    if person.qualities is None:
        raise VectorError(f"{person.name}: this needs qualities, and none were read.")
    return np.asarray(person.qualities, np.float64)


def _diversity(person: Person) -> NDArray[np.float64]:
    """Distance of each image to the nearest chosen before it; tiers are gone through one after the other."""
    nearest = np.full(len(person), np.nextafter(FARTHEST, 0))
    score, left = np.empty(len(person)), np.ones(len(person), bool)
    for step in range(len(person)):
        tier = person.tier[left].min()
        may = np.flatnonzero(left & (person.tier == tier))
        best = person.to_centre if step == 0 else nearest
        row = may[np.argmax(compared(best[may]))]  # of equal ones the first, which has the smallest number
        score[row] = FARTHEST if step == 0 else nearest[row]
        left[row] = False
        nearest = np.minimum(nearest, np.maximum(0.0, 1.0 - cosines(person.units, person.units[row])))
    return score


@dataclass(frozen=True)
class Criterion:
    """A way to tell images apart.

    Args:
        score: float64 `[m]` of a person, larger is better.
        reads: what has to be known: `features`, `quality`, `vector`.
        words: for people.
    """

    score: Callable[[Person], NDArray[np.float64]]
    reads: frozenset[str]
    words: str


CRITERIA: Mapping[str, Criterion] = {
    "centre": Criterion(_centre, frozenset({"features"}), "nearest to the person's centre"),
    "vector": Criterion(_vector, frozenset({"features", "vector"}), "nearest to the identity's own vector"),
    "quality": Criterion(_quality, frozenset({"quality"}), "of the highest quality"),
    "diversity": Criterion(_diversity, frozenset({"features"}), "farthest from one another"),
}
"""By the names that `--by` and `--select` take."""

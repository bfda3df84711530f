"""A cone around each identity: the cosine to the centre is drawn evenly from [lowest, 1], the direction from a sphere.

IDperturb (arXiv 2602.18831), written from its formulas: s ~ U[lb, 1]; the identity's direction is turned by arccos(s)
towards a random direction orthogonal to it, and keeps its length:

    y = |x| (s x/|x| + sqrt(1 - s^2) d),        d = (g - (g.x / x.x) x) made unit, g ~ N(0, I)

**The bisector guard.** With c the cosine of the identity to its nearest other one, at an angle of arccos(c), an image
turned by at most half that angle is nearer to its own centre than to any other: by the triangle inequality of angles
the other lies at arccos(c) - arccos(s) >= arccos(s). So lb becomes max(lb, cos(arccos(c) / 2)) = max(lb,
sqrt((1 + c) / 2)), for each identity its own. The bound is of the vectors: what a generator draws of them is measured
by `v2f evaluate separability`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from v2f_kernels import _cosine

from v2f_engine.config import between, yes_or_no
from v2f_engine.errors import ConfigError
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.nearest import Nearest
from v2f_engine.vectors.perturbation_contract import (
    Around,
    Float32,
    Float64,
    Perturbed,
    check_centres,
    dot,
    measured,
    steps,
)


@dataclass(frozen=True)
class Cone(Around):
    """Images within a cone around their identity.

    Args:
        lowest: the lowest cosine to the centre, lb, in 0 .. 1; 1 draws the centre itself.
        guarded: no image is nearer to another identity's centre than to its own.
        nearest: how near each identity of the table has another one, of a guarded cone that was told of it (`over`).

    Raises:
        ConfigError: a cosine out of range, or a guard that is neither True nor False.
    """

    lowest: float = 0.6
    guarded: bool = True
    nearest: Nearest | None = field(default=None, repr=False, compare=False)

    chance_of: ClassVar[Purpose] = Purpose.CONE_COSINE

    def __post_init__(self) -> None:
        between("perturbation cone", self.lowest, 0.0, 1.0)
        object.__setattr__(self, "lowest", float(self.lowest))
        object.__setattr__(self, "guarded", yes_or_no("guarded", self.guarded))

    @property
    def needs_table(self) -> bool:
        return self.guarded

    @property
    def words(self) -> str:
        return f"cone {self.lowest:g}" + ("" if self.guarded else " unguarded")

    def describe(self) -> dict[str, Any]:
        known = {} if self.nearest is None else {"nearest_sha256": self.nearest.sha256}
        return {"kind": "cone", "lowest": self.lowest, "guarded": self.guarded, **known}

    @classmethod
    def told(cls, told: Mapping[str, Any], held: Path | None) -> Cone:
        """The cone of which `describe` told; with its table's cosines where the file of `attachment` is given.

        Raises:
            VectorError: a file that is missing, broken, or another than `describe` told of.
        """
        sha256 = told.get("nearest_sha256")
        known = None if held is None or sha256 is None else Nearest.load(held, sha256)
        return cls(told["lowest"], told["guarded"], known)

    def attachment(self) -> bytes | None:
        return None if self.nearest is None else self.nearest.to_bytes()

    def over(self, vectors: Float32, keys: NDArray[np.int64], rows: slice = slice(None)) -> Cone:
        if not self.guarded:
            return self
        if self.nearest is None:
            return replace(self, nearest=Nearest.of(vectors, keys))
        self.nearest.check(vectors[rows], keys[rows])
        return self

    def lowest_of(self, identity: NDArray[np.int64]) -> Float64:
        """float64 `[B]`: the lowest cosine of each of these identities.

        Raises:
            ConfigError: a guarded cone that was told of no table, or of one without them.
        """
        if not self.guarded:
            return np.full(len(identity), self.lowest)
        if self.nearest is None:
            raise ConfigError(
                "a guarded cone has to know the whole table: Perturbation.cone(...).over(table.vectors, table.keys), "
                "as Engine.images and generate do, or Perturbation.cone(..., guarded=False)."
            )
        return np.maximum(self.lowest, np.sqrt((1 + self.nearest.cosine[self.nearest.places(identity)]) / 2))

    @property
    def guard_told(self) -> str:
        """For people, where each one's cosines begin, which its nearest other one decides; empty where none does."""
        if not self.guarded or self.nearest is None:
            return ""
        least = np.maximum(self.lowest, np.sqrt((1 + self.nearest.cosine) / 2))
        raised = int(np.count_nonzero(least > self.lowest))
        return (
            f"raised the lowest cosine of {raised:,} of {len(least):,} people: from {least.min():.3f} to "
            f"{least.max():.3f}, {least.mean():.3f} in the mean"
        )

    def draw(
        self,
        centres: Float32,
        identity: ArrayLike,
        image: ArrayLike,
        *,
        seed: int = 0,
        chance: NDArray[np.floating[Any]] | None = None,
    ) -> Perturbed:
        check_centres(centres, identity)
        people, pictures = np.broadcast_arrays(np.atleast_1d(np.asarray(identity)), np.asarray(image))
        if chance is None:
            chance = self.chances(seed, people, pictures)
        lowest = self.lowest_of(people)
        cosine = lowest + (1 - lowest) * chance.astype(np.float64)
        vectors, found = np.empty_like(centres), np.empty(len(centres), np.float64)
        for part in steps(len(centres)):
            noise = normals(seed, Purpose.CONE_DIRECTION, people[part], pictures[part], centres.shape[1])
            with np.errstate(invalid="ignore", divide="ignore"):
                vectors[part] = turned(centres[part], cosine[part], noise)
                found[part] = _cosine.cosine(centres[part], vectors[part])
        return measured(vectors, None, found)


def turned(centres: Float32, cosine: Float64, noise: Float32) -> Float32:
    """float32 `[B, D]`: each centre at that cosine to itself, towards the part of its noise that is orthogonal to it.

    In float64 and with sums by halving: the same bits on every machine, and `centres` exactly where `cosine` is 1.
    """
    x, g = centres.astype(np.float64), noise.astype(np.float64)
    square = dot(x, x)
    g -= (dot(g, x) / square)[:, None] * x
    aside = np.sqrt((1 - cosine) * (1 + cosine)) * np.sqrt(square) / np.sqrt(dot(g, g))
    return np.asarray(cosine[:, None] * x + aside[:, None] * g, np.float32)

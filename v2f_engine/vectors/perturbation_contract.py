"""How the vectors of a person's images are drawn around the person's own: the contract, and what each form gives back.

The forms stand in the table of `perturbation.py`. A row is a function of (seed, identity, image), of its centre and,
where a form needs the table, of that centre's nearest other one; never of its batch, a shard, a worker or a resume.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from v2f_kernels import _cosine

from v2f_engine.errors import VectorError
from v2f_engine.randomness import Purpose, uniforms

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

STEP = 256
"""Rows at a time: float64 temporaries of 256 rows are 1 MiB and stay in the cache."""


@dataclass(frozen=True)
class Perturbed:
    """Vectors of images.

    Args:
        vectors: float32 `[B, 512]`, each as long as its centre.
        sigma: float32 `[B]`, the noise level drawn for each image; None of a form that has no such levels.
        cosine: float32 `[B]`, cosine of each vector to its centre.
    """

    vectors: Float32
    sigma: Float32 | None
    cosine: Float32

    @property
    def attributes(self) -> dict[str, Float32]:
        """What is recorded of each image."""
        level = {} if self.sigma is None else {"sigma": self.sigma}
        return {**level, "cosine_to_centre": self.cosine}


class Around(ABC):
    """A form of perturbation. Each is a frozen value, checked at birth, and equal where its images are."""

    chance_of: ClassVar[Purpose] = Purpose.SIGMA
    """Of the one uniform number that decides how far from its centre an image lies."""

    @property
    def needs_table(self) -> bool:
        """Whether an image depends on other identities of its table, which `over` then tells it of."""
        return False

    @property
    def takes_chance(self) -> bool:
        """Whether one number in [0, 1) decides how far an image lies, so that exact shares of it can be dealt."""
        return True

    @property
    @abstractmethod
    def words(self) -> str:
        """For people, in two or three words: `sigma 0.3/0.5/0.7`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The settings as JSON values, for manifests; `perturbation.from_manifest` makes the same of them."""

    def over(self, vectors: Float32, keys: NDArray[np.int64], rows: slice = slice(None)) -> Around:
        """The same, told of the whole table that its images are drawn for; itself where it knows enough.

        Args:
            vectors: float32 `[N, 512]`, of all identities.
            keys: int64 `[N]`, their numbers as `draw` is given them.
            rows: those whose images are asked for; what knows a table already looks whether they are in it.

        Raises:
            ConfigError: it knows another table, in which these identities are not, or are others.
        """
        return self

    def attachment(self) -> bytes | None:
        """What a dataset has to hold beside `describe` so that it can be made again; None where that is all."""
        return None

    def chances(self, seed: int, identity: ArrayLike, image: ArrayLike) -> Float32:
        """float32 `[B]` in [0, 1): what `draw` takes for `chance` by default."""
        return uniforms(seed, self.chance_of, identity, image, 1)[:, 0]

    @abstractmethod
    def draw(
        self,
        centres: Float32,
        identity: ArrayLike,
        image: ArrayLike,
        *,
        seed: int = 0,
        chance: NDArray[np.floating[Any]] | None = None,
    ) -> Perturbed:
        """The vectors of images.

        Args:
            centres: float32 `[B, 512]`, the centre of each image's identity; lengths are free, zero is not.
            identity: integers `[B]` in 0 .. 2**32 - 1, index of the identity.
            image: integers `[B]` in 0 .. 2**32 - 1, index of the image within its identity.
            seed: 64-bit seed.
            chance: `[B]` in [0, 1), which decides how far each image lies; its own draw by default.

        Returns:
            `Perturbed`; a row depends on (seed, identity, image), its centre and, of a form that `needs_table`, that
            centre's nearest other one alone.

        Raises:
            VectorError: centres that are not float32 `[B, D]`, do not match the indices, or have zero length.
            ConfigError: an index or a seed out of range, or a form that needs a table and was told of none.
        """


def check_centres(centres: Float32, identity: ArrayLike) -> None:
    """Raises VectorError unless centres are float32 `[B, D]`, one for each of B indices."""
    count = len(np.atleast_1d(np.asarray(identity)))
    if centres.dtype != np.float32 or centres.ndim != 2 or len(centres) != count:
        found = f"{centres.dtype} {list(centres.shape)}"
        raise VectorError(f"expected float32 centres [{count}, D], one per image, found {found}.")


def measured(vectors: Float32, sigma: Float32 | None, cosine: Float64) -> Perturbed:
    """The result of a draw, after a look at its cosines.

    Raises:
        VectorError: a cosine that is not finite: its centre has no length.
    """
    found = cosine.astype(np.float32)
    if not np.isfinite(found).all():
        rows = np.flatnonzero(~np.isfinite(found))
        raise VectorError(f"centres of zero length or not finite in rows {rows[:10].tolist()}.")
    return Perturbed(vectors, sigma, found)


def steps(rows: int) -> Iterator[slice]:
    """`STEP` rows at a time."""
    for start in range(0, rows, STEP):
        yield slice(start, start + STEP)


def dot(x: Float64, y: Float64) -> Float64:
    """float64 `[B]`: row-wise, added by halving as `v2f_kernels._cosine` does, so the same bits on every machine."""
    return _cosine.dot(cast(Any, x), cast(Any, y))

"""Many vectors per identity: noise of a random level around the centre, brought back to the centre's length.

A sigma only means something against a vector's length: with length 21.9, sigma 0.3 / 0.5 / 0.7 give cosines
of 0.955 / 0.888 / 0.810 to the centre; with length 15, 0.911 / 0.798 / 0.688. So levels can be given either
as sigmas (the published 0.3 / 0.5 / 0.7 at 40 / 40 / 20 %) or as the cosines they should give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from v2f_kernels import _cosine

from v2f_engine.arguments import NUMBERS
from v2f_engine.backends import function
from v2f_engine.config import between, one_of
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.randomness import Purpose, uniforms

Float32 = NDArray[np.float32]

RANGES = {"sigma": (0.0, 100.0), "cosine": (0.05, 1.0)}


@dataclass(frozen=True)
class Perturbed:
    """Vectors of images.

    Args:
        vectors: float32 `[B, 512]`, each as long as its centre.
        sigma: float32 `[B]`, the noise level drawn for each image.
        cosine: float32 `[B]`, cosine of each vector to its centre.
    """

    vectors: Float32
    sigma: Float32
    cosine: Float32


@dataclass(frozen=True)
class Perturbation:
    """A mixture of noise levels; each image draws one, whatever other images do.

    Args:
        levels: noise levels: standard deviations per entry, or cosines to the centre.
        weights: share of the images that get each level; they sum to 1.
        unit: `"sigma"` or `"cosine"`. A cosine c becomes sigma = |x| sqrt((1/c^2 - 1) / 512), for which the
            expected cosine is c to within 0.1 %.

    Raises:
        ConfigError: no levels, lengths that differ, weights that do not sum to 1, or levels out of range.
    """

    levels: tuple[float, ...] = (0.3, 0.5, 0.7)
    weights: tuple[float, ...] = (0.4, 0.4, 0.2)
    unit: str = "sigma"

    def __post_init__(self) -> None:
        one_of("perturbation unit", self.unit, RANGES)
        object.__setattr__(self, "levels", NUMBERS("perturbation levels", self.levels))
        object.__setattr__(self, "weights", NUMBERS("perturbation weights", self.weights))
        if not self.levels or len(self.levels) != len(self.weights):
            raise ConfigError(
                f"A perturbation needs one weight per level, found levels {self.levels} and weights {self.weights}. "
                "Give as many of weights (--sigma-weights) as of levels."
            )
        if any(not w >= 0 for w in self.weights) or abs(math.fsum(self.weights) - 1) > 1e-6:
            raise ConfigError(f"Perturbation weights must be positive and sum to 1, found {self.weights}.")
        low, high = RANGES[self.unit]
        for level in self.levels:
            between(f"perturbation {self.unit}", level, low, high)

    @classmethod
    def target_cosine(cls, *cosines: float, weights: tuple[float, ...] | None = None) -> Perturbation:
        """Levels by the cosine to the centre that they should give; equal weights by default."""
        if weights is not None:
            weights = NUMBERS("weights", weights)
        equal = (1 / len(cosines),) * len(cosines) if cosines else ()
        return cls(tuple(cosines), equal if weights is None else weights, "cosine")

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values, for manifests."""
        return {"levels": list(self.levels), "weights": list(self.weights), "unit": self.unit}

    def sigma(
        self,
        centres: Float32,
        identity: ArrayLike,
        image: ArrayLike,
        *,
        seed: int = 0,
        chance: NDArray[np.floating[Any]] | None = None,
    ) -> Float32:
        """float32 `[B]`: the level of each image, as a standard deviation per entry; arguments as `draw`."""
        if chance is None:
            chance = uniforms(seed, Purpose.SIGMA, identity, image, 1)[:, 0]
        edges = np.cumsum(self.weights)[:-1]
        level = np.asarray(self.levels, np.float64)[np.searchsorted(edges, chance, side="right")]
        if self.unit == "cosine":
            level = _cosine.norm(centres) * np.sqrt((1 / level**2 - 1) / centres.shape[1])
        return np.asarray(level, np.float32)

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
            chance: `[B]` in [0, 1), which decides each image's level along the weights; its own draw by default.

        Returns:
            `Perturbed`; a row depends on (seed, identity, image) and its centre alone.

        Raises:
            VectorError: centres that are not float32 `[B, D]`, do not match the indices, or have zero length.
            ConfigError: an index or a seed out of range.
        """
        count = len(np.atleast_1d(np.asarray(identity)))
        if centres.dtype != np.float32 or centres.ndim != 2 or len(centres) != count:
            found = f"{centres.dtype} {list(centres.shape)}"
            raise VectorError(f"expected float32 centres [{count}, D], one per image, found {found}.")
        sigma = self.sigma(centres, identity, image, seed=seed, chance=chance)
        perturb = function("perturb_measured")
        vectors, measured = perturb(centres, sigma, seed, Purpose.PERTURBATION, identity, image)
        cosine = measured.astype(np.float32)
        if not np.isfinite(cosine).all():
            rows = np.flatnonzero(~np.isfinite(cosine))
            raise VectorError(f"centres of zero length or not finite in rows {rows[:10].tolist()}.")
        return Perturbed(vectors, sigma, cosine)

"""Images that differ from their identity as images of one person were measured to: a within-person covariance.

    y = |x| (x + L z) / |x + L z|,        z ~ N(0, I), L the factor of `within.Within`, W = L L^T

The product is computed in integers held by float64, as `sources` does and says why: no bit of it depends on batch,
library, threads or machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from v2f_kernels import _cosine

from v2f_engine.errors import VectorError
from v2f_engine.randomness import Purpose, normals
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
from v2f_engine.vectors.sources import FACTOR_BITS, Z_BITS
from v2f_engine.vectors.within import Within


@dataclass(frozen=True, eq=False)
class Covariance(Around):
    """Images drawn from a measured within-person covariance.

    Args:
        within: what `v2f ids within` fitted, in the units of the features: those of the identities' vectors.
    """

    within: Within

    @classmethod
    def load(cls, path: str | Path) -> Covariance:
        """Of a file. Raises VectorError as `Within.load`."""
        return cls(Within.load(path))

    @classmethod
    def told(cls, told: Mapping[str, Any], held: Path | None) -> Covariance:
        """What `describe` told of, from the file of `attachment`.

        Raises:
            VectorError: no file, a broken one, or another than `describe` told of.
        """
        if held is None:
            raise VectorError("a perturbation by covariance is in a dataset's perturbation.safetensors.")
        found = cls.load(held)
        if found.within.sha256 != told["sha256"]:
            raise VectorError(
                f"{held}: has sha256 {found.within.sha256[:12]}, the manifest says {told['sha256'][:12]}: another file."
            )
        return found

    def __eq__(self, other: object) -> bool:
        return self.within.sha256 == other.within.sha256 if isinstance(other, Covariance) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.within.sha256)

    @property
    def takes_chance(self) -> bool:
        return False

    @property
    def words(self) -> str:
        return f"covariance {self.within.sha256[:12]}"

    def describe(self) -> dict[str, Any]:
        return {"kind": "covariance", "sha256": self.within.sha256}

    def attachment(self) -> bytes:
        return self.within.to_bytes()

    @cached_property
    def _grid(self) -> tuple[Float64, float]:
        """(factor `[K, D]` in whole numbers, what a unit of a product is worth)."""
        factor = self.within.factor
        exponent = int(np.frexp(np.abs(factor).max())[1])  # largest entry < 2**exponent
        whole = np.rint(factor.astype(np.float64) * 2.0 ** (FACTOR_BITS - exponent))
        return np.ascontiguousarray(whole.T), 2.0 ** (exponent - FACTOR_BITS - Z_BITS)

    def draw(
        self,
        centres: Float32,
        identity: ArrayLike,
        image: ArrayLike,
        *,
        seed: int = 0,
        chance: NDArray[np.floating[Any]] | None = None,
    ) -> Perturbed:
        """See `Around.draw`; `chance` decides nothing."""
        check_centres(centres, identity)
        people, pictures = np.broadcast_arrays(np.atleast_1d(np.asarray(identity)), np.asarray(image))
        factor, unit = self._grid
        if factor.shape[1] != centres.shape[1]:
            raise VectorError(
                f"{self.words}: is of features of {factor.shape[1]} entries, found centres of {centres.shape[1]}."
            )
        vectors, found = np.empty_like(centres), np.empty(len(centres), np.float64)
        for part in steps(len(centres)):
            z = normals(seed, Purpose.WITHIN_PERSON, people[part], pictures[part], len(factor))
            whole = np.rint(z.astype(np.float64) * 2.0**Z_BITS)
            x = centres[part].astype(np.float64)
            moved = x + (whole @ factor) * unit
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = np.sqrt(dot(x, x) / dot(moved, moved))
                vectors[part] = moved * ratio[:, None]
                found[part] = _cosine.cosine(centres[part], vectors[part])
        return measured(vectors, None, found)

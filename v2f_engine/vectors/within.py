"""How the images of one person differ from the person's mean: the pooled within-person covariance of features.

    W = sum over people p and their images i of (x_pi - m_p) (x_pi - m_p)^T / (N - P)

with m_p the mean of person p's N_p images, N images of P people in all: the unbiased estimate where every person has
the same covariance. Two passes, a block of rows in memory; sums are float64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError
from v2f_engine.vectors.centres import Blocks, Centres
from v2f_engine.vectors.files import (
    read_tensors,
    reading,
    rows_told,
    share_told,
    tensor_bytes,
    text_told,
)
from v2f_engine.vectors.statistics import Moments, statistics_of

FORMAT = "v2f-within/1"
EQUAL = 1e-20
"""Share of the features' squared length below which differences are rounding, as a mean of three equal rows has it."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Within:
    """A within-person covariance.

    Args:
        covariance: float64 `[D, D]`, symmetric.
        factor: float32 `[D, K]`; a difference from the mean is factor @ z with z standard normal. Stored, not
            recomputed, so that images never depend on a LAPACK version.
        images, people: that it was fitted on.
        shrinkage: share of the covariance replaced by its isotropic part.
        origin: what was fitted, for people.
    """

    covariance: Float64
    factor: Float32
    images: int
    people: int
    shrinkage: float = 0.0
    origin: str = ""

    @cached_property
    def sha256(self) -> str:
        """Hash of what decides an image: the factor."""
        return _sha256(self.factor)

    @property
    def length(self) -> float:
        """Root mean square length of a difference."""
        return float(np.sqrt(np.trace(self.covariance)))

    @property
    def free(self) -> int:
        """Differences that are not settled by the others: images less people; the covariance has this rank at most."""
        return self.images - self.people

    @property
    def rank(self) -> int:
        """Components in which images will differ: of `free` and those kept the fewer; with shrinkage all kept."""
        kept = int(self.factor.shape[1])
        return kept if self.shrinkage else min(self.free, kept)

    def to_bytes(self) -> bytes:
        """The file: safetensors with `covariance`, `factor` and JSON metadata; equal fits, equal bytes."""
        about = {
            "images": self.images,
            "people": self.people,
            "shrinkage": self.shrinkage,
            "origin": self.origin,
            "length": round(self.length, 4),
            "sha256": _sha256(self.covariance, self.factor),
        }
        tensors: dict[str, NDArray[Any]] = {"covariance": self.covariance, "factor": self.factor}
        return tensor_bytes(tensors, {"format": FORMAT, "about": json.dumps(about, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path) -> Within:
        """Reads what `to_bytes` gave.

        Raises:
            VectorError: missing, truncated, foreign, changed, not finite, or shapes that do not fit.
        """
        tensors, metadata = read_tensors(path, FORMAT)
        with reading(path, "Fit it again: v2f ids within."):
            about = json.loads(metadata["about"])
            found = cls(
                tensors["covariance"].astype(np.float64),
                tensors["factor"].astype(np.float32),
                rows_told(about["images"], "images"),
                rows_told(about["people"], "people"),
                share_told(about["shrinkage"], "shrinkage"),
                text_told(about["origin"], "origin"),
            )
            expected = text_told(about["sha256"], "sha256")
        d = found.factor.shape[0] if found.factor.ndim else 0
        fits = found.covariance.shape == (d, d) and found.factor.ndim == 2 and found.factor.shape[0] == d
        if not fits or not 1 <= found.factor.shape[1] <= d:
            shapes = (found.covariance.shape, found.factor.shape)
            raise VectorError(f"{path}: covariance and factor do not fit each other: {shapes}.")
        if not all(np.isfinite(array).all() for array in (found.covariance, found.factor)):
            raise VectorError(f"{path}: not finite. Fit it again: v2f ids within.")
        if _sha256(found.covariance, found.factor) != expected:
            raise VectorError(
                f"{path}: contents do not match their sha256 {expected[:12]}; the file was changed."
            )
        return found


def fit_within(
    blocks: Blocks,
    codes: NDArray[np.int64],
    centres: Centres,
    *,
    components: int | None = None,
    shrinkage: float | str = 0.0,
    origin: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Within:
    """The pooled within-person covariance of features whose people's means are known.

    Args:
        blocks: the features in order, a second time.
        codes: int64 `[N]`: whose a row is, as `person_centres` took them.
        centres: what that gave, with no row left out.
        components, shrinkage, origin: as `statistics.fit_statistics`.
        progress: called with (rows done, rows in all).

    Raises:
        VectorError: no person with two images, or people whose images are all equal.
        ConfigError: components or shrinkage out of range.
    """
    images, people = int(centres.images.sum()), len(centres)
    moments = Moments(centres.sums.shape[1])
    for first, rows in blocks:
        own = codes[first : first + len(rows)]
        wide, own = rows[own >= 0].astype(np.float64), own[own >= 0]
        wide -= centres.sums[own] / centres.images[own, None]
        moments.scatter += wide.T @ wide
        if progress is not None:
            progress(first + len(rows), len(codes))
    moments.count = (
        images - people + 1
    )  # the covariance divides by one less: N - P, as people's means were fitted
    if moments.count < 2:
        raise VectorError(
            f"{origin or 'features'}: {images:,} images of {people:,} people: nobody has two, so nothing says how "
            "images of one person differ. Give features of images and whose each is."
        )
    if not np.trace(moments.scatter) > EQUAL * images * centres.length**2:
        raise VectorError(
            f"{origin or 'features'}: the images of each person are equal to one another, so there is no covariance to "
            "fit. Give features of different images."
        )
    found = statistics_of(moments, components=components, shrinkage=shrinkage, origin=origin)
    return Within(found.covariance, found.factor, images, people, found.shrinkage, origin)


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256(FORMAT.encode())
    for array in arrays:
        digest.update(str(array.shape).encode() + array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()

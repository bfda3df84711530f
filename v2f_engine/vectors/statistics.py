"""Mean and covariance of real features, fitted in a stream, and the linear map that samples like them.

The published route samples N(mean, covariance) of per-identity features; "PCA with 512 of 512 components" is
the same thing. Sums are float64 and blocks are merged as one set (Chan, Golub and LeVeque 1979), so millions
of rows cost memory for one block only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import between, one_of, whole_number
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.vectors.centres import Centres
from v2f_engine.vectors.files import (
    read_tensors,
    reading,
    rows_told,
    share_told,
    text_told,
    write_tensors,
)
from v2f_engine.vectors.gate import DIMENSION, check_vectors
from v2f_engine.vectors.repeats import Repeats
from v2f_engine.vectors.streams import parts_of, stream

FORMAT = "v2f-statistics/1"

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class Moments:
    """Running count, mean `[D]` and scatter `[D, D]` (outer products about the mean) of rows, in float64."""

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean = np.zeros(dimension)
        self.scatter = np.zeros((dimension, dimension))

    def add(self, rows: NDArray[Any]) -> None:
        """Adds rows `[N, D]` of any float type."""
        wide = rows.astype(np.float64)
        other = Moments(wide.shape[1])
        other.count, other.mean = len(wide), wide.mean(axis=0)
        wide -= other.mean
        other.scatter = wide.T @ wide
        self.merge(other)

    def merge(self, other: Moments) -> None:
        """Adds another set's moments, as if its rows had been added here."""
        total = self.count + other.count
        if not other.count:
            return
        step = other.mean - self.mean
        self.scatter += other.scatter + np.outer(step, step) * (self.count * other.count / total)
        self.mean = self.mean + step * (other.count / total)
        self.count = total

    def covariance(self) -> Float64:
        """Unbiased covariance `[D, D]`, exactly symmetric."""
        covariance = self.scatter / (self.count - 1)
        return (covariance + covariance.T) / 2


@dataclass(frozen=True)
class Statistics:
    """A multivariate normal fitted to features.

    Args:
        mean: float64 `[D]`.
        covariance: float64 `[D, D]`, symmetric.
        count: rows it was fitted on.
        factor: float32 `[D, K]`; a sample is mean + factor @ z with z standard normal. Stored, not
            recomputed, so that samples never depend on a LAPACK version.
        shrinkage: share of the covariance replaced by its isotropic part.
        origin: what was fitted, for people.
    """

    mean: Float64
    covariance: Float64
    count: int
    factor: Float32
    shrinkage: float = 0.0
    origin: str = ""

    @property
    def components(self) -> int:
        """K: D, or the number of principal components kept."""
        return int(self.factor.shape[1])

    @property
    def effective_dimension(self) -> float:
        """Participation ratio (tr C)^2 / tr C^2 of the covariance: D when isotropic, 1 on a line."""
        return float(np.trace(self.covariance) ** 2 / np.sum(self.covariance**2))

    @property
    def sampled_dimension(self) -> float:
        """The same ratio of what samples differ by, factor @ z: `components` at most, where those are fewer than D."""
        inner = self.factor.astype(np.float64).T @ self.factor.astype(np.float64)
        return float(np.trace(inner) ** 2 / np.sum(inner**2))

    @property
    def components_told(self) -> str:
        """`512 components`; of fewer also what they leave, as other figures are of the whole covariance."""
        whole = len(self.mean)
        if self.components == whole:
            return f"{whole} components"
        return f"{self.components} of {whole} components (effective dimension {self.sampled_dimension:.1f})"

    @property
    def cosine_dimension(self) -> float:
        """The same ratio of the second moment about the origin, which cosines see: about 1 / E[cos^2]."""
        moment = self.covariance + np.outer(self.mean, self.mean)
        return float(np.trace(moment) ** 2 / np.sum(moment**2))

    @property
    def length(self) -> float:
        """Root mean square length of the features: what tells unit vectors from an extractor's own."""
        return float(np.sqrt(np.trace(self.covariance) + self.mean @ self.mean))

    @property
    def sha256(self) -> str:
        """Hash of what decides a sample: mean and factor."""
        return _sha256(self.mean, self.factor)

    def with_components(self, components: int) -> Statistics:
        """The same fit sampled from its `components` strongest principal directions only."""
        return replace(self, factor=_factor(self.covariance, components))


def fit_statistics(
    blocks: Iterable[tuple[int, Float32]],
    *,
    components: int | None = None,
    shrinkage: float | str = 0.0,
    origin: str = "",
) -> Statistics:
    """Fits mean and covariance to a stream of features.

    Args:
        blocks: (first row, float32 rows `[N, D]`), as `npy.stream` gives them for files or arrays.
        components: principal components to sample from; all D by default.
        shrinkage: 0..1, share of the covariance to replace by tr(C)/D times the identity, or `"oas"` for the
            oracle-approximating share (Chen, Wiesel, Eldar and Hero 2010), for fewer than about 10 D rows.
        origin: a name to store with the result.

    Raises:
        VectorError: fewer than two rows, or rows without any variance.
        ConfigError: components or shrinkage out of range.
    """
    moments: Moments | None = None
    for _, rows in blocks:
        moments = moments or Moments(rows.shape[1])
        moments.add(rows)
    if moments is None or moments.count < 2:
        raise VectorError("expected at least 2 rows to fit statistics on. Give more features.")
    return statistics_of(moments, components=components, shrinkage=shrinkage, origin=origin)


def statistics_of(
    moments: Moments,
    *,
    components: int | None = None,
    shrinkage: float | str = 0.0,
    origin: str = "",
    what: str = "",
) -> Statistics:
    """The fit on rows that are summed up already, at least two; arguments and errors as `fit_statistics`.

    Args:
        what: begins the message about rows without variance.
    """
    covariance = moments.covariance()
    if not np.trace(covariance) > 0:
        raise VectorError(f"{what}all {moments.count} rows are equal: there is no covariance to fit.")
    share = _share(shrinkage, covariance, moments.count)
    dimension = len(covariance)
    covariance = (1 - share) * covariance + share * np.trace(covariance) / dimension * np.eye(dimension)
    factor = _factor(covariance, dimension if components is None else components)
    return Statistics(moments.mean, covariance, moments.count, factor, share, origin)


def fit_files(
    source: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]],
    *,
    components: int | None = None,
    shrinkage: float | str = 0.0,
    dimension: int | None = DIMENSION,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """`fit_statistics` on one `.npy` file or array, or on several as one set; every row passes the gate.

    A folder stands for the `.npy` files in it, in order of their names; `progress` is called with (rows done,
    rows in all) before each block. A row is a person: features of images are fitted by `fit_centres`.

    Warns:
        V2FWarning: rows that show one person again and again (`repeats.Repeats`).

    Raises:
        VectorError: files or rows that do not pass, with row numbers; otherwise as `fit_statistics`.
    """
    parts = parts_of(source, dimension=dimension)
    origin = ", ".join(Path(name).name for name, _ in parts[:3]) + (", ..." if len(parts) > 3 else "")
    total = sum(len(array) for _, array in parts)
    repeats = Repeats(total)

    def blocks() -> Iterator[tuple[int, Float32]]:
        for first, rows in stream(parts):
            if progress is not None:
                progress(first, total)
            repeats.add(first, rows)
            yield first, rows

    found = fit_statistics(blocks(), components=components, shrinkage=shrinkage, origin=origin)
    repeats.warn(origin, found.mean, found.factor)
    return found


LENGTHS = ("centres", "images")
"""What a fit on people's means takes their length from."""


def fit_centres(
    centres: Centres,
    *,
    length: str = "centres",
    components: int | None = None,
    shrinkage: float | str = 0.0,
    origin: str = "",
) -> Statistics:
    """`fit_statistics` on people's mean features.

    Args:
        centres: as `person_centres` gives them.
        length: `centres` fits them as they are, which is the published route; `images` multiplies all by one factor,
            which brings their mean length to that of single images: for a generator that has seen features of images
            only and knows no shorter ones, as `mini` (20.9 became 24.4).
        components, shrinkage, origin: as in `fit_statistics`.

    Raises:
        ConfigError, VectorError: as `fit_statistics`.
    """
    scale = length_factor(centres, length)
    rows = (
        (first, check_vectors(block, "centres", dimension=None, allow_duplicates=True, first=first))
        for first, block in centres.rows(scale)
    )
    return fit_statistics(rows, components=components, shrinkage=shrinkage, origin=origin)


def length_factor(centres: Centres, length: str) -> float:
    """What people's means are multiplied by for a `length` of `LENGTHS`; ConfigError for another."""
    one_of("length", length, LENGTHS)
    return centres.length / float(centres.lengths.mean()) if length == "images" else 1.0


def _share(shrinkage: float | str, covariance: Float64, count: int) -> float:
    if not isinstance(shrinkage, str):
        between("shrinkage", shrinkage, 0, 1)
        return float(shrinkage)
    one_of("shrinkage", shrinkage, ("oas",))
    d, trace, squares = len(covariance), float(np.trace(covariance)), float(np.sum(covariance**2))
    spread = (count + 1 - 2 / d) * (squares - trace**2 / d)
    return min(1.0, ((1 - 2 / d) * squares + trace**2) / spread) if spread > 0 else 1.0


def _factor(covariance: Float64, components: int) -> Float32:
    """float32 `[D, K]`: strongest eigenvectors times the root of their values, largest entry positive."""
    components = whole_number("components", components)
    if not 1 <= components <= len(covariance):
        raise ConfigError(f"components must lie between 1 and {len(covariance)}, found {components}.")
    values, directions = np.linalg.eigh(covariance)
    order = np.argsort(-values, kind="stable")[:components]
    factor = directions[:, order] * np.sqrt(np.maximum(values[order], 0))
    largest = factor[np.abs(factor).argmax(axis=0), np.arange(components)]
    return np.asarray(factor * np.where(largest < 0, -1, 1), np.float32)


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256(FORMAT.encode())
    for array in arrays:
        digest.update(str(array.shape).encode() + array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def save_statistics(path: str | Path, statistics: Statistics) -> None:
    """Writes a safetensors file with tensors `mean`, `covariance`, `factor` and JSON metadata, atomically.

    Raises:
        DiskFull, OutputFolderError: it cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {
        "mean": statistics.mean,
        "covariance": statistics.covariance,
        "factor": statistics.factor,
    }
    about = {
        "count": statistics.count,
        "shrinkage": statistics.shrinkage,
        "origin": statistics.origin,
        "sha256": _sha256(statistics.mean, statistics.covariance, statistics.factor),
        "length": round(statistics.length, 4),
        "effective_dimension": round(statistics.effective_dimension, 3),
        "cosine_dimension": round(statistics.cosine_dimension, 3),
    }
    write_tensors(path, tensors, {"format": FORMAT, "about": json.dumps(about, sort_keys=True)})


def load_statistics(path: str | Path) -> Statistics:
    """Reads what `save_statistics` wrote.

    Raises:
        VectorError: missing, truncated, foreign, changed, not finite, or shapes that do not fit.
    """
    tensors, metadata = read_tensors(path, FORMAT)
    with reading(path, "Fit the statistics again: v2f ids fit."):
        about = json.loads(metadata["about"])
        found = Statistics(
            tensors["mean"].astype(np.float64),
            tensors["covariance"].astype(np.float64),
            rows_told(about["count"], "count"),
            tensors["factor"].astype(np.float32),
            share_told(about["shrinkage"], "shrinkage"),
            text_told(about["origin"], "origin"),
        )
        expected = text_told(about["sha256"], "sha256")
    d = found.mean.size
    shapes = (found.mean.shape, found.covariance.shape, found.factor.shape[:1])
    if shapes != ((d,), (d, d), (d,)) or found.factor.ndim != 2 or not 1 <= found.factor.shape[1] <= d:
        raise VectorError(f"{path}: mean, covariance and factor do not fit each other: {shapes}.")
    if not all(np.isfinite(array).all() for array in (found.mean, found.covariance, found.factor)):
        raise VectorError(f"{path}: statistics are not finite. Fit them again: v2f ids fit.")
    if _sha256(found.mean, found.covariance, found.factor) != expected:
        raise VectorError(
            f"{path}: contents do not match their sha256 {expected[:12]}; the file was changed."
        )
    return found

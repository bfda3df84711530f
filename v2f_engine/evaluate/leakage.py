"""Identity leakage: is somebody generated who is in a real set? Every image against every image, streamed.

Each synthetic row (an image, or an identity's centre) meets every gallery row; its largest cosine counts. The
search is exact and needs the memory of one block, so a gallery may be a memory map of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.backends import function
from v2f_engine.config import at_least, between
from v2f_engine.errors import VectorError
from v2f_engine.models.feature_health import judge_features
from v2f_engine.scores import TELLING
from v2f_engine.vectors.calibration import calibrate_threshold

BLOCK = 65_536
"""Queries at a time: the gallery is then quantised once per 65,536 queries, 2 % of the work at a million rows."""
PUBLISHED = (0.5, 0.7)
"""Cosines at which the Vec2Face talk reports leakage."""
CALIBRATION_ROWS = 20_000
"""Gallery rows for the calibrated threshold: 2e8 pairs, so a rate of 1e-6 is known to 7 %."""
WORST = 24
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Above:
    """How many synthetic rows have a gallery row above a threshold.

    Args:
        what: `published`, or `FMR 0.0001` for one calibrated on the gallery's own people.
        threshold: cosine.
        count, share: of synthetic rows above it.
        by_chance: share that people who are not in the gallery would reach, each meeting `gallery` rows at the
            calibrated rate; None for a published threshold, whose rate is not known here.
    """

    what: str
    threshold: float
    count: int
    share: float
    by_chance: float | None = None


@dataclass(frozen=True)
class Leakage:
    """One synthetic set against one gallery.

    Args:
        synthetic, gallery: rows compared.
        above: shares above each threshold.
        quantiles: of the top-1 cosines, by share of rows below.
        worst: (synthetic row, gallery row, cosine), the largest cosines first.
        seconds: of the search.
        cosine, index: top-1 cosine float64 and gallery row int64 of each synthetic row.
    """

    synthetic: int
    gallery: int
    above: tuple[Above, ...]
    quantiles: dict[str, float]
    worst: tuple[tuple[int, int, float], ...]
    seconds: float
    cosine: NDArray[np.float64] = field(repr=False)
    index: NDArray[np.int64] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Every number, without the two long arrays."""
        return {key: value for key, value in asdict(self).items() if key not in ("cosine", "index")}


def measure_leakage(
    synthetic: Vectors,
    gallery: Vectors,
    *,
    thresholds: Sequence[float] = PUBLISHED,
    fmr: float | None = 1e-6,
    gallery_labels: NDArray[np.int64] | None = None,
    worst: int = WORST,
    backend: str = "auto",
    block: int = BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> Leakage:
    """Top-1 cosine of every synthetic row in the gallery, and what follows from it.

    Args:
        synthetic, gallery: float32 `[Q, D]` and `[G, D]`, any norm above zero; memory maps are read in blocks.
        thresholds: cosines at which to report shares.
        fmr: false-match rate at which a threshold is calibrated on pairs of different gallery people (at most
            20,000 rows, evenly spread); None leaves it out.
        gallery_labels: identity of each gallery row; without them every row is its own person.
        worst: pairs listed.
        backend: of `v2f_kernels.nearest_cosine`; speed only.
        block: synthetic rows a step.
        progress: called with (synthetic rows done, in all).

    Raises:
        VectorError: rows that do not fit, are not finite, have no direction, or all the same one.
        ConfigError: a threshold outside [-1, 1], a negative count, or too few gallery people for the rate.
    """
    import time

    for threshold in thresholds:
        between("threshold", threshold, -1, 1)
    at_least("worst", worst, 0)
    at_least("block", block, 1)
    if synthetic.ndim != 2 or gallery.ndim != 2 or synthetic.shape[1] != gallery.shape[1]:
        raise VectorError(
            f"Leakage compares features of one length: found synthetic {list(synthetic.shape)} and gallery "
            f"{list(gallery.shape)}."
        )
    if not len(synthetic) or not len(gallery):
        raise VectorError("Leakage needs a synthetic row and a gallery row at least.")
    judge_features(synthetic).check("synthetic")
    judge_features(gallery).check("gallery")
    nearest = function("nearest_cosine", backend)
    cosine, index = np.empty(len(synthetic), np.float64), np.empty(len(synthetic), np.int64)
    started = time.perf_counter()
    for start in range(0, len(synthetic), block):
        part = slice(start, min(len(synthetic), start + block))
        rows = np.ascontiguousarray(synthetic[part], np.float32)
        try:
            cosine[part], index[part] = nearest(rows, gallery)
        except ValueError as error:
            raise VectorError(f"synthetic rows from {start}: {error}") from error
        if progress is not None:
            progress(part.stop, len(synthetic))
    seconds = time.perf_counter() - started
    found = [above_threshold("published", threshold, cosine) for threshold in thresholds]
    if fmr is not None:
        rows, labels = spread_rows(gallery, gallery_labels)
        calibration = calibrate_threshold(rows, labels, fmr=fmr)
        found.append(
            above_threshold(f"FMR {fmr:g}", calibration.threshold, cosine, by_chance(fmr, len(gallery)))
        )
    order = np.lexsort((np.arange(len(cosine)), -cosine))[:worst]
    return Leakage(
        synthetic=len(synthetic),
        gallery=len(gallery),
        above=tuple(found),
        quantiles={f"{q:g}": float(np.quantile(cosine, q)) for q in QUANTILES},
        worst=tuple((int(row), int(index[row]), float(cosine[row])) for row in order),
        seconds=seconds,
        cosine=cosine,
        index=index,
    )


def by_chance(fmr: float, gallery: int) -> float:
    """Share of strangers who meet a false match among `gallery` rows: `1 - (1 - fmr)^gallery`."""
    return float(-np.expm1(gallery * np.log1p(-fmr)))


def lowest_rate(rows: int, labels: NDArray[np.int64] | None = None) -> float | None:
    """The lowest of 1e-6, 1e-5, ... 0.01 that pairs of different gallery people suffice for; None below.

    Args:
        rows, labels: of the gallery; without labels every row is its own person.
    """
    chosen = min(rows, CALIBRATION_ROWS)
    counts = np.ones(chosen) if labels is None else np.unique(labels, return_counts=True)[1] * (chosen / rows)
    pairs = (chosen**2 - float((counts**2).sum())) / 2
    return next((rate for rate in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2) if pairs * rate >= 1.1 * TELLING), None)


def spread_rows(
    gallery: Vectors, labels: NDArray[np.int64] | None, limit: int = CALIBRATION_ROWS
) -> tuple[Vectors, NDArray[np.int64] | None]:
    """At most `limit` gallery rows, evenly spread, with their labels."""
    chosen = np.unique(np.linspace(0, len(gallery) - 1, min(limit, len(gallery))).astype(np.int64))
    return np.ascontiguousarray(gallery[chosen], np.float32), None if labels is None else labels[chosen]


def above_threshold(
    what: str, threshold: float, cosine: NDArray[np.float64], chance: float | None = None
) -> Above:
    """How many of the top-1 cosines are above a threshold."""
    count = int((cosine > threshold).sum())
    return Above(what, float(threshold), count, count / len(cosine), chance)

"""Identity leakage: is somebody generated who is in a real set? Every row against every row, streamed.

Two measures, both exact. Of **rows**: a synthetic row (an image, or an identity's vector) meets every gallery row, and
its largest cosine counts; this share grows with the gallery. Of **pairs**: how many of all pairs are above, which is
the published table (5 M identity vectors against the centres of real people). Where rows have labels, people are
counted, too: by their centres, which is what the published table compares, and by any two of their images. The search
needs the memory of one block, so a gallery may be a memory map of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.backends import function
from v2f_engine.config import at_least, between
from v2f_engine.errors import VectorError
from v2f_engine.evaluate.leakage_pairs import Pairs, centres, count_pairs
from v2f_engine.models.feature_health import judge_features
from v2f_engine.scores import TELLING
from v2f_engine.vectors.calibration import calibrate_threshold

BLOCK = 65_536
"""Queries at a time: the gallery is then quantised once per 65,536 queries, 2 % of the work at a million rows."""
PUBLISHED = (0.5, 0.7)
"""Cosines at which the Vec2Face talk reports leakage."""
CALIBRATION_ROWS = 20_000
"""Gallery rows for the calibrated threshold: 2e8 pairs, so a rate of 1e-6 is known to 7 %."""
PAIRED = ("pairs", "people", "centres")
WORST = 24
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Above:
    """How many synthetic rows, and how many pairs, are above a threshold.

    Args:
        what: `published` for 0.5 and 0.7, `given` for another cosine, `FMR 0.0001` for one calibrated on the gallery's
            own people.
        threshold: cosine.
        count, share: of synthetic rows with a gallery row above it.
        by_chance: share that people who are not in the gallery would reach, each meeting `gallery` rows at the
            calibrated rate; None for a published threshold, whose rate is not known here.
        pairs: of a synthetic and a gallery row; None for a calibrated threshold, whose pairs are what `FMR` says.
        people: of a synthetic and a gallery person with any two rows above; None where neither side has labels.
        centres: of a synthetic and a gallery person whose mean features are above; None likewise.
    """

    what: str
    threshold: float
    count: int
    share: float
    by_chance: float | None = None
    pairs: Pairs | None = None
    people: Pairs | None = None
    centres: Pairs | None = None


@dataclass(frozen=True)
class Leakage:
    """One synthetic set against one gallery.

    Args:
        synthetic, gallery: rows compared.
        above: shares above each threshold.
        quantiles: of the top-1 cosines, by share of rows below.
        worst: (synthetic row, gallery row, cosine), the largest cosines first.
        same_set: both sides hold the same rows, so each is its own nearest; of pairs, those of one with itself are left
            out.
        decided: pairs of rows so close to a threshold that float64 decided them.
        seconds, pair_seconds: of the search, and of counting pairs after it.
        cosine, index: top-1 cosine float64 and gallery row int64 of each synthetic row.
    """

    synthetic: int
    gallery: int
    above: tuple[Above, ...]
    quantiles: dict[str, float]
    worst: tuple[tuple[int, int, float], ...]
    same_set: bool
    decided: int
    seconds: float
    pair_seconds: float
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
    labels: NDArray[np.int64] | None = None,
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
        labels, gallery_labels: identity of each synthetic and each gallery row; without, every row is its own person.
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
    same_set = same_rows(synthetic, gallery)
    if same_set:
        labels = gallery_labels = gallery_labels if labels is None else labels
    started = time.perf_counter()
    cosine, index = _nearest(synthetic, gallery, backend, block, progress)
    searched = time.perf_counter()
    found = [above_threshold(_called(threshold), threshold, cosine) for threshold in thresholds]
    decided = 0
    if thresholds:
        counts = count_pairs(
            synthetic, gallery, cosine, thresholds, labels=labels, gallery_labels=gallery_labels
        )
        decided, nothing = counts.decided, [None] * len(found)
        kept = _without_selves if same_set and max(thresholds) < 1 else lambda pairs: pairs
        by_centres = _of_centres(synthetic, gallery, thresholds, labels, gallery_labels, backend, block)
        found = [
            replace(above, **dict(zip(PAIRED, map(kept, (pairs, people, means)), strict=True)))
            for above, pairs, people, means in zip(
                found, counts.rows, counts.people or nothing, by_centres or nothing, strict=True
            )
        ]
    counted = time.perf_counter()
    if fmr is not None:
        rows, whom = spread_rows(gallery, gallery_labels)
        calibration = calibrate_threshold(rows, whom, fmr=fmr)
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
        same_set=same_set,
        decided=decided,
        seconds=searched - started,
        pair_seconds=counted - searched,
        cosine=cosine,
        index=index,
    )


def same_rows(synthetic: Vectors, gallery: Vectors) -> bool:
    """Whether both sides hold the same rows in the same order: one set twice, whose every row is its own nearest."""
    return synthetic.shape == gallery.shape and all(
        np.array_equal(synthetic[start : start + BLOCK], gallery[start : start + BLOCK])
        for start in range(0, len(synthetic), BLOCK)
    )


def _without_selves(pairs: Pairs | None) -> Pairs | None:
    """Of a set against itself: the pairs of each with itself, all of cosine 1, left out of both numbers."""
    if pairs is None:
        return None
    selves = math.isqrt(pairs.total)
    count, total = pairs.count - selves, pairs.total - selves
    return Pairs(count, total, count / total if total else 0.0)


def _called(threshold: float) -> str:
    return "published" if threshold in PUBLISHED else "given"


def _nearest(
    synthetic: Vectors,
    gallery: Vectors,
    backend: str,
    block: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest cosine of each synthetic row, and its gallery row; `block` synthetic rows at a time."""
    nearest = function("nearest_cosine", backend)
    cosine, index = np.empty(len(synthetic), np.float64), np.empty(len(synthetic), np.int64)
    for start in range(0, len(synthetic), block):
        part = slice(start, min(len(synthetic), start + block))
        rows = np.ascontiguousarray(synthetic[part], np.float32)
        try:
            cosine[part], index[part] = nearest(rows, gallery)
        except ValueError as error:
            raise VectorError(f"synthetic rows from {start}: {error}") from error
        if progress is not None:
            progress(part.stop, len(synthetic))
    return cosine, index


def _of_centres(
    synthetic: Vectors,
    gallery: Vectors,
    thresholds: Sequence[float],
    labels: NDArray[np.int64] | None,
    gallery_labels: NDArray[np.int64] | None,
    backend: str,
    block: int,
) -> tuple[Pairs, ...] | None:
    """Pairs of people by their mean features; None where each row is a person."""
    if labels is None and gallery_labels is None:
        return None
    made, real = centres(synthetic, labels), centres(gallery, gallery_labels)
    return count_pairs(made, real, _nearest(made, real, backend, block)[0], thresholds).rows


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

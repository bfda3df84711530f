"""What is measured of one set, for the set of a report, its reference and the sets beside it alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.evaluate.consistency import Consistency, measure_consistency
from v2f_engine.evaluate.dcface import measure_uniqueness
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.intervals import FEWEST, Interval, too_few, wilson
from v2f_engine.evaluate.plots import axis_start, roc
from v2f_engine.evaluate.report.charts import histogram
from v2f_engine.evaluate.separability import Separability, measure_separability
from v2f_engine.evaluate.set_intervals import Extra, Progress, set_intervals
from v2f_engine.evaluate.source import FeatureSource
from v2f_engine.scores import impostor_count
from v2f_engine.vectors.separability import separability_curve

CURVE_POINTS = 50
POINTS = 240
"""Of a ROC: more than pixels."""
NOT_TOLD = (
    "eer", "eer_threshold", "fmr100", "fmr1000", "fdr", "false_match_rate", "false_non_match_rate", "genuine_mean",
    "genuine_std", "impostor_mean", "impostor_std",
)  # fmt: skip
"""Of a set without two images of one person, or without a second person."""
NOT_ALIKE = ("pair_cosine", "pair_cosine_p05", "pair_cosine_p95", "rest_cosine", "own_nearest")


def measure_section(
    source: FeatureSource, threshold: float, extra: Extra, *, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Separability, DCFace's numbers, consistency, curves and the interval of each measure, as JSON values.

    A set of one person, or with one image of each, has `too_few`, a sentence, and None where nothing can be told.

    Raises:
        ConfigError: no labels. VectorError: bad rows.
    """
    counts = None if source.labels is None else np.unique(source.labels, return_counts=True)[1]
    if counts is not None and (len(counts) < 2 or counts.max() < 2):
        return _few(source, threshold, counts)
    table = source.table()
    apart, alike = measure_separability(table, threshold=threshold), measure_consistency(table)
    three = measure_uniqueness(table, radius=1 - threshold)
    curve = separability_curve(
        table.centres, threshold=threshold, step=max(1, apart.identities // CURVE_POINTS)
    )
    intervals = set_intervals(table, apart, alike, three, extra=extra, seed=seed, progress=progress)
    return {
        "too_few": None,
        "separability": {**apart.to_json(), "curve": [curve.first.tolist(), curve.unique.tolist()]},
        "dcface": three.to_json(),
        "consistency": alike.to_json(),
        "scores": _scores(apart),
        "similarity": _similarity(alike),
        "intervals": {name: one.to_json() for name, one in intervals.items()},
    }


def _few(source: FeatureSource, threshold: float, counts: NDArray[np.int64]) -> dict[str, Any]:
    """Of a set that has no pairs of one kind: what can be told of it, and None for the rest."""
    people = len(counts)
    one_person = people < 2
    why = (
        "it holds one identity, and how far apart people are takes two"
        if one_person
        else "no identity has two images, and how alike the images of one are takes two"
    )
    share, intervals, drawn = None, {}, None
    if not one_person:
        centres = FeatureTable(np.asarray(source.features), np.asarray(source.labels)).centres
        curve = separability_curve(centres, threshold=threshold, step=max(1, people // CURVE_POINTS))
        share, drawn = curve.share, [curve.first.tolist(), curve.unique.tolist()]
        known = Interval(share, *wilson(share, max(1.0, people / 2)), people, "wilson")
        intervals["unique_share"] = known if people >= FEWEST else too_few(share, people, "wilson")
    apart = {
        "identities": people,
        "images": int(counts.sum()),
        "threshold": threshold,
        "unique_share": share,
        "genuine_pairs": int((counts * (counts - 1) // 2).sum()),
        "impostor_pairs": 0,
        "impostor_pairs_in_all": impostor_count(np.asarray(source.labels)),
        "curve": drawn,
        **dict.fromkeys(NOT_TOLD),
    }
    return {
        "too_few": why,
        "separability": apart,
        "dcface": {"radius": 1 - threshold, "unique": None, "consistent": None, "diverse": None},
        "consistency": {"identities": 0, **dict.fromkeys(NOT_ALIKE)},
        "scores": None,
        "similarity": None,
        "intervals": {name: one.to_json() for name, one in intervals.items()},
    }


def _scores(measured: Separability) -> dict[str, Any]:
    """Histograms and curves, thinned to what a drawing needs."""
    low = axis_start(min(measured.genuine.min(), measured.impostor.min()))
    false, true = roc(measured.genuine, measured.impostor, POINTS)
    return {
        "low": low,
        "genuine": histogram(measured.genuine, low, 1.0),
        "impostor": histogram(measured.impostor, low, 1.0),
        "false_match": false.tolist(),
        "true_match": true.tolist(),
    }


def _similarity(alike: Consistency) -> list[list[float]]:
    """(mean cosines within identities, ascending; share of identities that have this or less), thinned."""
    ranked = np.sort(alike.per_identity).astype(np.float64)
    ranks = np.unique(np.linspace(0, len(ranked) - 1, min(POINTS, len(ranked))).astype(np.int64))
    return [ranked[ranks].tolist(), ((ranks + 1) / len(ranked)).tolist()]

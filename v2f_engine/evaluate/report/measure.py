"""Everything the report says, measured once, as JSON values, with the few images that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.records.card import flat, licence_chain
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.evaluate.consistency import measure_consistency
from v2f_engine.evaluate.dcface import measure_uniqueness
from v2f_engine.evaluate.leakage import (
    PUBLISHED,
    Leakage,
    above_threshold,
    by_chance,
    lowest_rate,
    measure_leakage,
)
from v2f_engine.evaluate.plots import axis_start, roc
from v2f_engine.evaluate.report.charts import histogram
from v2f_engine.evaluate.separability import Separability, measure_separability
from v2f_engine.evaluate.source import FeatureSource
from v2f_engine.vectors.separability import separability_curve

ROWS, COLUMNS = 8, 8
PAIRS = 12
THUMBNAIL = Encoder(quality=88)
CURVE_POINTS = 50
POINTS = 240
"""Of a ROC: more than pixels."""


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Args:
        record: JSON values.
        faces: encoded JPEGs, identities by rows.
        pairs: (synthetic JPEG or None, gallery JPEG or None, cosine) of the worst leaks.
    """

    record: dict[str, Any]
    faces: list[list[bytes]] = field(repr=False)
    pairs: list[tuple[bytes | None, bytes | None, float]] = field(repr=False)


def make_report(
    source: FeatureSource,
    *,
    threshold: float,
    threshold_from: str,
    gallery: FeatureSource | None = None,
    reference: FeatureSource | None = None,
    fmr: float | None = None,
    accuracy: Sequence[dict[str, Any]] = (),
    command: str = "",
) -> Report:
    """Measures a dataset for its report.

    Args:
        source: the dataset's features, with its images.
        threshold, threshold_from: cosine above which two are one person, and where that comes from.
        gallery: real people who must not be found in it.
        reference: a set of known people, measured alike for comparison.
        fmr: rate of the threshold, where it is known: leakage by chance follows from it.
        accuracy: records of `v2f evaluate verification` of recognisers trained on the set, each with a `name`.
        command: that makes the report again.

    Raises:
        ConfigError, VectorError, DatasetError: as the measurements.
    """
    record: dict[str, Any] = {
        "dataset": _describe(source),
        "recogniser": source.recogniser,
        "threshold": threshold,
        "threshold_from": threshold_from,
        **_measures(source, threshold),
        "reference": None
        if reference is None
        else {"name": reference.name, **_measures(reference, threshold)},
        "leakage": None,
        "accuracy": list(accuracy),
        "command": command,
    }
    pairs: list[tuple[bytes | None, bytes | None, float]] = []
    if gallery is not None:
        leaks = _leaks(source, gallery, threshold, fmr)
        record["leakage"] = {
            "gallery_name": gallery.name,
            **leaks.to_json(),
            "histogram": _bars(leaks.cosine),
        }
        shown = leaks.worst[:PAIRS]
        pairs = [(_jpeg(source, row), _jpeg(gallery, other), cosine) for row, other, cosine in shown]
    return Report(record, _faces(source), pairs)


def _describe(source: FeatureSource) -> dict[str, Any]:
    dataset = source.dataset
    manifest = None if dataset is None else dataset.manifest
    table = source.table()
    description: dict[str, Any] = {
        "name": source.name,
        "identities": len(table.groups),
        "images": len(table),
        "format": "features" if dataset is None else dataset.format,
        "settings": [],
        "licences": [],
        "versions": {},
    }
    if manifest is not None:
        description["settings"] = [[key, value] for key, value in flat(manifest.settings)]
        description["licences"] = licence_chain(manifest.settings)
        description["versions"] = dict(manifest.versions)
        description["images_in_set"] = manifest.images
    return description


def _measures(source: FeatureSource, threshold: float) -> dict[str, Any]:
    table = source.table()
    measured = measure_separability(table, threshold=threshold)
    curve = separability_curve(
        table.centres, threshold=threshold, step=max(1, measured.identities // CURVE_POINTS)
    )
    return {
        "separability": {**measured.to_json(), "curve": [curve.first.tolist(), curve.unique.tolist()]},
        "dcface": measure_uniqueness(table, radius=1 - threshold).to_json(),
        "consistency": measure_consistency(table).to_json(),
        "scores": _scores(measured),
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


def _bars(cosine: NDArray[np.float64]) -> dict[str, Any]:
    low = axis_start(cosine.min())
    return {"low": low, "bars": histogram(cosine, low, 1.0)}


def _leaks(source: FeatureSource, gallery: FeatureSource, threshold: float, fmr: float | None) -> Leakage:
    found = measure_leakage(
        source.features,
        gallery.features,
        thresholds=PUBLISHED,
        fmr=lowest_rate(len(gallery.features), gallery.labels),
        labels=source.labels,
        gallery_labels=gallery.labels,
        worst=PAIRS,
    )
    chance = None if fmr is None else by_chance(fmr, len(gallery.features))
    own = above_threshold("one person", threshold, found.cosine, chance)
    return replace(found, above=(own, *found.above))


def _faces(source: FeatureSource) -> list[list[bytes]]:
    """The first images of identities spread over the set."""
    if source.dataset is None or source.labels is None:
        return []
    groups = source.table().groups
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(ROWS, len(groups))).astype(int))
    return [
        [data for row in groups[place][:COLUMNS].tolist() if (data := _jpeg(source, row)) is not None]
        for place in chosen.tolist()
    ]


def _jpeg(source: FeatureSource, row: int) -> bytes | None:
    image = source.image(row)
    return None if image is None else THUMBNAIL.encode(image)

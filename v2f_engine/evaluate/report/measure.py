"""Everything the report says, measured once, as JSON values, with the few images that it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.records.card import flat
from v2f_engine.data.records.licences import licence_chain
from v2f_engine.errors import ConfigError
from v2f_engine.evaluate.by_group import OWN, column_of, groups_of, measure_by_group, own_groups
from v2f_engine.evaluate.intervals import LEVEL, Interval, difference
from v2f_engine.evaluate.leakage import (
    PUBLISHED,
    Leakage,
    above_threshold,
    by_chance,
    lowest_rate,
    measure_leakage,
)
from v2f_engine.evaluate.plots import axis_start
from v2f_engine.evaluate.report.charts import histogram
from v2f_engine.evaluate.report.pictured import faces_of, jpeg_of, numbers_of
from v2f_engine.evaluate.report.readings import Readings, read_faces
from v2f_engine.evaluate.report.section import measure_section
from v2f_engine.evaluate.resample import resamples_of
from v2f_engine.evaluate.set_intervals import Extra
from v2f_engine.evaluate.source import FeatureSource

PAIRS = 12

Progress = Callable[[int, int], None]
Pair = tuple[bytes | None, bytes | None, float]


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Args:
        record: JSON values.
        faces: encoded JPEGs, identities by rows.
        pairs: (synthetic JPEG or None, gallery JPEG or None, cosine) of the worst leaks.
        others: the faces of each set beside it.
    """

    record: dict[str, Any]
    faces: list[list[bytes]] = field(repr=False)
    pairs: list[Pair] = field(repr=False)
    others: list[list[list[bytes]]] = field(default_factory=list, repr=False)


def make_report(
    source: FeatureSource,
    *,
    threshold: float,
    threshold_from: str,
    gallery: FeatureSource | None = None,
    reference: FeatureSource | None = None,
    beside: Sequence[FeatureSource] = (),
    fmr: float | None = None,
    accuracy: Sequence[dict[str, Any]] = (),
    groups: str | None = None,
    command: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Measures a dataset for its report, each measure with an interval of 95 %.

    Args:
        source: the dataset's features, with its images.
        threshold, threshold_from: cosine above which two are one person, and where that comes from.
        gallery: real people who must not be found in it.
        reference: a set of known people, measured alike for comparison.
        beside: sets compared with it, measure by measure, read by the same recogniser.
        fmr: rate of the threshold, where it is known: leakage by chance follows from it.
        accuracy: records of `v2f evaluate verification` of recognisers trained on the set, each with a `name`.
        groups: attribute by which the set is told group by group; by default the groups that its people were sampled
            by, if any.
        command: that makes the report again.
        seed: of the resamples.
        progress: called with (resamples done, in all), over all sets.

    Raises:
        ConfigError, VectorError, DatasetError: as the measurements; sets of features that do not compare.
    """
    check_alike(source, beside)
    counted = [one for one in (source, reference, *beside) if one is not None]
    bars = _bars_of(counted, progress)
    record: dict[str, Any] = {
        "dataset": _describe(source),
        "recogniser": source.recogniser,
        "threshold": threshold,
        "threshold_from": threshold_from,
        "resampling": {
            "level": LEVEL,
            "seed": seed,
            "resamples": min(resamples_of(len(numbers_of(one))) for one in counted),
        },
        "leakage": None,
        "accuracy": list(accuracy),
        "command": command,
    }
    readings = read_faces(source)
    leaks = None if gallery is None else _leaks(source, gallery, threshold, fmr)
    record |= measure_section(
        source, threshold, _extra(source, readings, leaks, threshold), seed=seed, progress=bars[0]
    )
    record["groups"] = _groups(source, groups, threshold, seed)
    record["readings"] = None if readings is None else readings.to_json()
    pairs: list[Pair] = []
    if gallery is not None and leaks is not None:
        record["leakage"] = _leakage_json(leaks, gallery)
        shown = leaks.worst[:PAIRS]
        pairs = [(jpeg_of(source, row), jpeg_of(gallery, other), cosine) for row, other, cosine in shown]
    record["reference"] = (
        None
        if reference is None
        else {
            "name": reference.name,
            **measure_section(reference, threshold, Extra(), seed=seed, progress=bars[1]),
        }
    )
    record["beside"] = [
        _compared(record["intervals"], one, threshold, gallery, fmr, seed, bar)
        for one, bar in zip(beside, bars[len(bars) - len(beside) :], strict=True)
    ]
    return Report(record, faces_of(source), pairs, [faces_of(one) for one in beside])


def _groups(
    source: FeatureSource, attribute: str | None, threshold: float, seed: int
) -> dict[str, Any] | None:
    """The set group by group, where it has groups or is asked for an attribute."""
    names = own_groups(source) if attribute is None else groups_of(source, attribute)
    if names is None:
        return None
    column = (
        column_of(source) if attribute in (None, OWN) and own_groups(source) is not None else str(attribute)
    )
    return measure_by_group(source.table(), names, column=column, threshold=threshold, seed=seed).to_json()


def check_alike(source: FeatureSource, beside: Sequence[FeatureSource]) -> None:
    """Raises ConfigError for features of two lengths or of two recognisers: their cosines say nothing of each other."""
    for one in beside:
        if one.features.shape[1:] != source.features.shape[1:]:
            raise ConfigError(
                f"--beside {one.name}: features of {one.features.shape[1]} numbers do not compare with those of "
                f"{source.name}, {source.features.shape[1]}; read both by one recogniser."
            )
        ours, theirs = (known.recogniser.get("sha256") for known in (source, one))
        if ours and theirs and ours != theirs:
            raise ConfigError(
                f"--beside {one.name} was read by {one.recogniser.get('name')}, {source.name} by "
                f"{source.recogniser.get('name')}: cosines of two recognisers do not compare. Give the pictures of "
                "both, or features by one recogniser."
            )


def _bars_of(counted: Sequence[FeatureSource], progress: Progress | None) -> list[Progress | None]:
    """One for each set, of one bar over all of them."""
    each = [resamples_of(len(numbers_of(one))) for one in counted]

    def part(before: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, _: progress(before + done, sum(each))

    return [part(sum(each[:place])) for place in range(len(each))]


def _compared(
    first: dict[str, Any],
    other: FeatureSource,
    threshold: float,
    gallery: FeatureSource | None,
    fmr: float | None,
    seed: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """The record of a set beside the first, with the differences: the first less this one."""
    readings = read_faces(other)
    leaks = None if gallery is None else _leaks(other, gallery, threshold, fmr)
    section = measure_section(
        other, threshold, _extra(other, readings, leaks, threshold), seed=seed, progress=progress
    )
    theirs = section["intervals"]
    return {
        "name": other.name,
        "dataset": _describe(other),
        "recogniser": other.recogniser,
        **section,
        "readings": None if readings is None else readings.to_json(),
        "leakage": None if leaks is None or gallery is None else _leakage_json(leaks, gallery),
        "differences": {
            name: difference(Interval(**first[name]), Interval(**theirs[name])).to_json()
            for name in first
            if name in theirs
        },
    }


def _extra(
    source: FeatureSource, readings: Readings | None, leaks: Leakage | None, threshold: float
) -> Extra:
    """What belongs to images beside their features."""
    if source.labels is None:
        return Extra()
    numbers = numbers_of(source)
    values = {}
    if readings is not None:
        places = np.searchsorted(numbers, readings.labels)
        values = {name: (found, places) for name, found in readings.values.items()}
    shares = {}
    if leaks is not None:
        shares["leakage"] = (leaks.cosine > threshold, np.searchsorted(numbers, source.labels))
    return Extra(values, shares)


def _describe(source: FeatureSource) -> dict[str, Any]:
    dataset = source.dataset
    manifest = None if dataset is None else dataset.manifest
    description: dict[str, Any] = {
        "name": source.name,
        "identities": len(numbers_of(source)),
        "images": len(source.features),
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


def _leakage_json(leaks: Leakage, gallery: FeatureSource) -> dict[str, Any]:
    return {"gallery_name": gallery.name, **leaks.to_json(), "histogram": _bars(leaks.cosine)}


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

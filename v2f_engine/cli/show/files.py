"""Single files: tables of identities, statistics, vectors, weights, exported models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from v2f_engine.cli.show.sets import strangers
from v2f_engine.cli.show.shown import Shown, packed_lines


def file(place: Path) -> Shown:
    """A file: by what its head says it is."""
    from v2f_engine.runtime.artefact import is_artefact
    from v2f_engine.vectors.files import kind_of
    from v2f_engine.vectors.identities import FORMAT
    from v2f_engine.vectors.labelled import FORMAT as LABELLED
    from v2f_engine.vectors.nearest import FORMAT as NEAREST
    from v2f_engine.vectors.statistics import FORMAT as STATISTICS
    from v2f_engine.vectors.within import FORMAT as WITHIN

    if is_artefact(place):
        return _artefact(place)
    readers: Mapping[str, Callable[[Path], Shown]] = {
        FORMAT: _identities,
        STATISTICS: _statistics,
        LABELLED: _labelled,
        WITHIN: _within,
        NEAREST: _nearest,
    }
    kind = kind_of(place)
    if kind in readers:
        return readers[kind](place)
    if place.suffix in (".safetensors", ".pth", ".pt"):
        return _weights(place)
    if place.suffix in (".npy", ".npz"):
        return _vectors(place)
    return strangers(place)


def _vectors(place: Path) -> Shown:
    from v2f_engine.vectors.streams import open_vectors

    rows = open_vectors(place, dimension=None)
    count, length = len(rows), rows.shape[1]
    lines = (
        ("rows", f"{count:,} of {length:,} numbers"),
        ("use", f"v2f ids check {place}; v2f ids fit {place} where a row is a person"),
    )
    return Shown("a file of vectors", lines, {"rows": count, "dimension": length})


def _identities(place: Path) -> Shown:
    from v2f_engine.vectors.identities import Identities

    table = Identities.load(place)
    about = dict(table.provenance)
    limit = about.get("max_cosine")
    apart = f", every cosine below {limit:g}" if isinstance(limit, int | float) else ""
    lines = (
        (
            "people",
            f"{len(table):,} vectors of {table.vectors.shape[1]} numbers, hash {table.table_hash[:12]}",
        ),
        ("source", f"{about.get('source', 'unknown')}{apart}"),
        *packed_lines(about),
        *([("groups", _counted(table.group_counts))] if table.group is not None else []),
        ("faces", "proven on their faces" if "faces" in about else "looked at as vectors alone"),
        ("use", f"v2f generate --vectors {place}"),
    )
    return Shown(
        "a table of identities",
        lines,
        {"identities": len(table), "table_hash": table.table_hash, "provenance": about},
    )


def _statistics(place: Path) -> Shown:
    from v2f_engine.vectors.statistics import load_statistics

    found = load_statistics(place)
    lines = (
        ("rows", f"{found.count:,}, length {found.length:.4g}, sha256 {found.sha256[:12]}"),
        ("dimension", f"{found.effective_dimension:.1f} effective, {found.cosine_dimension:.1f} of cosines"),
        ("sampled in", found.components_told),
        ("use", f"v2f generate --source {place}"),
    )
    return Shown(
        "statistics of identity vectors",
        lines,
        {"rows": found.count, "sha256": found.sha256, "length": found.length},
    )


def _labelled(place: Path) -> Shown:
    from v2f_engine.vectors.labelled import load_labelled

    found = load_labelled(place)
    counts = dict(zip(found.names, found.counts, strict=True))
    how = "one covariance" if found.pooled else "each its own covariance"
    lines = (
        ("rows", f"{sum(found.counts):,} by {found.column}, {how}, sha256 {found.sha256[:12]}"),
        ("groups", _counted(counts)),
        ("sampled in", found.groups[0].components_told),
        ("use", f"v2f ids sample 1000 --source {place} --mix equal"),
    )
    return Shown(
        "statistics of groups of people",
        lines,
        {"groups": counts, "column": found.column, "sha256": found.sha256},
    )


def _within(place: Path) -> Shown:
    from v2f_engine.vectors.within import Within

    found = Within.load(place)
    lines = (
        ("fitted on", f"{found.images:,} images of {found.people:,} people: {found.origin or 'not told'}"),
        (
            "differences",
            f"length {found.length:.4g} in the mean, in {found.rank} of {len(found.covariance)} components, "
            f"shrinkage {found.shrinkage:.3g}, sha256 {found.sha256[:12]}",
        ),
        ("use", f"v2f generate --perturbation covariance:{place}"),
    )
    facts = {"images": found.images, "people": found.people, "length": found.length, "sha256": found.sha256}
    return Shown("how images of one person differ: a within-person covariance", lines, facts)


def _nearest(place: Path) -> Shown:
    from v2f_engine.vectors.nearest import Nearest

    found = Nearest.load(place)
    count = len(found.keys)
    cosines = f": {found.cosine.max():.4f} at most, {found.cosine.mean():.4f} in the mean" if count else ""
    lines = (
        ("people", f"{count:,}, and the cosine of each to the nearest other{cosines}"),
        ("sha256", f"{found.sha256[:12]}, as the manifest of its set says"),
        (
            "use",
            "read by the workers of its set and by v2f repair, so that a guarded cone is not measured again",
        ),
    )
    facts = {"identities": count, "sha256": found.sha256}
    return Shown("how near the people of a set are, for its guarded cone", lines, facts)


def _counted(counts: Mapping[str, int], most: int = 16) -> str:
    told = [f"{name} {count:,}" for name, count in counts.items()]
    return ", ".join(told[:most]) + (f", and {len(told) - most} more" if len(told) > most else "")


def _weights(place: Path) -> Shown:
    from v2f_engine.models.checkpoint_file import read_checkpoint

    file = read_checkpoint(place)
    kind = str(file.head.get("kind", "weights"))
    parts = {
        part: sum(int(value.numel()) for value in tensors.values()) for part, tensors in file.parts.items()
    }
    lines = (
        ("weights", ", ".join(f"{part}: {count:,} numbers" for part, count in parts.items())),
        ("config", json.dumps(file.head.get("config", {}), default=str)),
        ("training", json.dumps(file.head.get("training", {}), default=str)),
        *(("note", words) for words in file.notes),
    )
    return Shown(f"weights ({kind})", lines, {"parts": parts, "head": dict(file.head)})


def _artefact(place: Path) -> Shown:
    from v2f_engine.runtime.artefact import open_artefact

    sidecar = open_artefact(place)
    model = sidecar.model
    lines = (
        ("model", f"{sidecar.part} of {model['name']}, {sidecar.kind}, {sidecar.precision}"),
        ("licence", str(model["licence"])),
        ("use", f"v2f generate --model {place}"),
    )
    return Shown(
        "an exported model",
        lines,
        {"model": dict(model), "precision": sidecar.precision, "runner": sidecar.kind},
    )

"""Features of a whole dataset, once: batched, resumable after a kill, with a record of how they were made.

    features.npy        float32 [N, D], row i belonging to image i; NaN where an image cannot be read
    features.json       recogniser and its hash, channel order, normalisation, dataset, bad rows
    .features.npy.part  while it lasts: rows so far; .features.npy.progress says how many count

Asked for a `.lmdb`, the rows become (jpeg, feature, label) records in the published layout instead.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.atomic import write_atomically
from v2f_engine.config import at_least
from v2f_engine.data.formats.lmdb.entries import TrainingRecord, write_training_lmdb
from v2f_engine.data.gate.resize import line_of, record_of
from v2f_engine.data.training.features_file import RECORD, digest_of_labels
from v2f_engine.data.training.prefetch import Prefetcher
from v2f_engine.data.training.rows import Rows
from v2f_engine.data.training.stored_set import StoredSet
from v2f_engine.data.training.training_set import open_training_set
from v2f_engine.data.writing.lock import exclusive
from v2f_engine.errors import OutputFolderError, VectorError
from v2f_engine.models.embedder import Embedder
from v2f_engine.models.feature_health import judge_features

COMMIT_ROWS = 4096
"""Rows between two points that a killed run resumes from: seconds of work."""
COMPARED = 64
"""Pictures looked at before all-equal features are called a collapse."""


def store_features(
    dataset: str | Path,
    out: str | Path,
    embedder: Embedder,
    *,
    subset: str | Path | NDArray[np.int64] | None = None,
    split: str | None = None,
    told: Callable[[list[str]], object] | None = None,
    on_bad: str = "refuse",
    batch: int = 128,
    threads: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Writes the features of every image; the same call after a kill goes on where rows were committed.

    Args:
        dataset: any format.
        out: `.npy` (its record lies beside it as `.json`), or `.lmdb`.
        embedder: see `open_embedder`.
        subset: `.npy` of row numbers, or an array: only these rows, in that order.
        split: which of several sets at `dataset`; None where there is one.
        told: called with what a user should know of how the set is read.
        on_bad: "refuse" stops at an image that cannot be read, or whose feature is not finite or zero, and
            names it; "skip" writes NaN and notes it. Features that are all one are refused in any case.
        batch: images a call; the last one is filled up, so that a row does not depend on its company.
        threads: that decode.
        progress: called with (rows done, rows in all).

    Returns:
        the record, as in the `.json`.

    Raises:
        VectorError: features that are not finite, without direction, or all one.
        DatasetError, OutputFolderError, DiskFull: as named.
    """
    at_least("batch", batch, 1)
    out = Path(out)
    if out.suffix not in (".npy", ".lmdb"):
        raise OutputFolderError(f"{out}: expected a name that ends in .npy or .lmdb.")
    data = open_training_set(
        dataset, None, subset, split=split, on_bad=on_bad, with_features=False, with_landmarks=False
    )
    if told is not None:
        told(data.told())
    out.parent.mkdir(parents=True, exist_ok=True)
    table = out if out.suffix == ".npy" else out.with_suffix(".features.npy")
    origin: dict[str, Any] = {
        "recogniser": embedder.describe(),
        "dataset": {
            "path": str(data.dataset.path),
            "format": data.dataset.format,
            "rows": len(data),
            **({} if split is None else {"split": split}),
        },
        "labels_sha256": digest_of_labels(data.dataset_labels()),
        "dim": embedder.dim,
        "batch": batch,
        "normalised": False,
    }
    with exclusive(table.with_name(f".{table.name}.lock"), table):
        _extract(data, table, embedder, origin, on_bad, batch, threads, progress)
    resized = data.resized_among(len(data))
    if told is not None and resized:
        told([line_of(resized)])
    record = {**origin, "bad": data.bad.report(), **record_of(resized)}
    write_atomically(table.with_suffix(RECORD), json.dumps(record, indent=1, sort_keys=True).encode())
    if out.suffix == ".lmdb":
        write_training_lmdb(out, _records(data, np.load(table, mmap_mode="r")), data.classes)
        write_atomically(out.with_suffix(RECORD), json.dumps(record, indent=1, sort_keys=True).encode())
        for done in (table, table.with_suffix(RECORD)):
            done.unlink()
    return record


@dataclass(frozen=True)
class FeaturesForecast:
    """What `store_features` would do: rows, numbers each, bytes, and the time of a recogniser measured on a batch.

    `kept` rows were committed by an interrupted run.
    """

    rows: int
    dim: int
    kept: int
    bytes: int
    images_per_second: float
    seconds: float
    measured: str

    def lines(self) -> list[tuple[str, str]]:
        """(name, words) for people."""
        kept = f", {self.kept:,} of them kept from before" if self.kept else ""
        return [
            ("rows", f"{self.rows:,} of {self.dim} numbers{kept}"),
            (
                "time",
                f"{self.seconds / 60:,.1f} minutes at {self.images_per_second:,.1f} images/s, {self.measured}",
            ),
        ]


def foresee_features(
    dataset: str | Path,
    out: str | Path,
    embedder: Embedder,
    *,
    subset: str | Path | None = None,
    split: str | None = None,
    on_bad: str = "refuse",
    batch: int = 128,
) -> FeaturesForecast:
    """What `store_features` would do, and what it would raise before its first byte; writes nothing."""
    at_least("batch", batch, 1)
    data = open_training_set(
        dataset, None, subset, split=split, on_bad=on_bad, with_features=False, with_landmarks=False
    )
    out = Path(out)
    table = out if out.suffix == ".npy" else out.with_suffix(".features.npy")
    rows, spent = list(range(min(len(data), batch))), 0.0
    for _ in range(2):  # the first warms up
        started = time.perf_counter()
        features = _embed(embedder, data.read(rows).images, batch)
        spent = time.perf_counter() - started
    _check(features, rows, data, on_bad)
    kept = 0
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = int(json.loads(table.with_name(f".{table.name}.progress").read_text())["done"])
    size = len(data) * embedder.dim * 4 * (2 if out.suffix == ".lmdb" else 1)
    rate = len(rows) / max(1e-9, spent)
    return FeaturesForecast(
        len(data),
        embedder.dim,
        kept,
        size,
        rate,
        (len(data) - kept) / rate,
        f"measured here on {len(rows)} images",
    )


def _extract(
    data: StoredSet,
    table: Path,
    embedder: Embedder,
    origin: dict[str, Any],
    on_bad: str,
    batch: int,
    threads: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    part, state = (table.with_name(f".{table.name}.{end}") for end in ("part", "progress"))
    rows, dim = len(data), embedder.dim
    done = _resumed(state, part, origin, data)
    header = _npy_header(rows, dim)
    steps = -(-rows // batch)

    def rows_of(step: int) -> list[int]:
        return list(range(step * batch, min(rows, (step + 1) * batch)))

    def prepared(step: int, read: Rows) -> Rows:
        return read

    with part.open("r+b" if part.exists() else "w+b") as file:
        if not done:
            file.truncate(0)
            file.write(header)
        with Prefetcher(data, rows_of, prepared, start=done // batch, stop=steps, threads=threads) as ahead:
            for step, read in enumerate(ahead, start=done // batch):
                wanted = rows_of(step)
                features = _embed(embedder, read.images, batch)
                features[[row in data.bad for row in wanted]] = np.nan
                _check(features, wanted, data, on_bad)
                file.seek(len(header) + wanted[0] * dim * 4)
                file.write(features.tobytes())
                end = wanted[-1] + 1
                if end - done >= COMMIT_ROWS or end == rows:
                    file.flush()
                    os.fsync(file.fileno())
                    resized = data.resized_among(end)
                    committed = {**origin, "done": end, "found": data.bad.dump(), "resized": resized}
                    write_atomically(state, json.dumps(committed, sort_keys=True).encode())
                    done = end
                if progress is not None:
                    progress(end, rows)
    try:
        _refuse_collapse(data, np.load(part, mmap_mode="r"))
    except VectorError:  # kept, rows of no use would stop a mended recogniser of the same --out
        state.unlink()
        part.unlink()
        raise
    os.replace(part, table)
    state.unlink()


def _check(features: NDArray[np.float32], wanted: list[int], data: StoredSet, on_bad: str) -> None:
    """Features of readable images that are not finite or have no direction: refused, or noted and made NaN in place.

    Raises:
        VectorError: `on_bad` is "refuse"; the message has the rows and the likely cause.
    """
    good = np.array([row not in data.bad for row in wanted])
    health = judge_features(features[good])
    rows = np.array(wanted)[good]
    faulty = {"not finite": health.non_finite, "no direction": health.zero}
    found = replace(health, spread=1.0, non_finite=rows[health.non_finite], zero=rows[health.zero])
    if found.faults() and on_bad == "refuse":
        raise VectorError(
            f"features of rows {wanted[0]} to {wanted[-1]}: {'; '.join(found.faults())}. Nothing was written. Mend the "
            'recogniser or the pixels, or note such rows and go on: on_bad="skip" (--on-bad skip).'
        )
    for kind, at in faulty.items():
        for row in rows[at]:
            data.bad.add(
                int(row),
                kind,
                f"the recogniser's feature is {kind}" if kind == "not finite" else "a zero feature",
            )
            features[wanted.index(int(row))] = np.nan


def _refuse_collapse(data: StoredSet, features: NDArray[np.float32]) -> None:
    """Raises VectorError where pictures that differ have one feature, or where not one feature is left."""
    good = [row for row in range(len(data)) if row not in data.bad]
    if not good:
        kinds = data.bad.report()["by_kind"]
        raise VectorError(
            f"not one of {len(data):,} rows has a feature to keep: {kinds}. Nothing was written."
        )
    health = judge_features(np.asarray(features[good]) if len(good) < len(data) else features)
    if not health.collapsed:
        return
    pictures = [data.read([row]).images[0] for row in good[: COMPARED + 1]]
    if any(not np.array_equal(picture, pictures[0]) for picture in pictures[1:]):
        raise VectorError(f"features: {health.faults()[0]} (they are not). Nothing was written.")


def _embed(embedder: Embedder, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """Features of a batch that is filled up to `batch` rows: libraries pick other kernels for other sizes."""
    filled = images
    if len(images) < batch:
        filled = np.zeros((batch, *images.shape[1:]), np.uint8)
        filled[: len(images)] = images
    return np.array(embedder(filled)[: len(images)], np.float32)


def _resumed(state: Path, part: Path, origin: dict[str, Any], data: StoredSet) -> int:
    """Rows that an interrupted run of the same extraction committed; its bad rows are noted again."""
    if not state.exists() or not part.exists():
        return 0
    try:
        found = json.loads(state.read_text())
        done, bad, resized = int(found.pop("done")), found.pop("found"), found.pop("resized", {})
    except (ValueError, KeyError, TypeError) as error:
        raise OutputFolderError(f"{state}: damaged ({error}). Remove it to begin anew.") from error
    differing = [name for name in origin if found.get(name) != origin[name]]
    if differing:
        raise OutputFolderError(
            f"{state}: an unfinished extraction with another {', '.join(differing)} lies here. Finish it with the "
            "settings it was begun with, give another name, or remove it."
        )
    data.bad.restore(bad)
    data.resized.restore(resized)
    return done


def _npy_header(rows: int, dim: int) -> bytes:
    """Of a float32 `[rows, dim]` array, 128 bytes."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def _records(data: StoredSet, features: NDArray[np.float32]) -> Iterator[TrainingRecord]:
    """(encoded image, feature, label) of every row that is not bad."""
    labels = data.labels
    for row in range(len(data)):
        if row not in data.bad:
            yield data.encoded(row), np.asarray(features[row]), int(labels[row])

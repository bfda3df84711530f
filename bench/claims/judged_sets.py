"""What `judge.py` looks at: images of rendered and of generated people, their features, yaw and faces found."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.evaluate.detection import FaceFinder
from v2f_engine.evaluate.features import FeatureTable, read_features
from v2f_engine.evaluate.separability import Separability, calibrate, measure_separability
from v2f_engine.evaluate.yaw import YawEstimator, thumbnails
from v2f_engine.models.weights import LoadedRecogniser
from v2f_engine.pipeline import Engine
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import find_source

NEAR_FRONTAL = 15.0
"""Degrees of estimated yaw."""
TOLD = ("yaw", "glasses", "hat")
"""Attributes of rendered images that are kept."""


@dataclass
class Seen:
    """What is kept of images that pass by: thumbnails, whose they are, attributes where known, and every image."""

    name: str
    total: int
    small: list[NDArray[np.float32]] = field(default_factory=list)
    told: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    people: list[NDArray[np.int64]] = field(default_factory=list)
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    count: int = 0

    def __call__(self, batch: ImageBatch) -> None:
        self.small.append(thumbnails(batch.images))
        self.images.append(batch.images)
        self.people.append(batch.identity)
        for name in TOLD:
            if name in batch.attributes:
                self.told.setdefault(name, []).append(np.asarray(batch.attributes[name], np.float32))
        before, self.count = self.count, self.count + len(batch)
        if before * 10 // self.total != self.count * 10 // self.total:
            rate = self.count / (time.perf_counter() - self.started)
            left = (self.total - self.count) / rate
            print(f"  {self.name}: {self.count:,} images, {rate:.0f}/s, {left:.0f} s left", file=sys.stderr)

    def spread(self, most: int) -> NDArray[np.int64]:
        """Places of at most `most` images, spread over all."""
        return np.linspace(0, self.count - 1, min(most, self.count)).astype(np.int64)

    def pick(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Images by their place in the order seen; no copy of them all."""
        ends = np.cumsum([len(images) for images in self.images])
        for row in rows.tolist():
            block = int(np.searchsorted(ends, row, side="right"))
            yield self.images[block][row - int(ends[block])]


def read_rendered(path: Path, ids: int, per_id: int) -> Iterator[ImageBatch]:
    """A dataset made by `v2f render`: identities below `ids`, images below `per_id`, with what is
    recorded of `TOLD`.

    Raises:
        DatasetError: fewer than that lie there.
    """
    from v2f_engine.data import open_dataset

    faces = open_dataset(path)
    table = faces.attributes()
    number = np.arange(len(faces)) - np.searchsorted(faces.labels, faces.labels)  # labels ascend
    rows = np.flatnonzero((faces.labels < ids) & (number < per_id))
    if len(rows) != ids * per_id:
        raise DatasetError(f"{path}: expected {ids} identities x {per_id} images, found {len(rows)} images.")
    told = {} if table is None else {name: table[name] for name in TOLD if name in (table.dtype.names or ())}
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        attributes = {name: values[part] for name, values in told.items()}
        yield ImageBatch(faces.images(part, threads=2), faces.labels[part], number[part], attributes)


def read_pictures(
    what: str | Path, count: int, *, per_id: int = 4, seed: int = 0, source: str | None = None
) -> ImageBatch:
    """At most `count` images of a dataset's folder, spread over it; or of a generator, `per_id` of each person, as they
    are written.

    Args:
        what: a folder or file that `open_dataset` reads, else a generator's name or path.
        source: a statistics file, `mini` or `gaussian`: vectors for weights that do not say their own.

    Raises:
        ConfigError: weights that do not say from what their people are drawn, and no `source`.
        DatasetError: no such folder, or broken images. ModelNotFound, CheckpointError: as `Engine.load`.
    """
    engine = opened_engine(what)
    if engine is None:
        from v2f_engine.data import open_dataset

        faces = open_dataset(what)
        rows = np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(np.int64)
        return ImageBatch(faces.images(rows), faces.labels[rows], rows)
    made = list(engine.images(sampled(engine, -(-count // per_id), seed, source), per_id, seed=seed))
    images, identity, image = (
        np.concatenate([getattr(batch, name) for batch in made])[:count]
        for name in ("images", "identity", "image")
    )
    return ImageBatch(as_written(images), identity, image)


def opened_engine(what: str | Path) -> Engine | None:
    """A generator by name or path; None for a dataset's folder."""
    path = Path(what)
    return None if path.is_dir() and not (path / "model.safetensors").is_file() else Engine.load(what)


def sampled(engine: Engine, ids: int, seed: int, source: str | None) -> Identities:
    """People for it, at its own limit. Raises ConfigError where nothing says from what they are drawn."""
    if source is None and not engine.people.known:
        raise ConfigError(
            f"{engine.loaded.name}: nothing says from what its people are drawn, and vectors of another extractor give "
            "no faces. Give --source: the statistics that it was trained with (a file of `v2f ids fit`), or mini."
        )
    people = engine.people.source if source is None else find_source(source)
    return sample_identities(ids, max_cosine=engine.loaded.max_cosine, seed=seed, source=people)


def as_written(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As they come back from a dataset of `v2f generate` or `v2f render`, whose JPEG adds noise of its own.

    With it the comb ratio of `mini` falls from 12.8 to 10.1, and its energy in periods of 2 to 4 pixels rises by 19 %
    (rendered people's by 3 %), so neither set may be looked at without it where the other has it.
    """
    encode = Encoder().function()
    return np.stack([decode(encode(image), "an image just encoded") for image in images])


def rendered_people(options: argparse.Namespace) -> Iterable[ImageBatch]:
    if options.rendered is not None:
        return read_rendered(options.rendered, options.ids, options.images)
    from v2f_engine.rendered import render_people

    batches: Iterable[ImageBatch] = render_people(
        options.rendered_seed, range(options.ids), options.images, processes=options.processes
    )
    return batches


def read_real(options: argparse.Namespace, referee: LoadedRecogniser, seen: Seen) -> FeatureTable:
    """The rendered set's images into `seen`, and their features."""
    if options.cache is None:
        return read_features(rendered_people(options), referee.model, bf16=options.bf16, seen=seen)
    labels = []
    for batch in rendered_people(options):
        seen(batch)
        labels.append(batch.identity)
    return FeatureTable(cached_features(options, referee, seen), np.concatenate(labels))


def cached_features(options: argparse.Namespace, loaded: LoadedRecogniser, seen: Seen) -> NDArray[np.float32]:
    """Features of the images seen; kept in `--cache` under the hash of the weights and of the images."""
    if options.cache is None:
        return features_of(options, loaded, seen)
    digest = hashlib.sha256((loaded.sha256 + (" bf16" if options.bf16 else "")).encode())
    for images in seen.images:
        digest.update(images.tobytes())
    path = Path(options.cache) / f"{digest.hexdigest()[:32]}.npy"
    if path.is_file():
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return features
    features = features_of(options, loaded, seen)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.save(file, features)
    temporary.replace(path)
    return features


def features_of(options: argparse.Namespace, loaded: LoadedRecogniser, seen: Seen) -> NDArray[np.float32]:
    """float32 `[N, D]` of all images seen."""
    from v2f_engine.models.features import extract_features

    blocks = [extract_features(loaded.model, images, bf16=options.bf16) for images in seen.images]
    return np.concatenate(blocks)


def own_eer(
    options: argparse.Namespace, features: NDArray[np.float32], labels: NDArray[np.int64]
) -> Separability:
    """How far the model's own recogniser, whose features these are, keeps rendered people apart."""
    table = FeatureTable(features, labels)
    return measure_separability(table, threshold=calibrate(table, options.fmr).threshold)


def yaw_from(rendered: Seen) -> tuple[YawEstimator, float]:
    """(estimator fitted on all rendered images, mean error in degrees of one fitted on the first 3/4)."""
    small, yaw = np.concatenate(rendered.small), np.concatenate(rendered.told["yaw"])
    split = len(yaw) * 3 // 4
    error = np.abs(YawEstimator.fit(small[:split], yaw[:split])(small[split:]) - yaw[split:]).mean()
    return YawEstimator.fit(small, yaw), float(error)


def faces_found(finder: FaceFinder, seen: Seen, estimator: YawEstimator, sample: int) -> dict[str, Any]:
    """How many of a spread-out sample of near-frontal images hold a face for dlib."""
    near = np.flatnonzero(np.abs(estimator(np.concatenate(seen.small))) <= NEAR_FRONTAL)
    spread = np.unique(np.linspace(0, len(near) - 1, min(sample, len(near))).astype(int))
    by = [finder(image) for image in seen.pick(near[spread])]
    return {
        "near_frontal_share": len(near) / seen.count,
        "images": len(by),
        "hog": by.count("hog") / max(1, len(by)),
        "hog_or_cnn": (len(by) - by.count("")) / max(1, len(by)),
    }

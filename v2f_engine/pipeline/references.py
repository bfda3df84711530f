"""Faces of known people through a recogniser: their centres, calibrations, sampler statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import DatasetError
from v2f_engine.vectors.calibration import Calibration, calibrate_threshold
from v2f_engine.vectors.centres import Centres
from v2f_engine.vectors.statistics import Statistics, fit_centres

FACES_A_BATCH = 128
"""Reference faces per call of the recogniser."""


@dataclass(frozen=True)
class FaceCentres:
    """Mean features of the people of a dataset.

    Args:
        centres: float32 `[M, D]`, mean features, people ascending by label.
        labels: int64 `[M]`, the person of each row; repeated where a person gives several rows.
        length: mean length of an image's own feature; means are shorter.
        recogniser: name and start of the sha256 of what looked.
        images: pictures that were looked at.
    """

    centres: NDArray[np.float32]
    labels: NDArray[np.int64]
    length: float
    recogniser: str
    images: int = 0

    @property
    def centred(self) -> Centres:
        """These rows as means of one row each: a table for `fit_centres`."""
        ones = np.ones(len(self.labels), np.int64)
        return Centres(self.centres.astype(np.float64), ones, self.labels, self.length)


def face_centres(
    dataset: str | Path,
    recogniser: str | Path = "mini",
    *,
    images_per_row: int | None = None,
    unit: bool = False,
    fetch: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FaceCentres:
    """Looks at every image of a dataset once; memory for one row a person.

    Args:
        dataset: aligned 112x112 faces in any format, by path.
        recogniser: a name or a path.
        images_per_row: a row for every so many images of a person, fewer left over at its end are dropped;
            None: one row of all its images.
        unit: features are brought to unit length before they are averaged.
        progress: called with (images done, images in all).

    Raises:
        DatasetError: no images, broken ones, or no person with `images_per_row` of them.
        ModelNotFound, CheckpointError: of the recogniser.
    """
    from v2f_engine.data.formats import open_dataset
    from v2f_engine.models.embedder import open_reader
    from v2f_engine.models.features import extract_features

    loaded, faces = open_reader(recogniser, fetch=fetch), open_dataset(Path(dataset))
    sums: dict[tuple[int, int], NDArray[np.float64]] = {}
    counts: dict[tuple[int, int], int] = {}
    done, lengths = 0, 0.0
    for batch in faces.batches(FACES_A_BATCH):
        features = extract_features(loaded.model, batch.images).astype(np.float64)
        norms = np.linalg.norm(features, axis=1)
        lengths += float(norms.sum())
        if unit:
            features /= norms[:, None]
        rows = np.zeros_like(batch.image) if images_per_row is None else batch.image // images_per_row
        for key, feature in zip(
            zip(batch.identity.tolist(), rows.tolist(), strict=True), features, strict=True
        ):
            sums[key] = sums[key] + feature if key in sums else feature
            counts[key] = counts.get(key, 0) + 1
        done += len(batch)
        if progress is not None:
            progress(done, len(faces))
    keys = sorted(key for key in sums if images_per_row is None or counts[key] == images_per_row)
    if not keys:
        raise DatasetError(
            f"{dataset}: expected people with {images_per_row or 1} images or more, found {done} images in all."
        )
    centres = np.stack([sums[key] / counts[key] for key in keys]).astype(np.float32)
    labels = np.array([label for label, _ in keys], np.int64)
    return FaceCentres(centres, labels, lengths / done, f"{loaded.name} {loaded.sha256[:12]}", done)


def calibrate_on_faces(
    dataset: str | Path,
    recogniser: str | Path = "mini",
    *,
    fmr: float = 1e-4,
    images_per_id: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """The cosine that faces of different people of a dataset reach at a rate of at most `fmr`.

    Args:
        dataset: faces of known people, none of whom the recogniser was trained on.
        images_per_id: compare means of so many images, as a proof with that many an identity does.

    Raises:
        ConfigError: too few people for that rate. DatasetError and the recogniser's errors.
    """
    found = face_centres(dataset, recogniser, images_per_row=images_per_id, unit=True, progress=progress)
    origin = f"{Path(dataset).name} through {found.recogniser}, {images_per_id} images a row"
    return calibrate_threshold(found.centres, found.labels, fmr=fmr, origin=origin)


def fit_faces(
    dataset: str | Path,
    recogniser: str | Path = "mini",
    *,
    length: str = "centres",
    components: int | None = None,
    shrinkage: float | str = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Sampler statistics straight from images: mean and covariance of people's mean features.

    Args:
        dataset, recogniser, progress: as in `face_centres`.
        length, components, shrinkage: as in `vectors.statistics.fit_centres`.
    """
    found = face_centres(dataset, recogniser, progress=progress)
    origin = f"{Path(dataset).name} through {found.recogniser}, {len(found.labels)} people"
    return fit_centres(
        found.centred, length=length, components=components, shrinkage=shrinkage, origin=origin
    )

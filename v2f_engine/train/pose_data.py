"""What the pose model learns from: images, features and landmark pictures by row, read as the steps need them.

    (jpeg, feature, label, landmark jpeg)   an LMDB in the published layout: read and decoded a batch at a time
    people of `v2f render`                  landmarks from yaw, pitch and roll through the mean head

Held is what a batch needs, and of every image its place and label: 16 bytes. Features that a set does not bring are
extracted first and held: 2 KB an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.training.stored_set import StoredSet
from v2f_engine.data.training.training_set import open_training_set
from v2f_engine.errors import DatasetError
from v2f_engine.models import landmarks
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.pose_settings import PoseTraining
from v2f_engine.train.read_ahead import ReadAhead

EXTRACTED = 512
"""Images held while features are extracted."""
ANGLES = ("yaw", "pitch", "roll")


class PoseRows(NamedTuple):
    """Some rows: images uint8 `[B, 112, 112, 3]`, features float32 `[B, D]`, landmark pictures like images."""

    images: NDArray[np.uint8]
    features: NDArray[np.float32]
    pictures: NDArray[np.uint8]


class PoseSource(Protocol):
    """Rows by number; reading is safe in threads, and what is read depends on the row numbers alone."""

    @property
    def heights(self) -> str:
        """At which heights its landmarks lie: in `landmarks.HEIGHTS`."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> PoseRows:
        """These rows, decoded. Raises DatasetError where one cannot be used."""
        ...

    def written(self, out: Path) -> list[str]:
        """Notes about rows that could not be used or were resized, written into `out`; lines for people."""
        ...


@dataclass(frozen=True)
class PoseData:
    """Rows held in memory, 113 KB an image with pictures; obeys `PoseSource`.

    Args:
        images: uint8 `[N, 112, 112, 3]`.
        features: float32 `[N, D]` of the frozen extractor.
        points: landmarks float32 `[N, 5, 2]` in pixels, or None where `pictures` are given.
        pictures: landmark pictures uint8 `[N, 112, 112, 3]`, as in published LMDBs.

    Raises:
        DatasetError: neither points nor pictures, or another number of them.
    """

    images: NDArray[np.uint8]
    features: NDArray[np.float32]
    points: NDArray[np.float32] | None = None
    pictures: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        held = self.points if self.pictures is None else self.pictures
        if held is None:
            raise DatasetError("a pose model learns from landmarks: give points or pictures of them.")
        if not len(self.images) == len(self.features) == len(held):
            raise DatasetError(
                f"{len(self.images)} images, {len(self.features)} features, {len(held)} landmarks: expected"
                " as many of each."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def heights(self) -> str:
        return "rendered" if self.pictures is None else "published"

    def read(self, rows: NDArray[np.int64]) -> PoseRows:
        if self.pictures is not None:
            pictures = self.pictures[rows]
        else:
            assert self.points is not None
            pictures = landmarks.draw(self.points[rows])
        return PoseRows(self.images[rows], self.features[rows], pictures)

    def written(self, out: Path) -> list[str]:
        return []


@dataclass(frozen=True)
class StoredPoses:
    """Rows read from disk when they are asked for; obeys `PoseSource`.

    Args:
        stored: images, and features and landmark pictures where its records hold them.
        features: float32 `[N, D]`, where its records hold none.
        angles: yaw, pitch and roll of every row, degrees float32 `[3, N]`, where its records hold no pictures.
    """

    stored: StoredSet
    features: NDArray[np.float32] | None = None
    angles: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def heights(self) -> str:
        return "published" if self.angles is None else "rendered"

    def read(self, rows: NDArray[np.int64]) -> PoseRows:
        read = self.stored.read(rows)
        features = read.features if self.features is None else self.features[rows]
        if self.angles is not None:
            pictures = landmarks.draw(landmarks.project(*self.angles[:, rows]))
        else:
            assert read.landmarks is not None, "opened with landmarks"
            pictures = read.landmarks
        assert features is not None, "extracted where records hold none"
        return PoseRows(read.images, features, pictures)

    def written(self, out: Path) -> list[str]:
        from v2f_engine.data.training.notes import write_notes

        return write_notes(self.stored, out)


def read_pose_data(
    path: Path, reader: IResNet, limit: int | None = None, split: str | None = None, on_bad: str = "refuse"
) -> StoredPoses:
    """A set to learn poses from; nothing but its index is read here, unless features have to be extracted.

    Args:
        path: people of `v2f render`, or an LMDB with landmark pictures.
        reader: extracts the features of rendered people, and of records that have none.
        limit: no more images than this.
        split: which of several sets at `path`; None where there is one.
        on_bad: see `open_training_set`; a set whose features are extracted here refuses bad rows.

    Raises:
        DatasetError: nothing readable, records without landmark pictures, or rendered people without their angles.
    """
    rendered = (path / MANIFEST).is_file()
    people = open_training_set(
        path,
        split=split,
        on_bad=on_bad,
        with_features=False if rendered else None,
        with_landmarks=not rendered,
    )
    count = len(people) if limit is None else min(limit, len(people))
    if count < len(people):
        people = people.take(range(count))  # what replaces a bad row comes from among them, too
    angles = _angles(people, path) if rendered else None
    features = None
    if people.feature_dim is None:
        if on_bad != "refuse":
            raise DatasetError(
                f"{path} holds no features, so all its images are read first: a bad one is refused. Leave out"
                f" --on-bad {on_bad}, or mend the set."
            )
        parts = [
            extract_features(reader, people.read(range(at, min(count, at + EXTRACTED))).images)
            for at in range(0, count, EXTRACTED)
        ]
        features = np.concatenate(parts)
    return StoredPoses(people, features, angles)


def _angles(people: StoredSet, path: Path) -> NDArray[np.float32]:
    table = people.dataset.attributes()
    known = () if table is None else table.dtype.names or ()
    missing = [name for name in ANGLES if name not in known]
    if table is None or missing:
        raise DatasetError(
            f"{path}: expected an image's attributes {missing}, found {sorted(known)}. Use a set made by `v2f render`,"
            " or an LMDB of (jpeg, feature, label, landmark jpeg)."
        )
    return np.stack([np.asarray(table[name], np.float32) for name in ANGLES])


@dataclass
class PosePart:
    """What one rank computes in a step, in host memory.

    Args:
        images, pictures: uint8 `[B, 112, 112, 3]`.
        features: float32 `[B, D]`.
        noise: float32 `[B, 49]`.
        n_masked: int64 `[B]`.
        n_dropped: rows that never enter the encoder.
        rows: int64 `[B]`.
    """

    images: torch.Tensor
    features: torch.Tensor
    noise: torch.Tensor
    n_masked: torch.Tensor
    n_dropped: int
    pictures: torch.Tensor
    rows: NDArray[np.int64]


class PoseBatches:
    """A rank's part of every step, a function of (seed, step) and the data; a thread reads the next ones ahead."""

    def __init__(self, data: PoseSource, settings: PoseTraining, group: Ranks) -> None:
        if not len(data):
            raise DatasetError("The training set holds no rows.")
        settings.ends(len(data))  # refuses a set without a whole batch where epochs have only those
        self.data, self.settings, self.group = data, settings, group
        self._ahead = ReadAhead(self._read, "poses")

    def __call__(self, step: int) -> PosePart:
        """The part of a step; the steps after it begin to be read. Raises DatasetError: a row cannot be used."""
        return self._ahead(step)

    def close(self) -> None:
        """Stops reading ahead."""
        self._ahead.close()

    def _read(self, step: int) -> PosePart:
        s, group = self.settings, self.group
        place = np.arange(group.rank, s.batch, group.world)
        rows = rows_of_step(s.seed, step, s.batch, len(self.data), whole_batches=s.whole_epochs)[place]
        read = self.data.read(rows)
        schedule = MASK_SCHEDULES[s.masks]
        noise, n_masked = schedule.draw(s.seed, np.full(len(rows), step), place)
        if s.one_ratio:
            n_masked[:] = schedule.draw(s.seed, np.full(1, step), np.full(1, group.rank))[1]
        images, features, noise_, counts, pictures = (
            torch.from_numpy(np.ascontiguousarray(a))
            for a in (read.images, read.features, noise, n_masked, read.pictures)
        )
        return PosePart(images, features, noise_, counts, schedule.n_dropped, pictures, rows)

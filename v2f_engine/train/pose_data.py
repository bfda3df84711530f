"""What the pose model learns from, read from rendered people or from an LMDB in the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.training.training_set import open_training_set
from v2f_engine.errors import DatasetError
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.landmarks import project
from v2f_engine.train.estimators import read_labelled
from v2f_engine.train.pose import PoseData


def read_pose_data(
    path: Path, reader: IResNet, limit: int | None = None, split: str | None = None
) -> PoseData:
    """All images of `path` with features and landmarks, in memory.

    Args:
        path: people of `v2f render` (landmarks from yaw, pitch and roll through the mean head), or an LMDB with
            landmark pictures.
        reader: extracts the features of rendered people, and of records that have none.
        limit: no more images than this.
        split: which of several sets at `path`; None where there is one.

    Raises:
        DatasetError: nothing readable, or records without landmark pictures.
    """
    if (path / MANIFEST).is_file():
        faces = read_labelled(path, ("yaw", "pitch", "roll"), limit)
        angles = [faces.attributes[name] for name in ("yaw", "pitch", "roll")]
        return PoseData(faces.images, extract_features(reader, faces.images), points=project(*angles))
    people = open_training_set(path, split=split, with_landmarks=True)
    rows = people.read(np.arange(len(people) if limit is None else min(limit, len(people))))
    if rows.landmarks is None:
        raise DatasetError(f"{path}: its records hold no landmark pictures.")
    features = extract_features(reader, rows.images) if rows.features is None else rows.features
    return PoseData(rows.images, features, pictures=rows.landmarks)

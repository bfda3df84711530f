"""Rendered people as the embedded pose model learns from them: from a person's mean feature, at all yaws alike.

An image's own feature knows how its face is turned, so a network trained on those reads the pose there and falls short
where only the landmark picture tells it: 35 degrees where 45 were asked. Identities that are sampled are means.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import DatasetError
from v2f_engine.train.pose_data import PoseRows, StoredPoses

WIDEST, BIN = 65.0, 10.0
"""Degrees: faces turned further are left out; the width in which yaws come up equally often."""


@dataclass(frozen=True)
class Persons:
    """Obeys `pose_data.PoseSource`.

    Args:
        source: rendered people.
        rows: int64 `[M]`, rows of `source`, any as often as it is to come up.
        features: float32 `[N, D]`, of every row of `source` its person's.
    """

    source: StoredPoses
    rows: NDArray[np.int64]
    features: NDArray[np.float32]

    @property
    def heights(self) -> str:
        return self.source.heights

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: NDArray[np.int64]) -> PoseRows:
        chosen = self.rows[rows]
        read = self.source.read(chosen)
        return PoseRows(read.images, self.features[chosen], read.pictures)

    def written(self, out: Path) -> list[str]:
        return self.source.written(out)


def persons(source: StoredPoses, seed: int = 0) -> Persons:
    """As many rows as there are, drawn so that each ten degrees of yaw come up equally often, with mean features of the
    length of an image's.

    Raises:
        DatasetError: no rendered people.
    """
    if source.features is None or source.angles is None:
        raise DatasetError("persons: expected people of `v2f render`, whose yaw is known.")
    lengths = np.linalg.norm(source.features, axis=1, keepdims=True)
    labels = source.stored.labels
    sums = np.zeros((int(labels.max()) + 1, source.features.shape[1]))
    np.add.at(sums, labels, source.features / lengths)
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12) * lengths.mean()
    yaw = source.angles[0]
    place = np.floor(yaw / BIN).astype(np.int64)
    _, inverse, count = np.unique(place, return_inverse=True, return_counts=True)
    weight = np.where(np.abs(yaw) <= WIDEST, 1.0 / count[inverse], 0.0)
    rows = np.random.default_rng(seed).choice(len(yaw), len(yaw), p=weight / weight.sum())
    return Persons(source, rows, means[labels].astype(np.float32))

"""Yaw, pitch and quality of a set's faces, read off by the embedded estimators, every set by the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.evaluate.report.charts import histogram
from v2f_engine.evaluate.source import FeatureSource

LIMIT = 1000
"""Images read of a set, evenly spread: a mean angle is then known to a degree, in 2 s of one core."""
CHUNK = 128
SCALES = {"yaw": (-75.0, 75.0), "pitch": (-45.0, 45.0), "quality": (10.0, 40.0)}
"""Ends of the drawn axes."""


@dataclass(frozen=True)
class Readings:
    """What estimators read.

    Args:
        values: name -> float64 `[N]`, degrees (yaw, pitch) or the quality estimator's own scale.
        labels: int64 `[N]`, whose they are.
    """

    values: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Mean, deviation and outline of a histogram of each."""
        return {
            name: {
                "mean": float(values.mean()),
                "deviation": float(values.std()),
                "images": len(values),
                "bars": histogram(values, *SCALES[name], bins=40),
            }
            for name, values in self.values.items()
        }


def read_faces(source: FeatureSource, limit: int = LIMIT) -> Readings | None:
    """Of at most `limit` images; None of features without images or without labels."""
    import torch

    from v2f_engine.attributes.estimators import load_estimator

    if source.dataset is None or source.rows is None or source.labels is None:
        return None
    chosen = np.unique(np.linspace(0, len(source.rows) - 1, min(limit, len(source.rows))).astype(np.int64))
    estimators = [load_estimator(name).model for name in ("pose", "quality")]
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in SCALES}
    for start in range(0, len(chosen), CHUNK):
        images = source.dataset.images(source.rows[chosen[start : start + CHUNK]])
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            for estimator in estimators:
                found = estimator(pixels).double().numpy()
                for name, column in zip(estimator.config.outputs, found.T, strict=True):
                    parts[name].append(column)
    return Readings({name: np.concatenate(part) for name, part in parts.items()}, source.labels[chosen])

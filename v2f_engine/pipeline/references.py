"""Identities of the user's own: vectors from a file, or features of reference faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError
from v2f_engine.vectors.npy import open_vectors
from v2f_engine.vectors.sampling import Identities

FACES_A_BATCH = 128
"""Reference faces per call of the recogniser."""


def identities_from(
    vectors: str | Path | None = None, references: str | Path | None = None, recogniser: str | Path = "mini"
) -> Identities | None:
    """Identities of the user's own: vectors from a file, or features of reference faces.

    Args:
        vectors: `.npy` `[N, 512]`, or a table written by `Identities.save`.
        references: a dataset of aligned 112x112 faces; an identity is the mean feature of its images.
        recogniser: what extracts those features: a name or a path.

    Returns:
        The table, or None when neither is given.

    Raises:
        ConfigError: both are given.
        VectorError, DatasetError, ModelNotFound, CheckpointError: as named.
    """
    if vectors is not None and references is not None:
        raise ConfigError("Give either vectors or reference images, not both.")
    if vectors is not None:
        if Path(vectors).suffix == ".safetensors":
            return Identities.load(vectors)
        return Identities.from_vectors(np.asarray(open_vectors(vectors), dtype=np.float32), str(vectors))
    if references is None:
        return None
    from v2f_engine.data.reader import open_dataset
    from v2f_engine.models.features import extract_features
    from v2f_engine.models.weights import load_recogniser

    loaded = load_recogniser(recogniser)
    faces = open_dataset(Path(references))
    centres: dict[int, list[NDArray[np.float32]]] = {}
    for batch in faces.batches(FACES_A_BATCH):
        features = extract_features(loaded.model, batch.images)
        for identity, feature in zip(batch.identity.tolist(), features, strict=True):
            centres.setdefault(identity, []).append(feature)
    means = np.stack([np.mean(centres[identity], axis=0) for identity in sorted(centres)]).astype(np.float32)
    name = f"references {references} through {loaded.name} {loaded.sha256[:12]}"
    return Identities.from_vectors(means, name)

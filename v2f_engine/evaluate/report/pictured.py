"""The pictures that a report shows: the first images of identities spread over a set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.writing.encode import Encoder
from v2f_engine.evaluate.source import FeatureSource

ROWS, COLUMNS = 16, 8
THUMBNAIL = Encoder(quality=88)


def numbers_of(source: FeatureSource) -> NDArray[np.int64]:
    """The identities, ascending.

    Raises:
        ConfigError: nobody says who is on which row.
    """
    return np.unique(source.table().labels) if source.labels is None else np.unique(source.labels)


def faces_of(source: FeatureSource) -> list[list[bytes]]:
    """The first images of identities spread over the set."""
    if source.dataset is None or source.labels is None:
        return []
    numbers = numbers_of(source)
    chosen = np.unique(np.linspace(0, len(numbers) - 1, min(ROWS, len(numbers))).astype(int))
    rows = (np.flatnonzero(source.labels == numbers[place])[:COLUMNS] for place in chosen)
    return [[data for row in some.tolist() if (data := jpeg_of(source, row)) is not None] for some in rows]


def jpeg_of(source: FeatureSource, row: int) -> bytes | None:
    """The picture of a row as a JPEG; None of features without pictures."""
    image = source.image(row)
    return None if image is None else THUMBNAIL.encode(image)

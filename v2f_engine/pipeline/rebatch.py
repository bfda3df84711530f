"""Batches of another size from the same images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from v2f_engine.batch import ImageBatch


def rebatched(batches: Iterator[ImageBatch], size: int) -> Iterator[ImageBatch]:
    """The same images in batches of `size`, the last one shorter."""
    held: ImageBatch | None = None
    for batch in batches:
        held = batch if held is None else _joined(held, batch)
        while held is not None and len(held) >= size:
            yield _sliced(held, 0, size)
            held = _sliced(held, size, len(held)) if len(held) > size else None
    if held is not None:
        yield held


def _joined(a: ImageBatch, b: ImageBatch) -> ImageBatch:
    return ImageBatch(
        np.concatenate([a.images, b.images]),
        np.concatenate([a.identity, b.identity]),
        np.concatenate([a.image, b.image]),
        {name: np.concatenate([a.attributes[name], b.attributes[name]]) for name in a.attributes},
    )


def _sliced(batch: ImageBatch, start: int, stop: int) -> ImageBatch:
    part = slice(start, stop)
    return ImageBatch(
        batch.images[part],
        batch.identity[part],
        batch.image[part],
        {name: values[part] for name, values in batch.attributes.items()},
    )

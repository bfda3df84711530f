"""A contact sheet of blocks, one above the other: rendered people, a model's, and optionally another model's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.claims.judged_sets import Seen, opened_engine, sampled
from v2f_engine.batch import ImageBatch
from v2f_engine.data.writing.contact_sheet import contact_sheet

ROWS, COLUMNS = 5, 10


def first_people(batches: Iterable[ImageBatch]) -> NDArray[np.uint8]:
    """The first people with their first images, uint8 `[people, COLUMNS, 112, 112, 3]`; white where there are fewer."""
    found: dict[int, list[NDArray[np.uint8]]] = {}
    for batch in batches:
        for image, person in zip(batch.images, batch.identity.tolist(), strict=True):
            if person not in found and len(found) == ROWS:
                return _block(found)
            found.setdefault(person, []).append(image)
    return _block(found)


def _block(found: Mapping[int, list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    white = np.full((112, 112, 3), 255, np.uint8)
    return np.stack([np.stack((row + [white] * COLUMNS)[:COLUMNS]) for row in found.values()])


def of_seen(seen: Seen) -> NDArray[np.uint8]:
    return first_people(map(ImageBatch, seen.images, seen.people, seen.people))


def of_other(what: str | Path, seed: int, source: str | None) -> NDArray[np.uint8]:
    """Of a dataset's folder or another generator. Raises as `judged_sets.read_pictures`."""
    engine = opened_engine(what)
    if engine is None:
        from v2f_engine.data import open_dataset

        return first_people(open_dataset(what).batches(64))
    return first_people(engine.images(sampled(engine, ROWS, seed, source), COLUMNS, seed=seed))


def write_sheet(blocks: Mapping[str, NDArray[np.uint8]], path: Path) -> None:
    """A PNG; every row is a person."""
    captions = [f"{name} {row}" for name, block in blocks.items() for row in range(len(block))]
    contact_sheet(np.concatenate(list(blocks.values())), path, captions=captions)

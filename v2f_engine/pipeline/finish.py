"""From draws to finished batches, the same for every maker: what all images of this house have in common.

    prepared -> drawn ahead in a thread -> made within memory -> constant images once more -> batches of the size asked

A NaN or an infinity anywhere before the decoder's last GroupNorm spreads over the whole image through that norm's
statistics, and comes out as one grey level; so looking for constant images finds both.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.pipeline.ahead import made_ahead
from v2f_engine.pipeline.draws import Draw, Draws
from v2f_engine.pipeline.makers import Made
from v2f_engine.pipeline.memory import WithinMemory


def finished(maker: WithinMemory, draws: Draws) -> Generator[ImageBatch]:
    """Images of all draws, in batches as the maker takes them, with `failed` among their attributes."""
    prepared = maker.maker.prepared(draws)
    with closing(made_ahead(maker.draws(prepared))) as ahead, closing(maker.stream(ahead)) as made:
        for draw, one in made:
            whole, failed = sound(maker, draw, one)
            attributes = {**draw.attributes, **whole.attributes, "failed": failed}
            yield ImageBatch(whole.images, draw.identity, draw.image, attributes)


def sound(maker: WithinMemory, draw: Draw, made: Made) -> tuple[Made, NDArray[np.float32]]:
    """(made, float32 `[B]` failed): what is constant or doubtful made once more; constant again, it has failed."""
    failed = constant(made.images)
    rows = np.flatnonzero(failed if made.doubtful is None else failed | made.doubtful)
    if len(rows):
        made = made.with_rows(rows, maker(draw.rows(rows)))
        failed = constant(made.images)
    return made, failed.astype(np.float32)


def constant(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """bool `[B]`: which images `[B, H, W, 3]` have the same colour everywhere."""
    # The first rows of pixels decide nearly always, at a hundredth of the reading; each pixel beside its neighbour is
    # one long comparison, where a comparison with the first pixel is 111 of three bytes (228 us a batch of 256).
    first = images[:, 0].reshape(len(images), -1)
    found: NDArray[np.bool_] = (first[:, 3:] == first[:, :-3]).all(1)
    for row in np.flatnonzero(found):
        found[row] = bool((images[row] == images[row, 0, 0]).all())
    return found


def rebatched(batches: Iterator[ImageBatch], size: int) -> Generator[ImageBatch]:
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

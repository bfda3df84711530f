"""What `Engine.images` gives: batches that can be counted before they are made, and gone through again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from v2f_engine.batch import ImageBatch


class ImageStream(Iterator[ImageBatch]):
    """Batches of images, made while they are read.

    `len` is the number of batches, `n_images` that of images. Each `for` makes the same images again, from the first;
    one that was begun with `next` is gone on with.

    Args:
        start: begins making them.
        n_images: in all.
        batch_size: images a batch, the last one shorter.
    """

    def __init__(self, start: Callable[[], Generator[ImageBatch]], n_images: int, batch_size: int) -> None:
        self._start = start
        self.n_images = n_images
        self.batch_size = batch_size
        self._begun: Generator[ImageBatch] | None = None

    def __len__(self) -> int:
        return -(-self.n_images // self.batch_size)

    def __iter__(self) -> Generator[ImageBatch]:
        begun, self._begun = self._begun, None
        return self._start() if begun is None else begun

    def __next__(self) -> ImageBatch:
        if self._begun is None:
            self._begun = self._start()
        return next(self._begun)

    def close(self) -> None:
        """Ends what `next` began; what is being made is let be finished."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.close()

    def __repr__(self) -> str:
        return f"ImageStream({self.n_images:,} images in {len(self):,} batches of {self.batch_size})"

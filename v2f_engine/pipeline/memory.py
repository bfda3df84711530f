"""Out of memory: half as many rows at a time, without changing a byte; the same for every maker.

Which kernel a library picks depends on the number of rows, so other rows may mean other bits. Therefore the first
images that a maker makes are kept; before fewer rows are used, they are made again with them and must come out
equal. If they do not, or if not even the first batch fits, the run stops with a named error instead of mixing two
kinds of bytes in one dataset. Before any of this the same rows are tried once more: what another process or a
reference cycle held for a moment may be free by then.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import OutOfMemory
from v2f_engine.pipeline.draws import Draw, Draws
from v2f_engine.pipeline.makers import Made, Maker


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that a device or this process had too little memory."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)  # the CPU allocator's words


class WithinMemory:
    """A maker that goes on when memory runs out, over all batches of an engine's life.

    Args:
        maker: what makes the images; its `smaller` takes its place when memory runs out.

    Attributes:
        rows: on the device at a time, now.
        retries: how often they were halved.
    """

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self.rows = maker.rows
        self.retries = 0
        self._small = maker
        self._first: tuple[Draw, Made] | None = None

    def describe(self) -> dict[str, Any]:
        """See `Maker.describe`."""
        return self.maker.describe()

    def draws(self, draws: Draws) -> Generator[Draw]:
        """The batches of prepared draws, furnished for the maker."""
        for draw in draws.batches(self.maker.batch):
            yield self.maker.furnished(draw)

    def stream(self, draws: Iterable[Draw]) -> Generator[tuple[Draw, Made]]:
        """Each batch beside its images, in order."""
        taken: deque[Draw] = deque()  # in the maker's hands: its images are not there yet
        source = iter(draws)

        def feed() -> Generator[Draw]:
            for draw in source:
                taken.append(draw)
                yield draw

        if self.rows == self.maker.rows:
            streamed = self.maker.stream(feed())
            try:
                for made in streamed:
                    draw = taken.popleft()
                    self._remember(draw, made)
                    yield draw, made
                return
            except Exception as error:
                _require_out_of_memory(error)
            finally:
                streamed.close()
            _free()
            while taken:
                draw = taken.popleft()
                yield draw, self(draw, tries=1)
        for draw in source:
            yield draw, self(draw)

    def __call__(self, draw: Draw, tries: int = 2) -> Made:
        """One batch, with as many rows at a time as fit.

        Args:
            tries: with the rows of now, before they are halved.

        Raises:
            OutOfMemory: not even one row fits, or fewer rows give other bytes.
        """
        while True:
            try:
                made = self._small(draw)
            except Exception as error:
                cause = _require_out_of_memory(error)
            else:
                self._remember(draw, made)
                return made
            _free()
            tries -= 1
            if tries < 1:
                self._halve(cause)

    def _remember(self, draw: Draw, made: Made) -> None:
        if self._first is None:
            count = min(len(draw), self.maker.rows)
            self._first = draw.rows(slice(count)), Made(made.images[:count].copy())

    def _halve(self, cause: BaseException) -> None:
        self.retries += 1
        rows = self.rows // 2
        if rows < 1:
            raise OutOfMemory(
                f"Not even one image fits into memory ({_words(cause)}). Free memory."
            ) from cause
        if self._first is None:
            raise OutOfMemory(
                f"The first batch of {self.rows} rows does not fit into memory ({_words(cause)}). Free memory, or "
                f"begin with fewer rows: {self.maker.fewer.format(rows)} (another number gives other last bits, so "
                "in another folder)."
            ) from cause
        small = self.maker.smaller(rows)
        self.rows, self._small = rows, small
        try:
            again = small(self._first[0]).images
        except Exception as error:
            cause = _require_out_of_memory(error)
        else:
            self._require_equal(again, cause)
            return
        _free()
        self._halve(cause)

    def _require_equal(self, again: NDArray[np.uint8], cause: BaseException) -> None:
        assert self._first is not None
        differ = int((again != self._first[1].images).reshape(len(again), -1).any(1).sum())
        if differ:
            raise OutOfMemory(
                f"Out of memory at {self.maker.rows} rows, and with {self.rows} rows {differ} of {len(again)} images "
                "differ in some bit: the kernels of this machine are not batch-invariant. What is committed is "
                "intact; free memory and run the same command again."
            ) from cause


def _require_out_of_memory(error: Exception) -> Exception:
    """`error` without its traceback, whose frames hold the very tensors that are to go; raised if it is another."""
    if not is_out_of_memory(error):
        raise error
    return error.with_traceback(None)


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _words(error: BaseException) -> str:
    text: Any = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__

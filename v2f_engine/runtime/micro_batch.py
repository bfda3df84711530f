"""Out of memory: half as many rows at a time, without changing a byte.

Which kernel a library picks depends on the number of rows, so other rows may mean other bits. Therefore the first
batch a process makes is kept (inputs and bytes); before fewer rows are used, that batch is made again with them
and must come out equal. If it does not, or if not even the first batch fits, the run stops with a named error
instead of mixing two kinds of bytes in one dataset.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import OutOfMemory
from v2f_engine.runtime import Inputs, Runner

Images = NDArray[np.uint8]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that a device or this process had too little memory."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)  # the CPU allocator's words


def with_rows(runner: Runner, rows: int) -> Runner:
    """The same network and kernels with `rows` rows a call.

    Raises:
        OutOfMemory: the runner is a fixed engine (TensorRT, ONNX), whose rows cannot be changed.
    """
    from v2f_engine.runtime.eager import EagerRunner

    model, choice = getattr(runner, "model", None), getattr(runner, "choice", None)
    if model is None or choice is None:
        raise OutOfMemory(
            f"Out of memory, and the runner {runner.describe().get('runner')} computes {runner.batch_size} rows a "
            "call, no fewer. Free memory on the device, or build it with a smaller batch."
        )
    return EagerRunner(model, choice, n_dropped=runner.n_dropped, batch_size=rows)


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


class MicroBatches:
    """Keeps a runner going when memory runs out.

    Args:
        runner: computes `batch_size` rows a call.
        smaller: gives the same runner with fewer rows.
    """

    def __init__(self, runner: Runner, smaller: Callable[[Runner, int], Runner] = with_rows) -> None:
        self.runner = runner
        self.rows = runner.batch_size
        self.retries = 0
        self._smaller = smaller
        self._small: Runner = runner
        self._first: tuple[Inputs, Images] | None = None

    def stream(self, batches: Iterable[Inputs]) -> Generator[Images]:
        """Images of each batch, in order."""
        taken: deque[Inputs] = deque()
        source = iter(batches)

        def feed() -> Generator[Inputs]:
            for inputs in source:
                taken.append(inputs)
                yield inputs

        if self.rows == self.runner.batch_size:
            made = self.runner.stream(feed())
            try:
                for images in made:
                    inputs = taken.popleft()
                    if self._first is None:
                        self._first = (inputs, images.copy())
                    yield images
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                cause: BaseException | None = error
            finally:
                made.close()
            while taken:
                yield self.call(taken.popleft(), cause)
                cause = None  # the batches taken ahead try what now fits
        for inputs in source:
            yield self.call(inputs)

    def call(self, inputs: Inputs, cause: BaseException | None = None) -> Images:
        """One batch, with as many rows at a time as fit.

        Args:
            cause: why `self.rows` rows did not fit just now.

        Raises:
            OutOfMemory: not even one row fits, or fewer rows give other bytes.
        """
        while True:
            if cause is not None:
                self._halve(cause)
            try:
                return self._run(self._small, inputs)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                cause = error

    def _halve(self, cause: BaseException) -> None:
        self.retries += 1
        _free()
        rows = self.rows // 2
        if rows < 1:
            raise OutOfMemory(
                f"Not even one image fits into memory ({_words(cause)}). Free memory."
            ) from cause
        if self._first is None:
            raise OutOfMemory(
                f"The first batch of {self.rows} rows does not fit into memory ({_words(cause)}). Free memory, or "
                f"begin with fewer rows: --compute-batch {rows} (another number gives other last bits, so in "
                "another folder)."
            ) from cause
        small = self._smaller(self.runner, rows)
        self.rows, self._small = rows, small
        try:
            again = self._run(small, self._first[0])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return self._halve(error)
        differ = int((again != self._first[1]).reshape(len(again), -1).any(1).sum())
        if differ:
            raise OutOfMemory(
                f"Out of memory at {self.runner.batch_size} rows, and with {rows} rows {differ} of {len(again)} images "
                "differ in some bit: the kernels of this machine are not batch-invariant. What is committed is "
                "intact; free memory and run the same command again."
            ) from cause
        return None

    def _run(self, runner: Runner, inputs: Inputs) -> Images:
        rows = runner.batch_size
        parts = [
            runner(*rows_of(inputs, slice(start, start + rows))) for start in range(0, len(inputs[0]), rows)
        ]
        return np.concatenate(parts)


def rows_of(inputs: Inputs, rows: slice | NDArray[np.int64]) -> Inputs:
    """Some rows of a batch's inputs."""
    vectors, noise, n_masked = inputs
    return vectors[rows], noise[rows], n_masked[rows]


def _words(error: BaseException) -> str:
    text: Any = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__

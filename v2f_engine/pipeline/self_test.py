"""The self-test beside generation: its result only informs, so nothing waits for it.

On a GPU it is hundreds of small calls that are bound by their launches, with kernels of their own to compile, while the
device replays graphs: a thread does them meanwhile. On a CPU, whose cores all generate, it runs when that is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from v2f_engine.errors import V2FError
from v2f_engine.pipeline.engine import Engine
from v2f_engine.ranges import stage
from v2f_engine.runtime import Runner, network_runner, with_rows
from v2f_engine.runtime.batch_invariance import begin, finish

NOT_MEASURED = "not measured"


class _Stopped(V2FError):
    """Ends the test early."""


class SelfTest:
    """Whether an engine's kernels are batch-invariant, measured beside its other work.

    Two calls of the runner are made here, in the caller's thread; the rest uses runners of its own.

    Args:
        engine: its runner is a `NetworkRunner`.
        seed: of the batch that is made.
        smaller: gives the runner with other numbers of rows.
    """

    def __init__(
        self, engine: Engine, seed: int, smaller: Callable[[Runner, int], Runner] | None = None
    ) -> None:
        self._stop = threading.Event()
        self._smaller = smaller or with_rows
        self._told = NOT_MEASURED
        self._device = str(network_runner(engine.runner, "The self-test").choice.device)
        with stage("self-test begun"):
            self._begun = begin(engine.runner, engine.test_inputs(seed))
        self._thread: threading.Thread | None = None
        if self._device.startswith("cuda"):
            self._thread = threading.Thread(target=self._work, name="v2f-self-test", daemon=True)
            self._thread.start()

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _work(self) -> None:
        import torch

        on_gpu = self._device.startswith("cuda") and torch.cuda.is_available()
        try:
            with stage("self-test"), torch.cuda.device(self._device) if on_gpu else nullcontext():
                self._told = str(finish(self._begun, self._smaller, self._check))
        except _Stopped:
            self._told = f"{NOT_MEASURED}: stopped"
        except (
            Exception
        ) as error:  # the images are made and right; a test that only informs must not undo them
            self._told = f"{NOT_MEASURED}: {type(error).__name__}: {error}"

    def result(self) -> str:
        """What was found, in words; waits for it. A test that failed says so and why."""
        if self._thread is None:
            self._work()
        else:
            self._thread.join()
        return self._told

    def stop(self) -> None:
        """Ends it after the call in hand, where it still runs."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


@contextmanager
def self_tested(engine: Engine, seed: int, *, on: bool) -> Iterator[Callable[[], str]]:
    """A function that waits for the self-test and gives what it found; left early, the test ends too.

    Args:
        on: False begins none, and the function says "not measured".
    """
    if not on:
        yield lambda: NOT_MEASURED
        return
    test = SelfTest(engine, seed)
    try:
        yield test.result
    finally:
        test.stop()

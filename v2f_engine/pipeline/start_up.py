"""Where a run's first seconds go, and its rate once they are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from v2f_engine.batch import ImageBatch
from v2f_engine.ranges import Recorded, recorded

STAGES = (
    "import",
    "load weights",
    "prepare network",
    "warm up",
    "capture",
    "identities",
    "self-test begun",
    "first batch",
)
"""What is reported, in the order in which it happens. `warm up` holds the compilation of kernels and the libraries' own
beginnings; `prepare network` folding constants, the copy to the device and binding; `first batch` the folder, its
attachments, the first draws and images. None is inside another."""


@dataclass(frozen=True)
class StartUp:
    """The beginning of a run, and the rest.

    Args:
        seconds: stage -> seconds, as in `STAGES` and `other`; together the time until the first batch was made (or
            until the end, where no batch was).
        compiled: GPU kernels compiled by this run; 0 where all were found on disk or none was needed.
        steady_images_per_second: of the images after the first batch, until the last was written; 0 where there were
            none, or other processes made them.
        finish: seconds from then to the end: contact sheet, card, manifest, what was left of the self-test.
        self_test: seconds of the self-test, most of it beside generation on a GPU.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    compiled: int = 0
    steady_images_per_second: float = 0.0
    finish: float = 0.0
    self_test: float = 0.0

    def lines(self, before: float = 0.0) -> list[str]:
        """Two short lines.

        Args:
            before: seconds of imports before the run, which count as `import` here.
        """
        stages = {"import": 0.0, **self.seconds}
        stages["import"] += before
        kernels = f" ({self.compiled} kernels compiled, once)" if self.compiled else ""
        parts = [
            f"{name} {seconds:.1f}{kernels if name == 'warm up' else ''}"
            for name, seconds in stages.items()
            if seconds >= 0.05
        ]
        if kernels and stages.get("warm up", 0.0) < 0.05:
            parts.append(kernels.strip())
        lines = [f"start-up       {sum(stages.values()):.1f} s: {', '.join(parts)}"]
        if self.steady_images_per_second:
            beside = f", self-test {self.self_test:.1f} s" if self.self_test else ""
            lines.append(
                f"then           {self.steady_images_per_second:,.1f} images/s; finishing {self.finish:.1f} s{beside}"
            )
        return lines


class Clock:
    """Times of one run's turning points.

    Args:
        heard: the run's stages.
        now: a clock in seconds.
    """

    def __init__(self, heard: Recorded, now: Callable[[], float] = time.perf_counter) -> None:
        self._heard, self._now = heard, now
        self._began = now()
        self._writing: float | None = None
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._now() - self._began

    def writing(self) -> None:
        """Everything is ready: the first batch is next."""
        self._writing = self._now()

    def batches(self, made: Iterable[ImageBatch]) -> Generator[ImageBatch]:
        """The same batches, the first of the run noted."""
        for batch in made:
            if self._first is None:
                self._first = (self._now(), len(batch))
            yield batch

    def progress(self, then: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
        """A progress function that notes when images were last written, and calls `then`."""
        start: int | None = None

        def note(done: int, total: int) -> None:
            nonlocal start
            start = done if start is None else start
            if self._last is None or done - start > self._last[1]:
                self._last = (self._now(), done - start)
            if then is not None:
                then(done, total)

        return note

    def report(self, compiled: int) -> StartUp:
        """The report, at the end of the run."""
        end, heard = self._now(), self._heard.seconds
        ready = end if self._first is None else self._first[0]
        seconds = {name: heard[name] for name in STAGES if name in heard}
        if self._first is not None and self._writing is not None:
            seconds["first batch"] = self._first[0] - self._writing
        seconds["other"] = max(0.0, ready - self._began - sum(seconds.values()))
        rate, finish = 0.0, 0.0
        if self._first is not None and self._last is not None and self._last[0] > self._first[0]:
            rate = max(0, self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
            finish = end - self._last[0]
        return StartUp(seconds, compiled, rate, finish, heard.get("self-test", 0.0))


@contextmanager
def timed() -> Iterator[Clock]:
    """A clock of the block, which hears its stages."""
    with recorded() as heard:
        yield Clock(heard)

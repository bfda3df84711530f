"""Progress bars with rate and time left, on stderr; a line every half minute where that is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from v2f_engine.cli import saying

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """Call it with (done, in all).

    Args:
        bar: tqdm's.
        every: seconds between two texts of `doing` at the least.
    """

    def __init__(self, bar: tqdm[Any], every: float = 0.2) -> None:
        self._bar = bar
        self._every, self._told = every, -math.inf

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        if done > self._bar.n:
            self._bar.set_postfix_str("", refresh=False)  # what was going on until then
        self._bar.update(done - self._bar.n)

    def doing(self, words: str) -> None:
        """What is going on behind the counts, at their end."""
        now = time.monotonic()
        if now - self._told >= self._every:
            self._told = now
            self._bar.set_postfix_str(words)

    def say(self, sentence: str) -> None:
        """A line of its own above the bar."""
        import sys

        self._bar.write(sentence, file=sys.stderr)


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Bar]:
    """A bar that is closed in the end."""
    import sys

    from tqdm import tqdm

    from v2f_engine.ranges import watched

    log = not sys.stderr.isatty()
    bar = tqdm(
        desc=what,
        unit=f" {unit}",
        unit_scale=unit == "B",
        mininterval=30.0 if log else 0.2,
        smoothing=0.1,
        dynamic_ncols=True,
        disable=saying.now().quiet,
    )
    shown = Bar(bar, 10.0 if log else 0.2)
    try:
        with watched(shown.doing):
            yield shown
    finally:
        bar.close()

"""Progress bars with rate and time left, on stderr; a line every half minute where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """Call it with (done, in all)."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def say(self, sentence: str) -> None:
        """A line of its own above the bar."""
        import sys

        self._bar.write(sentence, file=sys.stderr)


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Bar]:
    """A bar that is closed in the end."""
    import sys

    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    bar = tqdm(
        desc=what, unit=f" {unit}", mininterval=30.0 if quiet else 0.2, smoothing=0.1, dynamic_ncols=True
    )
    try:
        yield Bar(bar)
    finally:
        bar.close()

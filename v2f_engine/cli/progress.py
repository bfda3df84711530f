"""Progress bars with rate and time left, on stderr; a line every half minute where that is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, in all)."""
    import sys

    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    bar = tqdm(
        desc=what, unit=f" {unit}", mininterval=30.0 if quiet else 0.2, smoothing=0.1, dynamic_ncols=True
    )

    def update(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield update
    finally:
        bar.close()

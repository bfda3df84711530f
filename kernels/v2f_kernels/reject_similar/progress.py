"""How the fast backends of rejection report: progress(candidates done, candidates in all, vectors kept)."""

from collections.abc import Callable

Progress = Callable[[int, int, int], None]


def silent(done: int, total: int, n_kept: int) -> None:
    """The progress that nobody sees."""

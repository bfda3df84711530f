"""Says when kernels are being compiled, which a machine does once: Triton keeps what it compiled on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass
class Compiled:
    """How many kernels were compiled, and how many were found ready on disk."""

    compiled: int = 0
    found: int = 0


@contextmanager
def watched(say: Callable[[str], None] | None = None, *, on: bool = True) -> Iterator[Compiled]:
    """Counts what Triton compiles inside the block, in any thread.

    Args:
        say: called once, as soon as one kernel was not found on disk, with a sentence that names the folder where the
            compiled ones are kept (`TRITON_CACHE_DIR`, by default `~/.triton/cache`).
        on: False watches nothing and imports nothing.
    """
    kernels = Compiled()
    if not on or find_spec("triton") is None:
        yield kernels
        return
    from triton import knobs

    before = knobs.compilation.listener

    def listener(*, cache_hit: bool, **rest: Any) -> None:
        if cache_hit:
            kernels.found += 1
        else:
            kernels.compiled += 1
            if kernels.compiled == 1 and say is not None:
                say(f"compiling kernels, once; they are kept in {knobs.cache.dir}")
        if before is not None:
            before(cache_hit=cache_hit, **rest)

    knobs.compilation.listener = listener
    try:
        yield kernels
    finally:
        knobs.compilation.listener = before

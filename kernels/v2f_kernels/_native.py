"""The compiled extension, and what every call of it needs: threads, instruction set, lengths of rows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from v2f_kernels._rows import Float32, Float64, refuse_undirected

try:
    EXTENSION: Any = import_module("v2f_kernels._C")
except ImportError as error:
    raise ImportError(
        f"the compiled extension v2f_kernels._C is missing ({error}); "
        "`pip install -e .` builds it where a C++17 compiler with OpenMP is found"
    ) from error

if not hasattr(EXTENSION, "winograd_conv3x3"):
    raise ImportError(
        f"the compiled extension {EXTENSION.__file__} is older than its sources; `pip install -e .` rebuilds it"
    )

BOUND_SCALE = 1.0
"""Multiplies every error bound of the int8 screens. The proof needs 1; tests set less and must turn red."""


def threads_or_default(threads: int | None) -> int:
    """`threads`, or what OpenMP would take (OMP_NUM_THREADS, else the usable cores)."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, found {threads}")
    return int(EXTENSION.max_threads()) if threads is None else threads


def options(threads: int, isa: str) -> Any:
    """Options of one call. `isa`: one of `EXTENSION.instruction_sets()`, or "" for the fastest here."""
    known = EXTENSION.instruction_sets()
    if isa and isa not in known:
        raise ValueError(f"isa must be one of {known} on this processor, found {isa!r}")
    return EXTENSION.Options(threads, isa, BOUND_SCALE)


def lengths(what: str, rows: Float32, threads: int, first: int = 0) -> Float64:
    """float64 `[N]`: `_cosine.norm` of contiguous rows, bit for bit, many times faster.

    Raises:
        ValueError: a row that is not finite, or shorter than 1e-6 or longer than 1e6.
    """
    norms = np.empty(len(rows), np.float64)
    EXTENSION.norms(rows, norms, threads)
    return refuse_undirected(what, norms, first)

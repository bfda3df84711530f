"""Named ranges for a profiler (Nsight Systems): `with stage("replay"): ...`; nothing without the nvtx package."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

DOMAIN = "v2f"


@cache
def _annotate() -> Any:
    return import_module("nvtx").annotate if find_spec("nvtx") else None


def stage(name: str) -> AbstractContextManager[Any]:
    """A range called `name` in the domain `v2f`; a no-op where nvtx is not installed."""
    annotate = _annotate()
    if annotate is None:
        return nullcontext()
    ranged: AbstractContextManager[Any] = annotate(name, domain=DOMAIN)
    return ranged

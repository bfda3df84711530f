"""Many processes, many machines, one dataset: executors over a queue of shards in a shared folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2f_engine.scale.executors import EXECUTORS
    from v2f_engine.scale.job import Source
    from v2f_engine.scale.shard import make_shard
    from v2f_engine.scale.write import Workforce, write_scaled

_MODULES = {
    "EXECUTORS": "executors",
    "Source": "job",
    "make_shard": "shard",
    "Workforce": "write",
    "write_scaled": "write",
}

__all__ = ["EXECUTORS", "Source", "Workforce", "make_shard", "write_scaled"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

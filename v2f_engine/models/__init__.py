"""The networks, with the parameter names of the published checkpoints, and the safe way to load them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2f_engine.models.ops import bind_ops as bind_ops

_HOMES = {"bind_ops": "v2f_engine.models.ops"}

__all__ = ["bind_ops"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

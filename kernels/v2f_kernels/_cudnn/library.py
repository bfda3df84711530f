"""Finding cuDNN's frontend; nothing is imported before an op asks for it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from v2f_kernels._extras import install

OLDEST = (1, 32)
"""The version that plans were built with; earlier ones have other names for parts of it."""
BRINGS = "nvidia-cudnn-frontend and what it needs, about 100 MB; cuDNN comes with torch"


@cache
def cudnn() -> Any:
    """The package `cudnn`, able to reach libcudnn.

    Raises:
        ImportError: it is not installed, another package has its name, it is too old, or libcudnn was not found. The
            message says which, and what to do; `Op.backend` makes a `BackendUnavailable` of it.
    """
    try:
        found = import_module("cudnn")
    except ImportError as error:
        raise ImportError(
            f"cuDNN's frontend cannot be imported ({error}): {install('cudnn')} ({BRINGS})"
        ) from error
    version = str(getattr(found, "__version__", "unknown"))
    if not hasattr(found, "pygraph") or _numbers(version) < OLDEST:
        raise ImportError(
            f"expected nvidia-cudnn-frontend {'.'.join(map(str, OLDEST))} or later as the package `cudnn`, found"
            f" {version} at {getattr(found, '__file__', 'an unknown place')}: {install('cudnn')} ({BRINGS})"
        )
    try:
        found.backend_version()
    except RuntimeError as error:
        raise ImportError(
            f"nvidia-cudnn-frontend {version} is there and found no libcudnn.so.9 ({error}): install torch for CUDA or"
            " nvidia-cudnn-cu13, or name the library's folder in LD_LIBRARY_PATH"
        ) from error
    return found


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()

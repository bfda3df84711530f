"""Tables of vectors on disk: safetensors, written so that a crash leaves the old file or the new one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.atomic import write_atomically
from v2f_engine.errors import VectorError


def write_tensors(path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file: temporary name, flush, fsync, rename, fsync of the folder.

    Raises:
        DiskFull: no room; a file of that name that was there before is untouched.
        OutputFolderError: the folder does not exist or cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    data = save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, dict(metadata))
    write_atomically(path, data)


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(tensors, metadata) of a safetensors file whose metadata says `format: kind`.

    Raises:
        VectorError: missing, truncated or foreign.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise VectorError(f"{path}: no such file. Expected a {kind!r} safetensors file.")
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                raise VectorError(f"{path}: expected format {kind!r}, found {metadata.get('format')!r}.")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise VectorError(
            f"{path}: not a readable safetensors file ({error}). Write or copy it again."
        ) from error

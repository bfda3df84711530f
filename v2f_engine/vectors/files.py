"""Tables of vectors on disk: safetensors, written so that a crash leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.atomic import write_atomically
from v2f_engine.config import a_path
from v2f_engine.errors import VectorError
from v2f_engine.outside import admit


def write_tensors(path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file: temporary name, flush, fsync, rename, fsync of the folder.

    Raises:
        DiskFull: no room; a file of that name that was there before is untouched.
        OutputFolderError: the folder does not exist or cannot be written.
    """
    write_atomically(Path(path), tensor_bytes(tensors, metadata))


def save_npy(path: str | Path, array: NDArray[Any]) -> None:
    """Writes a `.npy` that `numpy.load` reads, whole or not at all. Raises as `write_tensors`."""
    held = io.BytesIO()
    np.save(held, np.ascontiguousarray(array), allow_pickle=False)
    write_atomically(Path(path), held.getvalue())


HEADER_LIMIT = 1 << 20
"""Bytes of a safetensors header that is ours: a few hundred, and what a table says of its origin."""
_DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
}


def tensor_bytes(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file; equal content, equal bytes.

    By hand, because the library writes its metadata in the order of a randomly seeded hash table.
    """
    header: dict[str, Any] = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}}
    parts: list[bytes] = []
    end = 0
    for name in sorted(tensors, key=lambda key: (-tensors[key].dtype.itemsize, key)):  # widest first: aligned
        array = np.ascontiguousarray(tensors[name])
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        offsets = [end, end + len(data)]
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        parts.append(data)
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def kind_of(path: str | Path) -> str:
    """What a safetensors file says it is (`format` in its metadata); empty for any other file, and for one without."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            size = int.from_bytes(start, "little")
            text = file.read(size) if len(start) == 8 and size <= HEADER_LIMIT else b""
        return str(json.loads(text)["__metadata__"]["format"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(tensors, metadata) of a safetensors file whose metadata says `format: kind`.

    Raises:
        VectorError: missing, truncated or foreign.
        ConfigError: no path.
    """
    from safetensors import SafetensorError, safe_open

    admit(a_path("file", path), VectorError)
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


@contextlib.contextmanager
def reading(path: str | Path, again: str) -> Iterator[None]:
    """Whatever stands in a file's metadata, a reader of it ends with a VectorError.

    JSON holds more than a field takes: null, lists, numbers beyond a float or int64, 1e5 brackets.

    Args:
        again: what to do, for the message.
    """
    try:
        yield
    except VectorError as error:
        if str(path) in str(error):
            raise
        raise VectorError(f"{path}: {error} {again}") from error
    except (
        AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise VectorError(f"{path}: incomplete ({error!r:.120}). {again}") from error


def rows_told(value: Any, what: str) -> int:
    """How many rows, images or people a file says it was made of: a whole number from 1 that int64 holds.

    Raises:
        ValueError: anything else.
    """
    if type(value) is not int or not 1 <= value < 2**63:
        raise ValueError(f"{what}: expected a whole number from 1, found {value!r:.40}")
    return value


def share_told(value: Any, what: str) -> float:
    """A share from 0 to 1 that a file tells.

    Raises:
        ValueError: anything else.
    """
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"{what}: expected a number from 0 to 1, found {value!r:.40}")
    return float(value)


def text_told(value: Any, what: str) -> str:
    """A text that a file tells.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what}: expected text, found {value!r:.40}")
    return value

"""A stranger's `.pth`: a zip around a pickle, checked before, while and after it is opened.

First the zip directory (every record stored, none hidden or overlapping, one pickle of at most 8 MiB), then
`torch.load` with `weights_only=True` on a memory map. Sources: CVE-2025-32434 and CVE-2026-24747
(`weights_only` before torch 2.10: refused here); a 3 MB deflated `.pth` takes 3.2 GiB in plain torch.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from v2f_engine.errors import CheckpointError

Tensors = dict[str, torch.Tensor]

MAX_PICKLE = 8 << 20
MAX_RECORDS = 100_000
SAFE_TORCH = (2, 10)

PARTS = {
    "model_vec2face": "model",
    "state_dict": "model",
    "model": "model",
    "pose_model": "pose",
    "model_disc": "discriminator",
}
"""Entries of published files -> what they hold. All else (optimiser, scaler, epoch) is left out."""

_INERT: list[Any] = [argparse.Namespace]
"""What training scripts store beside their weights and what holds values only: read, then dropped."""
_RECORD = re.compile(r"[^/\\]+/(data\.pkl|byteorder|version|\.[\w./]+|data/\d+)")


def refuse(path: Path, what: str) -> NoReturn:
    """Raises CheckpointError: `path`: `what`."""
    raise CheckpointError(f"{path}: {what}.")


def read_pth(path: Path, size: int) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """(tensors by part, empty head) of a zip written by `torch.save`; `size` is the file's.

    Raises:
        CheckpointError: truncated, compressed, overlapping, with other objects than tensors, or without any.
    """
    found = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if found < SAFE_TORCH:
        refuse(path, f"needs torch >= 2.10 to be loaded safely (CVE-2026-24747), found {torch.__version__}")
    _check_zip(path, size)
    try:
        with torch.serialization.safe_globals(_INERT):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = named[1] if named else str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: holds more than weights ({what}), which could run code when loaded; only tensors,"
            " numbers, strings and argparse.Namespace are read. Where you trust the file, save its state"
            " dict alone with safetensors.torch.save_file and load that."
        ) from error
    except Exception as error:  # a damaged pickle makes torch raise nearly anything, IndexError included
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: is damaged: {reason}") from error
    if not isinstance(content, Mapping):
        refuse(path, f"holds a {type(content).__name__}; expected a state dict")
    return _parts(path, content), {}


def _check_zip(path: Path, size: int) -> None:
    """Refuses a zip that could hide records, inflate, or reach outside itself."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise CheckpointError(
            f"{path}: is truncated or damaged: {size:,} bytes without a readable zip directory at their end"
            f" ({error}). Fetch it again."
        ) from error
    names = [record.filename for record in records]
    if len(records) > MAX_RECORDS or len(set(names)) < len(names):
        refuse(path, f"its zip directory has {len(names):,} records, {len(set(names)):,} of them distinct")
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            refuse(path, f"record {record.filename!r} is compressed; torch.save stores. It may be a bomb")
        if not _RECORD.fullmatch(record.filename) or ".." in record.filename:
            refuse(path, f"record {record.filename!r} does not belong into a file of weights")
    if sum(record.file_size for record in records) > size:
        refuse(path, "its records are larger than the file: they overlap")
    pickles = [record for record in records if record.filename.endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
        sizes = [record.file_size for record in pickles]
        refuse(path, f"expected one data.pkl of at most {MAX_PICKLE:,} bytes, found sizes {sizes}")


def _parts(path: Path, content: Mapping[Any, Any]) -> dict[str, Tensors]:
    parts: dict[str, Tensors] = {}
    for entry, part in PARTS.items():
        table = content.get(entry)
        if part not in parts and isinstance(table, Mapping) and _tensors(table):
            parts[part] = _tensors(table)
    if "model" not in parts:
        parts["model"] = _tensors(content)
    if not parts["model"]:
        refuse(path, f"holds no tensors under {', '.join(PARTS)} or at its top; found {list(content)[:8]}")
    return parts


def _tensors(table: Mapping[Any, Any]) -> Tensors:
    """The tensors of a state dict, without the `module.` that DistributedDataParallel prepends."""
    tensors = {str(name): value for name, value in table.items() if isinstance(value, torch.Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors

"""A stranger's `.pth`: a zip around a pickle, checked before, while and after it is opened.

First the zip directory (every record stored, none hidden or overlapping, one pickle of at most 8 MiB), then the
pickle's names and operations (`models.inert`), then `torch.load` with `weights_only=True` on a memory map.
Sources: CVE-2025-32434 and CVE-2026-24747 (`weights_only` before torch 2.10: refused here); a 3 MB deflated
`.pth` takes 3.2 GiB in plain torch.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from v2f_engine.errors import CheckpointError
from v2f_engine.models.inert import refuse_object, stand_ins

Tensors = dict[str, torch.Tensor]

MAX_PICKLE = 8 << 20
MAX_RECORDS = 100_000
SAFE_TORCH = (2, 10)

_RECORD = re.compile(r"[^/\\]+/(data\.pkl|byteorder|version|\.[\w./]+|data/\d+)")


def refuse(path: Path, what: str) -> NoReturn:
    """Raises CheckpointError: `path`: `what`."""
    raise CheckpointError(f"{path}: {what}.")


def safe_content(path: Path, size: int) -> Any:
    """What `torch.save` put into a zip of `size` bytes: tensors and containers of them, nothing that could run.

    Other values than tensors, numbers and text are `models.inert.Inert`.

    Raises:
        CheckpointError: truncated, compressed, overlapping, or with other objects than tensors.
    """
    found = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if found < SAFE_TORCH:
        refuse(path, f"needs torch >= 2.10 to be loaded safely (CVE-2026-24747), found {torch.__version__}")
    pickled = _check_zip(path, size)
    values = stand_ins(path, pickled)
    try:
        with torch.serialization.safe_globals(values):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        # torch's message goes on to advise loading without its safeguard; ours are the only words shown.
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        if name:
            refuse_object(path, name[1])
        raise CheckpointError(
            f"{path}: holds more than weights: its pickle builds what torch.save of tensors does not. Nothing in it "
            "was run. If you made it, save model.state_dict() with torch.save or safetensors."
        ) from error
    except Exception as error:  # a damaged pickle makes torch raise nearly anything, IndexError included
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: is damaged: {reason}") from error


def read_pth(path: Path, size: int) -> tuple[Mapping[Any, Any], dict[str, Any]]:
    """(what a zip written by `torch.save` holds, tables within tables; empty head); `size` is the file's.

    Raises:
        CheckpointError: as `safe_content`, or no table at all.
    """
    content = safe_content(path, size)
    if not isinstance(content, Mapping):
        refuse(path, f"holds a {type(content).__name__}; expected a state dict")
    return content, {}


def _check_zip(path: Path, size: int) -> bytes:
    """The pickle. Refuses a zip that could hide records, inflate, or reach outside itself."""
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
    script = any(name.endswith("/constants.pkl") or "/code/" in name for name in names)
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            refuse(path, f"record {record.filename!r} is compressed; torch.save stores. It may be a bomb")
        if not _RECORD.fullmatch(record.filename) or ".." in record.filename:
            why = " (TorchScript carries code; save model.state_dict() instead)" if script else ""
            refuse(path, f"record {record.filename!r} does not belong into a file of weights{why}")
    if sum(record.file_size for record in records) > size:
        refuse(path, "its records are larger than the file: they overlap")
    pickles = [record for record in records if record.filename.endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
        sizes = [record.file_size for record in pickles]
        refuse(path, f"expected one data.pkl of at most {MAX_PICKLE:,} bytes, found sizes {sizes}")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(pickles[0])
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}.") from error

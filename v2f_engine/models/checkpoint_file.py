"""Weight files from strangers, read without running anything they contain.

safetensors is parsed, never executed; its header is checked here against the file's size, for duplicate keys
and for holes, before a tensor is made. A `.pth` goes through `models.pth`. Every tensor must then be dense,
inside its storage, and finite: a view of 2**40 elements on a storage of one, and NaN weights, are what both
formats let pass. There is no fallback to unsafe loading, and no other format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open

from v2f_engine.errors import CheckpointError, ModelNotFound
from v2f_engine.models.dialects import Resolved, resolve
from v2f_engine.models.file_hash import file_sha256 as file_sha256
from v2f_engine.models.file_hash import split_entry
from v2f_engine.models.inert import TRUSTED, is_value, named, refuse_object
from v2f_engine.models.pth import MAX_PICKLE, Tensors, read_pth, refuse
from v2f_engine.outside import admit

MAX_HEADER = 100 << 20
"""Bytes of a safetensors header, the limit of the format's own library."""

_PREFIXES = {
    "pose_model.": "pose",
    # A training's checkpoint: its averaged weights are the model.
    "ema/": "model",
    "critic/": "discriminator",
    "generator/": "trained",
    "optimizer/": "optimiser",
    "critic_optimizer/": "optimiser of the discriminator",
    "loop/": "log",
}
"""Of tensor names in our own safetensors files; names without one belong to the model."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8}


@dataclass(frozen=True)
class CheckpointFile:
    """What a weight file holds.

    Args:
        path: where it is.
        sha256: of the whole file.
        parts: `model`, `pose`, `discriminator` -> tensors by name; finite, dense, on the CPU.
        head: the JSON object that our own files carry; empty for published ones.
        place: where in the file the model stands, entries and prefixes joined by dots; "." for the file itself.
        notes: sentences about what was taken and what was set aside.
        aside: names that stand beside the model in its table, with shapes.
    """

    path: Path
    sha256: str
    parts: Mapping[str, Tensors]
    head: Mapping[str, Any] = field(default_factory=dict)
    place: str = "."
    notes: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


def read_checkpoint(path: str | Path, *, kind: str | None = None) -> CheckpointFile:
    """Reads a `.safetensors` or a `.pth`, told apart by content; the network is found by `models.dialects`.

    Args:
        path: the file, or `FILE#ENTRY` where it holds several networks.
        kind: `generator`, `recogniser` or `discriminator`: the one to take where a file holds several kinds.

    Raises:
        ModelNotFound: there is no such file.
        CheckpointError: empty, truncated, a web page, a git-lfs pointer, an unsafe or an unknown format;
            tensors that are not dense, not finite, or of an unexpected dtype; several networks that differ.
    """
    path, entry = split_entry(path)
    admit(path, CheckpointError)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path}: there is no such file.") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    read = _reader(path, start, size)
    content, head = read(path, size)
    if read is _read_safetensors and not content["model"]:
        found = Resolved(content)
    elif read is _read_safetensors:
        found = resolve(path, content.pop("model"), kind=kind, entry=entry)
        found = replace(found, parts={**content, **found.parts})
    else:
        found = resolve(path, content, kind=kind, entry=entry)
    for part, tensors in found.parts.items():
        for name, tensor in tensors.items():
            _check_tensor(path, f"{part}: {name}", tensor)
    return CheckpointFile(path, file_sha256(path), found.parts, head, found.place, found.notes, found.aside)


def _reader(path: Path, start: bytes, size: int) -> Any:
    if size == 0:
        refuse(path, "is empty. The download was cut; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        refuse(path, "is a git-lfs pointer, not the weights. Run `git lfs pull`, or download the file")
    if start.lstrip()[:1] == b"<":
        refuse(path, "is a web page, not weights. Use the page's download link (`resolve`, not `blob`)")
    if start.startswith(b"PK\x03\x04"):
        return read_pth
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        return _read_safetensors
    if start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) or b"ustar" in start:
        _refuse_bare_pickle(path)
    if start.lstrip()[:1] == b"{":
        _refuse_json(path, size)
    if b"pytorch" in start[:64] and start[:1] == b"\x08":
        refuse(path, "is an ONNX graph; a recogniser in ONNX is read where its name ends in .onnx")
    return refuse(path, f"starts with {start[:8]!r}: expected safetensors or a torch .pth (zip)")


def _refuse_bare_pickle(path: Path) -> NoReturn:
    """Names what a pickle without a zip would run; else says how to bring a file of torch before 1.6 along."""
    with path.open("rb") as file:
        content = file.read(MAX_PICKLE)
    for name in [] if b"ustar" in content[:512] else named(path, content)[0]:
        if not is_value(name) and not name.startswith(TRUSTED):
            refuse_object(path, name)
    refuse(
        path,
        "is a bare pickle (torch before 1.6), which cannot be loaded safely. In an environment you can"
        " spare, load it and save its state dict with today's torch.save or with safetensors",
    )


def _refuse_json(path: Path, size: int) -> None:
    """Names the parts of a sharded checkpoint whose index this is."""
    try:
        weights = json.loads(path.read_text() if size <= MAX_HEADER else "{}")["weight_map"]
        files = sorted(set(weights.values()))
        listed = ", ".join(map(str, files[:4])) + (", ..." if len(files) > 4 else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        refuse(path, "is a JSON text, not weights")
    refuse(
        path,
        f"is the index of a checkpoint in {len(files)} files ({listed}), {len(weights):,} tensors; expected one file. "
        "Merge them: safetensors.torch.save_file of the tables of all files together",
    )


def _read_safetensors(path: Path, size: int) -> tuple[dict[str, Tensors], dict[str, Any]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length)
    if len(text) < length:
        refuse(
            path, f"is truncated: its header says {length:,} bytes, {len(text):,} are there. Fetch it again"
        )
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
        metadata = header.pop("__metadata__", {})
        end = _check_spans(path, header)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its safetensors header is damaged ({error}).") from error
    if size != 8 + length + end:
        state = "is truncated" if size < 8 + length + end else "has bytes behind its end"
        refuse(path, f"{state}: expected {8 + length + end:,} bytes, found {size:,}. Fetch it again")
    parts: dict[str, Tensors] = {"model": {}}
    try:
        with safe_open(path, framework="pt") as opened:
            for name in header:
                prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
                part = parts.setdefault(_PREFIXES.get(prefix, "model"), {})
                part[name.removeprefix(prefix)] = opened.get_tensor(name)
        head = json.loads(metadata.get("head", "{}"))
    except (SafetensorError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}.") from error
    if not isinstance(head, dict):
        refuse(path, "its metadata entry 'head' is not a JSON object")
    return parts, head


def _check_spans(path: Path, header: dict[str, Any]) -> int:
    """Bytes of all tensors together, which must follow each other without gaps and fit their shapes."""
    end = 0
    spans = sorted((*entry["data_offsets"], name) for name, entry in header.items())
    for first, last, name in spans:
        dtype, shape = header[name]["dtype"], header[name]["shape"]
        if dtype not in _DTYPE_BYTES:
            refuse(path, f"holds {name} as {dtype}; expected one of {', '.join(_DTYPE_BYTES)}")
        if first != end or last - first != math.prod(shape) * _DTYPE_BYTES[dtype]:
            refuse(path, f"its header is damaged: {name} at bytes {first}..{last} does not fit its shape")
        end = last
    return end


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _check_tensor(path: Path, name: str, tensor: torch.Tensor) -> None:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        refuse(path, f"{name} is {tensor.layout} on {tensor.device}; expected a plain tensor")
    if tensor.dtype not in (*_FLOATS, torch.int64):
        refuse(path, f"{name} has dtype {tensor.dtype}; expected floats (or int64 for counters)")
    extent = tensor.storage_offset() + tensor.numel()
    if not _dense(tensor) or extent * tensor.element_size() > tensor.untyped_storage().nbytes():
        refuse(path, f"{name} of shape {list(tensor.shape)} is a view that its storage does not hold")
    if tensor.dtype in _FLOATS and not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        refuse(path, f"{name} has {count:,} values of {tensor.numel():,} that are NaN or infinite")


def _dense(tensor: torch.Tensor) -> bool:
    """Whether each element has its own place and there are no gaps, in any order of dimensions."""
    expected = 1
    for stride, side in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if side == 1:
            continue
        if stride != expected:
            return False
        expected *= side
    return True

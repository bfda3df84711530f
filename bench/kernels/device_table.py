"""A device's file of `v2f_kernels/tuned` while it is measured: every decision is on the disk before the next one."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from v2f_kernels import _tuned
from v2f_kernels._triton import launch
from v2f_kernels._triton.ptxas import ptxas_version

from bench import machine

STAMP = re.compile(r" \[[^\]]+\]$")
"""What says of an entry when and at which commit it was measured."""


class DeviceTable:
    """The file of one device.

    An entry carries the date and commit of its own measurement, since a later run may reach only some of them; those
    that carried none get the file's before that is replaced.

    Args:
        device: as torch names it.
        measured: what `v2f_kernels._tuned.MEASURED` lists, of the run that begins.
        folder: of the tables; it needs a `default.json`.
    """

    def __init__(self, device: str, measured: Mapping[str, Any], folder: Path = _tuned.TUNED) -> None:
        self.device, self.measured, self.folder = device, dict(measured), folder
        self.path = folder / _tuned.file_of(device)
        self.default = _tuned.read(folder / _tuned.file_of(_tuned.DEFAULT), None)
        self.ops: dict[str, dict[str, dict[str, Any]]] = {}
        self.chunks: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            earlier = _tuned.read(self.path, self.default)
            for op, picks in earlier.backends.items():
                for key, pick in picks.items():
                    self._put(
                        op, "backend", key, {"use": pick.use, "why": _stamped(pick.why, earlier.measured)}
                    )
            for op, entries in earlier.launch.items():
                for key, entry in entries.items():
                    self._put(op, "launch", key, dict(entry))
            for dtype, chunk in earlier.chunks.items():
                self.chunks[dtype] = {"images": chunk.images, "why": _stamped(chunk.why, earlier.measured)}

    def backend(self, op: str, key: str, use: str, why: str) -> None:
        """What runs for a key of `_tuned.key_of`, and the numbers behind it; written at once."""
        self._put(op, "backend", key, {"use": use, "why": _stamped(why, self.measured)})
        self.save()

    def decided_now(self, op: str, key: str) -> str:
        """What this very measurement (date and commit) chose for a key; empty if it did not come to it."""
        entry = self.ops.get(op, {}).get("backend", {}).get(key, {"use": "", "why": ""})
        return str(entry["use"]) if entry["why"].endswith(_stamped("", self.measured)) else ""

    def launch(self, op: str, key: str, entry: Mapping[str, int]) -> None:
        """How `kernel` or `kernel/variant` of an op's folder is launched; written at once."""
        self._put(op, "launch", key, dict(entry))
        self.save()

    def chunk(self, dtype: str, images: int, why: str) -> None:
        """How many images go through the decoder's upper levels at a time, 0 for all; written at once."""
        self.chunks.pop(dtype, None)
        if images:
            self.chunks[dtype] = {"images": images, "why": _stamped(why, self.measured)}
        self.save()

    def save(self) -> None:
        """Writes the file in its one spelling, checked first, and makes this process read it.

        Raises:
            TunedTableError: what would be written is no table.
        """
        text = spelled(self.device, self.measured, self.ops, self.chunks)
        _tuned.parse(text, self.path.name, self.default)
        temporary = self.path.with_suffix(".new")
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        forget()

    def _put(self, op: str, kind: str, key: str, entry: dict[str, Any]) -> None:
        self.ops.setdefault(op, {}).setdefault(kind, {})[key] = entry


def forget() -> None:
    """Makes this process read `tuned/` again."""
    _tuned.tables.cache_clear()
    launch._lookup.cache_clear()


def spelled(
    device: str,
    measured: Mapping[str, Any],
    ops: Mapping[str, Mapping[str, Mapping[str, Any]]],
    chunks: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The one spelling of a table: an entry a line, ops in order."""

    def block(name: str, entries: Mapping[str, Any]) -> str:
        lines = ",\n".join(f"    {json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
        return f'   "{name}": {{\n{lines}\n   }}'

    parts = []
    for op in sorted(ops):
        kinds = ",\n".join(block(name, ops[op][name]) for name in ("backend", "launch") if ops[op].get(name))
        parts.append(f"  {json.dumps(op)}: {{\n{kinds}\n  }}")
    lines = [f' "device": {json.dumps(device)}']
    if measured:
        facts = ",\n".join(f"  {json.dumps(name)}: {json.dumps(measured[name])}" for name in _tuned.MEASURED)
        lines.append(f' "measured": {{\n{facts}\n }}')
    if chunks:
        listed = ",\n".join(f"  {json.dumps(dtype)}: {json.dumps(chunks[dtype])}" for dtype in sorted(chunks))
        lines.append(f' "chunks": {{\n{listed}\n }}')
    lines.append(' "ops": {\n' + ",\n".join(parts) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def measurement(device: str, source: str) -> dict[str, Any]:
    """What `_tuned.MEASURED` lists, of this machine now.

    Args:
        device: a CUDA device; a CPU in a rehearsal, which stands for capability 90 and compiles nothing.
        source: what measures it.
    """
    seen = machine.environment(device)
    major, minor = torch.cuda.get_device_capability(torch.device(device)) if device != "cpu" else (9, 0)
    capability = 10 * major + minor
    return {
        "capability": capability,
        "ptxas": ptxas_version(capability),
        "triton": seen["triton"],
        "torch": seen["torch"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": seen["commit"] + (" with changes" if seen["uncommitted"] else ""),
        "source": source,
    }


def _stamped(why: str, measured: Mapping[str, Any]) -> str:
    return why if STAMP.search(why) else f"{why} [{measured['date']}, {measured['commit']}]"

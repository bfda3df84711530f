"""What runs on which device, and how it is launched: `tuned/<device>.json`, one file a device.

    {"device": "NVIDIA H200",
     "measured": {"capability": 90, "ptxas": "12.8.93", "triton": "3.6.0", "torch": "2.11.0+cu130",
                  "date": "2026-11-27", "commit": "ad7a1a4", "source": "what measured it"},
     "ops": {"group_norm_silu": {
       "backend": {"C=512 HW=7, fp16": {"use": "torch", "why": "0.45 us an image, triton 0.65"}},
       "launch": {"single_pass/P=64": {"num_warps": 2, "num_stages": 1, "CHANNELS": 32}}}}}

`backend` says which implementation runs, by shape class (`_shapes`), dtype and use: `C=512 HW=7, fp16` without
gradients, `C=512 HW=7, fp16, gradients` in training; `*, fp16` and `*` are every other shape. `launch` says how that
op's Triton kernels are launched, by `kernel` or `kernel/variant`. Both change speed, and results only by rounding.

Beside `ops` a device's file may have `chunks`, by dtype: how many images go through the upper levels of the image
decoder at a time, so that what one kernel writes is still in L2 when the next reads it.

    "chunks": {"fp16": {"images": 16, "why": "8,900 images/s, all 256 at once 8,443"}}

`default.json` names no device, has `*` for every op and every launch, and serves whatever a device's file lacks.

Looked up, for a backend: the device's shape, the device's `*`, the default's shape, the default's `*`; at each the
entry with its dtype before the one without. An entry without gradients says nothing about training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from v2f_kernels._errors import V2FError
from v2f_kernels._op import Op
from v2f_kernels._shapes import ANY, SHAPES, parse_shape

TUNED = Path(__file__).parent / "tuned"
DEFAULT = "default"
DTYPES = ("fp16", "bf16", "fp32")
GRADIENTS = "gradients"
MEASURED: Mapping[str, type] = {
    "capability": int,
    "ptxas": str,
    "triton": str,
    "torch": str,
    "date": str,
    "commit": str,
    "source": str,
}
"""What a device's file says about its measurement."""
WARPS = (1, 2, 4, 8, 16, 32)
_HOMES = {
    "group_statistics": ("group_norm_silu", "STATISTICS"),
    "perturb_drawn": ("perturb", "DRAWN"),
    "perturb_measured": ("perturb", "MEASURED"),
    "philox_draw": ("philox", "DRAW"),
    "similar_to_earlier": ("reject_similar", "EARLIER"),
    "upsample_conv3x3_folded": ("upsample_conv3x3", "FOLDED"),
}


class TunedTableError(V2FError, ValueError):
    """A file of `tuned/` that cannot be used: which file, which key, what was expected and found."""


@dataclass(frozen=True)
class Pick:
    """What runs: a backend's name, and the numbers or the reason behind it."""

    use: str
    why: str


@dataclass(frozen=True)
class Chunk:
    """How many images go through the upper levels of the image decoder at a time, and the numbers behind it."""

    images: int
    why: str


@dataclass(frozen=True)
class Table:
    """One file of `tuned/`, checked.

    Args:
        device: as torch names it, or `default`.
        file: the file's name.
        measured: what `MEASURED` lists; empty for the default.
        backends: op -> key -> pick; keys as `key_of` spells them.
        launch: op's folder -> `kernel` or `kernel/variant` -> launch arguments by name.
        chunks: dtype -> images at a time through the upper levels; all at once where it is silent.
    """

    device: str
    file: str
    measured: Mapping[str, Any]
    backends: Mapping[str, Mapping[str, Pick]]
    launch: Mapping[str, Mapping[str, Mapping[str, int]]]
    chunks: Mapping[str, Chunk] = field(default_factory=dict)

    def pick(self, op: str, shape: str, dtype: str, gradients: bool) -> Pick | None:
        """The entry for exactly this shape class; for `*` the one with this dtype, then the one without."""
        listed = self.backends.get(op, {})
        return listed.get(key_of(shape, dtype, gradients)) or (listed.get(ANY) if shape == ANY else None)

    def named(self, op: str, dtype: str, gradients: bool) -> list[tuple[str, Pick]]:
        """(shape class, pick) of every entry that names a shape, for a dtype and use."""
        ending = key_of("", dtype, gradients)
        listed = self.backends.get(op, {}).items()
        return [
            (k.removesuffix(ending), p) for k, p in listed if k.endswith(ending) and not k.startswith(ANY)
        ]


def op_named(name: str) -> Op:
    """The op called `name`, e.g. `attention` or `upsample_conv3x3_folded`."""
    folder, attribute = _HOMES.get(name, (name, "OP"))
    op: Op = getattr(import_module(f"v2f_kernels.{folder}"), attribute)
    return op


def key_of(shape: str, dtype: str, gradients: bool) -> str:
    """The spelling of a key: `C=512 HW=7, fp16`, `C=512 HW=7, fp16, gradients`."""
    return ", ".join((shape, dtype, *((GRADIENTS,) if gradients else ())))


def file_of(device: str) -> str:
    """`NVIDIA H200` -> `nvidia-h200.json`."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


@cache
def tables(folder: Path = TUNED) -> Mapping[str, Table]:
    """Device -> table, of every file of a folder, `default` first; read once.

    Raises:
        TunedTableError: a file that is no such table; the message names file and key.
    """
    default = read(folder / file_of(DEFAULT), None)
    others = [read(path, default) for path in sorted(folder.glob("*.json")) if path.stem != DEFAULT]
    return MappingProxyType({table.device: table for table in (default, *others)})


def read(path: Path, default: Table | None) -> Table:
    """One file, checked as `parse` does."""
    try:
        return parse(path.read_text(), path.name, default)
    except OSError as error:
        raise _refuser(path.name)("the file", "a file that can be read", str(error)) from error


def parse(text: str, file: str, default: Table | None) -> Table:
    """A table's text, checked against the ops' own lists of backends and the default's launches.

    Args:
        text: JSON as the module's docstring shows it.
        file: the file's name, which the device's name decides.
        default: the default table; None when it is the one to read.

    Raises:
        TunedTableError: see `tables`.
    """
    refuse = _refuser(file)
    try:
        root = json.loads(text, object_pairs_hook=_no_twins)
    except ValueError as error:
        raise refuse("the file", "JSON without repeated keys", str(error)) from error
    _only(root, ("device", "measured", "chunks", "ops"), "the file", refuse)
    device = root.get("device")
    if not isinstance(device, str) or file_of(device) != file:
        raise refuse("device", f"a name whose file is {file} (see `file_of`)", device)
    measured = root.get("measured", {})
    if default is None:
        _only(measured, (), "measured", refuse)
    else:
        _only(measured, MEASURED, "measured", refuse)
        for name, kind in MEASURED.items():
            if type(measured.get(name)) is not kind or not measured[name]:
                raise refuse(f"measured.{name}", f"a {kind.__name__} that is not empty", measured.get(name))
    backends, launch = {}, {}
    for op, entries in _object(root.get("ops"), "ops", refuse).items():
        _only(entries, ("backend", "launch"), f"ops.{op}", refuse)
        if "backend" in entries:
            backends[op] = _backends(op, entries["backend"], refuse)
        if "launch" in entries:
            launch[op] = _launch(op, entries["launch"], default, refuse)
    if default is None:
        for op in SHAPES:
            if ANY not in backends.get(op, {}):
                raise refuse(f"ops.{op}.backend", f"an entry {ANY!r}, for shapes that no entry names", "none")
    chunks = _chunks(root.get("chunks", {}), default, refuse)
    return Table(
        device,
        file,
        MappingProxyType(measured),
        MappingProxyType(backends),
        MappingProxyType(launch),
        MappingProxyType(chunks),
    )


Refuse = Callable[[str, str, object], TunedTableError]


def _refuser(file: str) -> Refuse:
    def refuse(key: str, expected: str, found: object) -> TunedTableError:
        return TunedTableError(f"tuned/{file}: {key}: expected {expected}, found {found!r:.200}")

    return refuse


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"repeated: {sorted({n for n in names if names.count(n) > 1})}")
    return made


def _object(value: Any, where: str, refuse: Refuse) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refuse(where, "an object", value)
    return value


def _only(value: Any, known: Iterable[str], where: str, refuse: Refuse) -> None:
    for name in _object(value, where, refuse):
        if name not in known:
            raise refuse(f"{where}: {name!r}", f"one of {sorted(known)}", name)


def _backends(op: str, value: Any, refuse: Refuse) -> Mapping[str, Pick]:
    if op not in SHAPES:
        raise refuse(f"ops.{op}.backend", f"an op that is chosen by shape, one of {sorted(SHAPES)}", op)
    made = {}
    for key, entry in _object(value, f"ops.{op}.backend", refuse).items():
        where = f"ops.{op}.backend[{key!r}]"
        _check_key(op, key, where, refuse)
        _only(entry, ("use", "why"), where, refuse)
        known = sorted(op_named(op).backends)
        if entry.get("use") not in known:
            raise refuse(f"{where}.use", f"a backend of {op}, one of {known}", entry.get("use"))
        if not isinstance(entry.get("why"), str) or not entry["why"]:
            raise refuse(f"{where}.why", "the numbers or the reason, in words", entry.get("why"))
        made[key] = Pick(entry["use"], entry["why"])
    return MappingProxyType(made)


def _chunks(value: Any, default: Table | None, refuse: Refuse) -> dict[str, Chunk]:
    _only(value, () if default is None else DTYPES, "chunks", refuse)
    made = {}
    for dtype, entry in value.items():
        where = f"chunks.{dtype}"
        _only(entry, ("images", "why"), where, refuse)
        images, why = entry.get("images"), entry.get("why")
        if type(images) is not int or images < 1:
            raise refuse(f"{where}.images", "a whole number of at least 1", images)
        if not isinstance(why, str) or not why:
            raise refuse(f"{where}.why", "the numbers, in words", why)
        made[dtype] = Chunk(images, why)
    return made


def _check_key(op: str, key: str, where: str, refuse: Refuse) -> None:
    shape, *rest = key.split(", ")
    if shape != ANY:
        try:
            parse_shape(op, shape)
        except ValueError as error:
            raise refuse(where, str(error), key) from error
    elif not rest:
        return
    if not rest or rest[0] not in DTYPES or rest[1:] not in ([], [GRADIENTS]):
        raise refuse(where, f"'<shape>, <dtype>' or '<shape>, <dtype>, {GRADIENTS}', dtype of {DTYPES}", key)


def _launch(op: str, value: Any, default: Table | None, refuse: Refuse) -> Mapping[str, Mapping[str, int]]:
    made = {}
    known = None if default is None else default.launch.get(op, {})
    for key, entry in _object(value, f"ops.{op}.launch", refuse).items():
        where = f"ops.{op}.launch[{key!r}]"
        names: tuple[str, ...] = ("num_warps", "num_stages")
        if known is not None:
            kernel = key.partition("/")[0]
            twin = next((k for k in known if k.partition("/")[0] == kernel), None)
            if twin is None:
                kernels = sorted({k.partition("/")[0] for k in known})
                raise refuse(where, f"a kernel that {DEFAULT}.json launches for {op}, one of {kernels}", key)
            names = tuple(known[twin])
        if (
            not isinstance(entry, dict)
            or not set(names) <= set(entry)
            or (known is not None and len(entry) > len(names))
        ):
            raise refuse(where, f"values for {sorted(names)}", entry)
        for name, number in entry.items():
            if type(number) is not int or number < 1 or (name == "num_warps" and number not in WARPS):
                what = f"one of {WARPS}" if name == "num_warps" else "a whole number of at least 1"
                raise refuse(f"{where}.{name}", what, number)
        made[key] = MappingProxyType(dict(entry))
    return MappingProxyType(made)

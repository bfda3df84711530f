"""`v2f inspect`: judges a stranger's file in a child process, so that no file can hurt the process that asks.

The child reads the whole file with the reader that the engine itself would use, under a limit of memory (twice the
file and 256 MiB above what Python and the libraries take) and of time. A crash of a library is then an answer too.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from v2f_kernels._extras import install

from v2f_engine import orphans
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES
from v2f_engine.errors import DatasetError, MissingDependency, V2FError
from v2f_engine.models.file_hash import is_weights
from v2f_engine.outside import admit

SPARE = 256 << 20


def _weights(path: Path) -> str:
    reader = import_module("v2f_engine.models.checkpoint_file")
    try:
        file = reader.read_checkpoint(path)
    except V2FError:
        # `--vectors` takes a tensor that torch.save or safetensors wrote, so it is no broken file of weights.
        with suppress(V2FError):
            array = import_module("v2f_engine.vectors.containers").read_array(path)
            return f"array {array.dtype} {list(array.shape)}"
        raise
    parts = [f"{part} of {len(tensors)} tensors" for part, tensors in file.parts.items()]
    return "; ".join(["weights: " + ", ".join(parts), *file.notes])


def _vectors(path: Path) -> str:
    from v2f_engine.npy import map_file

    array = map_file(path)
    return f"array {array.dtype} {list(array.shape)}"


def _pairs(path: Path) -> str:
    from v2f_engine.data.verification import open_verification_set

    pairs = open_verification_set(path)
    for _ in pairs.batches():  # to the last picture
        pass
    each = f"verification set of {len(pairs.same)} pairs, {int(pairs.same.sum())} of one person, all decoded"
    return "; ".join([each, *pairs.told()])


def _images(path: Path) -> str:
    from v2f_engine.data.gate.decode import decode

    height, width, _ = decode(path.read_bytes(), str(path)).shape
    return f"image of {height}x{width}"


def _arrays(path: Path) -> str:
    from v2f_engine.npy import HEADER_LIMIT, parse_header

    try:
        with zipfile.ZipFile(path) as archive:
            found = []
            for member in archive.infolist():
                with archive.open(member) as file:
                    start = file.read(HEADER_LIMIT + 12)
                kind, shape, *_ = parse_header(start, member.file_size, f"{path}: {member.filename}")
                found.append(f"{member.filename.removesuffix('.npy')} {kind} {list(shape)}")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise DatasetError(f"{path}: expected a .npz, a zip of .npy files: {error}.") from error
    return f"{len(found)} arrays: {', '.join(found)}"


def _network(path: Path) -> str:
    try:
        onnx = import_module("onnx")
    except ImportError as error:
        raise MissingDependency(f"An ONNX file is read with onnx: {install('onnx')}.") from error
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's errors share no base class
        raise DatasetError(f"{path}: expected an ONNX network: {str(error).splitlines()[0]}.") from error
    held = {tensor.name for tensor in graph.initializer}
    ends = [[_shape(one) for one in side if one.name not in held] for side in (graph.input, graph.output)]
    return f"ONNX network of {len(graph.node)} nodes: {', '.join(ends[0])} -> {', '.join(ends[1])}"


def _shape(value: Any) -> str:
    sizes = (str(size.dim_value or size.dim_param or "?") for size in value.type.tensor_type.shape.dim)
    return f"{value.name} [{', '.join(sizes)}]"


def _dataset(path: Path, split: str | None = None) -> tuple[str, tuple[str, ...]]:
    from v2f_engine.data.formats import open_dataset

    data = open_dataset(path, split=split)
    account = data.account()
    for index in range(len(data)):
        data.image(index)
    summary = f"{data.format} dataset of {len(data)} images, {account.identities} identities, all decoded"
    return summary, tuple(account.lines())


READERS: Mapping[str, Callable[[Path], str]] = {
    ".npy": _vectors,
    ".npz": _arrays,
    ".onnx": _network,
    ".bin": _pairs,
    ".xz": _pairs,
    **dict.fromkeys(IMAGE_SUFFIXES, _images),
}
"""Suffix -> reader; everything else is taken for a dataset."""


@dataclass(frozen=True)
class Inspected:
    """What a child found.

    Args:
        sound: whether the whole file can be read.
        summary: what it is, or what is wrong with it.
        account: of a dataset, what it holds and what becomes of it, a fact each (`Account.lines`).
    """

    sound: bool
    summary: str
    account: tuple[str, ...] = ()


def inspect_file(path: str | Path, *, split: str | None = None, limit_s: float = 600.0) -> Inspected:
    """Reads a file or dataset to the last byte in a child process.

    Args:
        path: of a stranger's file.
        split: of a dataset, which of several sets at `path`.
        limit_s: seconds after which the child is ended.

    Raises:
        DatasetError: it is no file at all (a pipe, a device).
    """
    path = Path(path).absolute()
    admit(path, DatasetError)
    command = [sys.executable, "-m", "v2f_engine.data.inspect_file", str(path)]
    command += [] if split is None else [split]
    environment = {**os.environ, orphans.VARIABLE: str(os.getpid())}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return Inspected(False, f"{path}: not read within {limit_s:.0f} s")
    if done.returncode < 0:
        how = signal.Signals(-done.returncode).name
        return Inspected(False, f"{path}: reading it ended the process with {how}: damaged or hostile")
    try:
        said = json.loads(done.stdout.splitlines()[-1])
        return Inspected(bool(said["sound"]), str(said["summary"]), tuple(map(str, said["account"])))
    except (IndexError, ValueError, KeyError):
        return Inspected(False, f"{path}: cannot be read: {done.stderr.strip()[-300:]}")


def _reader(path: Path) -> Callable[[Path], str] | None:
    if path.name.lower().endswith(".tar.xz"):
        return None  # a dataset; other .xz are verification sets
    return _weights if is_weights(path) else READERS.get(path.suffix.lower())


def _read(path: Path, split: str | None) -> Inspected:
    """Raises whatever the reader raises."""
    reader = _reader(path) if path.is_file() else None
    if reader is None:
        return Inspected(True, *_dataset(path, split))
    if split is not None:
        raise DatasetError(f"{path}: expected a dataset for the split {split!r}; this is one file.")
    return Inspected(True, reader(path))


def _child(path: Path, split: str | None = None) -> None:
    reader = _reader(path)
    if reader is _weights:
        import_module("v2f_engine.models.checkpoint_file")  # torch's own memory is not the file's
    size = (
        sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    # Mapping a file counts as address space too; threads take some for their stacks.
    limit = taken + 3 * size + SPARE + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        answer = _read(path, split)
    except V2FError as error:
        answer = Inspected(False, f"{error} {error.hint}")
    except MemoryError:
        answer = Inspected(False, f"{path}: wants more memory than a file of {size} bytes can need: hostile")
    sys.stdout.write(json.dumps(answer.__dict__) + "\n")


if __name__ == "__main__":
    orphans.end_with_parent(orphans.told())
    _child(Path(sys.argv[1]), *sys.argv[2:])

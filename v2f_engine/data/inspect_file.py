"""`v2f inspect`: judges a stranger's file in a child process, so that no file can hurt the process that asks.

The child reads the whole file with the reader that the engine itself would use, under a limit of memory (twice the
file and 256 MiB above what Python and the libraries take) and of time. A crash of a library is then an answer too.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES
from v2f_engine.errors import DatasetError, V2FError
from v2f_engine.outside import admit

SPARE = 256 << 20


def _weights(path: Path) -> str:
    reader = import_module("v2f_engine.models.checkpoint_file")
    parts = reader.read_checkpoint(path).parts
    return "weights: " + ", ".join(f"{part} of {len(tensors)} tensors" for part, tensors in parts.items())


def _vectors(path: Path) -> str:
    from v2f_engine.npy import map_file

    array = map_file(path)
    return f"array {array.dtype} {list(array.shape)}"


def _pairs(path: Path) -> str:
    from v2f_engine.data.verification import open_verification_set

    return f"verification set of {len(open_verification_set(path).same)} pairs"


def _images(path: Path) -> str:
    from v2f_engine.data.gate.decode import decode

    height, width, _ = decode(path.read_bytes(), str(path)).shape
    return f"image of {height}x{width}"


def _dataset(path: Path) -> str:
    from v2f_engine.data.formats import open_dataset

    data = open_dataset(path)
    for index in range(len(data)):
        data.image(index)
    return f"{data.format} dataset of {len(data)} images, {data.classes} identities, all decoded"


READERS: Mapping[str, Callable[[Path], str]] = {
    **dict.fromkeys((".pth", ".pt", ".safetensors"), _weights),
    ".npy": _vectors,
    ".bin": _pairs,
    ".xz": _pairs,
    **dict.fromkeys(IMAGE_SUFFIXES, _images),
}
"""Suffix -> reader; everything else is taken for a dataset."""


@dataclass(frozen=True)
class Inspected:
    """What a child found: `summary` of a sound file, or what is wrong with it."""

    sound: bool
    summary: str


def inspect_file(path: str | Path, *, limit_s: float = 600.0) -> Inspected:
    """Reads a file or dataset to the last byte in a child process.

    Args:
        path: of a stranger's file.
        limit_s: seconds after which the child is ended.

    Raises:
        DatasetError: it is no file at all (a pipe, a device).
    """
    path = Path(path).absolute()
    admit(path, DatasetError)
    command = [sys.executable, "-m", "v2f_engine.data.inspect_file", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return Inspected(False, f"{path}: not read within {limit_s:.0f} s")
    if done.returncode < 0:
        how = signal.Signals(-done.returncode).name
        return Inspected(False, f"{path}: reading it ended the process with {how}: damaged or hostile")
    try:
        said = json.loads(done.stdout.splitlines()[-1])
        return Inspected(bool(said["sound"]), str(said["summary"]))
    except (IndexError, ValueError, KeyError):
        return Inspected(False, f"{path}: cannot be read: {done.stderr.strip()[-300:]}")


def _child(path: Path) -> None:
    reader = READERS.get(path.suffix.lower(), _dataset)
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
        answer = Inspected(True, reader(path))
    except V2FError as error:
        answer = Inspected(False, f"{error} {error.hint}")
    except MemoryError:
        answer = Inspected(False, f"{path}: wants more memory than a file of {size} bytes can need: hostile")
    sys.stdout.write(json.dumps(answer.__dict__) + "\n")


if __name__ == "__main__":
    _child(Path(sys.argv[1]))

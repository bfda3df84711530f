"""Dataset formats: one file each, one small protocol, one table of names.

A format knows four things: how to write a shard, what a finished dataset needs besides its shards, how to
read a shard back in order, and how to open a dataset (its own or a stranger's) for reading. Formats that
keep everything in one file (`staged`) get their shards as tar files in a staging folder first; `finish`
then assembles the file in one deterministic pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from v2f_engine.config import one_of
from v2f_engine.data.dataset import Dataset
from v2f_engine.data.manifest import ShardRecord
from v2f_engine.data.pieces import Piece
from v2f_engine.data.plan import Plan, Shard


class Sample(NamedTuple):
    """One encoded image: `identity` is its label, `image` its index within the identity."""

    identity: int
    image: int
    data: bytes


@dataclass(frozen=True)
class Place:
    """Where and how a dataset is written.

    Args:
        root: the dataset's folder.
        plan: its shape.
        extension: of its encoded images, `"jpg"` or `"png"`.
        writer: name of the writing process, part of temporary names.
    """

    root: Path
    plan: Plan
    extension: str
    writer: str = "main"


class ShardWriter(Protocol):
    """Takes a shard's samples in order; `prepare` makes them durable, `publish` gives them their names."""

    def write(self, sample: Sample) -> None: ...
    def prepare(self) -> tuple[Piece, ...]: ...
    def publish(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True)
class Finished:
    """What a format's last step leaves: the shards' final pieces (without attributes), and the others."""

    shards: Mapping[int, tuple[Piece, ...]]
    files: tuple[Piece, ...]


ReadShard = Callable[[int], Iterator[Sample]]


class Format(Protocol):
    """One way of storing a dataset."""

    name: str
    stores: bool
    """False for the format that writes nothing."""
    staged: bool
    """Shards are staged as tar files and assembled into one file at the end."""

    def describe(self) -> dict[str, str]:
        """What besides plan, settings and encoder decides the bytes: layout revision, library versions."""
        ...

    def shard_writer(self, place: Place, shard: Shard) -> ShardWriter:
        """Opens shard `shard` for writing."""
        ...

    def finish(self, place: Place, records: Mapping[int, ShardRecord], read: ReadShard) -> Finished:
        """Writes what the dataset needs besides its shards; `read` yields a (staged) shard's samples."""
        ...

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        """The samples of a finished shard, in order, needing no index."""
        ...

    def recognises(self, path: Path) -> bool:
        """Whether `path` (file or folder) looks like this format."""
        ...

    def open(self, path: Path) -> Dataset:
        """Opens a dataset for reading."""
        ...


FORMATS: Mapping[str, str] = {
    "imagefolder": "v2f_engine.data.formats.imagefolder:FORMAT",
    "webdataset": "v2f_engine.data.formats.webdataset:FORMAT",
    "lmdb": "v2f_engine.data.formats.lmdb:FORMAT",
    "recordio": "v2f_engine.data.formats.recordio:FORMAT",
    "parquet": "v2f_engine.data.formats.parquet:FORMAT",
    "null": "v2f_engine.data.formats.null:FORMAT",
}
"""Format name -> where it lives; imported when asked for."""


def get_format(name: str) -> Format:
    """The format called `name`.

    Raises:
        ConfigError: an unknown name; the message names the nearest one.
        MissingDependency: the format needs an optional package.
    """
    module, attribute = FORMATS[one_of("format", name, FORMATS)].split(":")
    return cast(Format, getattr(import_module(module), attribute))


def file_pieces(pieces: tuple[Piece, ...], prefix: str = "") -> Iterator[Piece]:
    """The pieces that hold images, so not the attribute sidecars."""
    return (
        piece
        for piece in pieces
        if not piece.name.startswith("attributes/") and piece.name.startswith(prefix)
    )

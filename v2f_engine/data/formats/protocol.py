"""What a format is: how to write a shard, what a finished dataset needs besides its shards, how to read both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from v2f_engine.atomic import DurableFile
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.records.pieces import Piece, file_piece, image_pieces
from v2f_engine.data.records.plan import Plan, PlannedShard
from v2f_engine.data.records.shard_record import ShardRecord


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


class OneFileWriter:
    """The `ShardWriter` of formats whose shard is one file, but for `write`.

    Args:
        place: of the dataset.
        name: the shard's file inside it; its folder exists.
    """

    def __init__(self, place: Place, name: str) -> None:
        self.name = name
        self.file = DurableFile(place.root / name, place.writer)

    def prepare(self) -> tuple[Piece, ...]:
        return (file_piece(self.name, self.file.prepare()),)

    def publish(self) -> None:
        self.file.publish()

    def abort(self) -> None:
        self.file.abort()


@dataclass(frozen=True)
class Finished:
    """What a format's last step leaves: the shards' final pieces (without attributes), and the others."""

    shards: Mapping[int, tuple[Piece, ...]]
    files: tuple[Piece, ...]

    @classmethod
    def as_written(cls, records: Mapping[int, ShardRecord], *files: Piece) -> Finished:
        """Where shards stay what they were committed as."""
        return cls({number: image_pieces(record.pieces) for number, record in records.items()}, files)


ReadShard = Callable[[int], Iterator[Sample]]


class Readable(ABC):
    """A format as a reader sees it."""

    name: str

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether `path` (file or folder) looks like this format."""

    @abstractmethod
    def open(self, path: Path, split: str | None = None) -> Dataset:
        """Opens a dataset for reading, ours or a stranger's.

        Args:
            split: which of several sets at `path` (`train`, `test`); None where there is one.

        Raises:
            DatasetError: several sets and no `split`, or none of that name; the message names them.
        """


class Format(Readable):
    """One way of storing a dataset."""

    stores = True
    """False for the format that writes nothing."""
    staged = False
    """Shards are staged as packs and assembled into one file at the end."""
    counts_shards = False
    """Whether a shard's name says how many there are, so that a set that grew has to remember how many there were."""

    def describe(self) -> dict[str, str]:
        """What besides plan, settings and encoder decides the bytes: layout revision, library versions."""
        return {"revision": "1"}

    @abstractmethod
    def shard_writer(self, place: Place, shard: PlannedShard) -> ShardWriter:
        """Opens shard `shard` for writing."""

    def finish(self, place: Place, records: Mapping[int, ShardRecord], read: ReadShard) -> Finished:
        """Writes what the dataset needs besides its shards; `read` yields a (staged) shard's samples."""
        return Finished.as_written(records)

    def refuse_growth(self, old: Plan, new: Plan) -> None:
        """Raises ConfigError where the shards of `old` would have other bytes in a set of `new`."""

    @abstractmethod
    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        """The samples of a finished shard, in order, needing no index."""

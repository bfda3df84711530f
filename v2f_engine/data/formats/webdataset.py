"""WebDataset: tar shards of `{key}.jpg` and `{key}.cls`, with the wids index that random access needs.

Layout: `shard-000000.tar ...`, `datasets_webdataset.json` =
`{"wids_version": 1, "shardlist": [{"url", "nsamples"}]}`. Keys are `{identity}_{image}`; `cls` is the label
in ASCII. Bytes depend on the samples alone: mtime 0, uid 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats import ustar
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import (
    Finished,
    Format,
    OneFileWriter,
    Place,
    ReadShard,
    Sample,
    ShardWriter,
)
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES
from v2f_engine.data.layout import WIDS_INDEX, tar_name
from v2f_engine.data.records.pieces import Piece, image_pieces, write_piece
from v2f_engine.data.records.plan import PlannedShard
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import DatasetError


class TarWriter(OneFileWriter):
    """Writes one tar shard."""

    def __init__(self, place: Place, shard: PlannedShard) -> None:
        super().__init__(place, tar_name(shard.number))
        self._plan = place.plan
        self._extension = b"." + place.extension.encode()

    def write(self, sample: Sample) -> None:
        key = f"{self._plan.identity_name(sample.identity)}_{self._plan.image_name(sample.image)}".encode()
        self.file.write(ustar.member(key + self._extension, sample.data))
        self.file.write(ustar.member(key + b".cls", b"%d" % sample.identity))

    def prepare(self) -> tuple[Piece, ...]:
        self.file.write(ustar.end(self.file.size))
        return super().prepare()


def read_tar(path: Path) -> Iterator[Sample]:
    """The samples of a shard that `TarWriter` wrote, in order."""
    files = OpenFiles()
    for key, image, label in samples_of(path):
        identity, _, number = key.partition("_")
        if not (identity.isdecimal() and number.isdecimal()) or int(identity) != _label(files, path, label):
            raise DatasetError(f"{path}: key {key!r} is not identity_image with that identity as label.")
        yield Sample(int(identity), int(number), files.read(path, image.offset, image.size))


def samples_of(path: Path) -> Iterator[tuple[str, ustar.Member, ustar.Member]]:
    """(key, image member, label member) of each sample: adjacent members with one key.

    Raises:
        DatasetError: a sample without image or without `.cls`.
    """
    key = ""
    group: dict[str, ustar.Member] = {}
    for member in ustar.scan(path):
        folder, slash, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        if folder + slash + stem != key and group:
            yield _sample(path, key, group)
            group = {}
        key = folder + slash + stem
        group[extension.lower()] = member
    if group:
        yield _sample(path, key, group)


def _sample(path: Path, key: str, group: dict[str, ustar.Member]) -> tuple[str, ustar.Member, ustar.Member]:
    image = next((group[suffix[1:]] for suffix in IMAGE_SUFFIXES if suffix[1:] in group), None)
    if image is None or "cls" not in group:
        raise DatasetError(
            f"{path}: sample {key!r} has {sorted(group)}; expected an image (jpg or png) and cls."
        )
    return key, image, group["cls"]


def _label(files: OpenFiles, path: Path, member: ustar.Member) -> int:
    text = files.read(path, member.offset, min(member.size, 20)).strip()
    if not text.isdigit():
        raise DatasetError(f"{path}: {member.name} holds {text!r}; expected a label, a number from 0.")
    return int(text)


class WebDataset(Dataset):
    """Reads tar shards with random access. Headers of a shard are read when it is first touched."""

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "webdataset", split)
        self._files = OpenFiles()
        folder = path if path.is_dir() else path.parent
        self._tars = sorted(folder.glob("*.tar")) if path.is_dir() else [path]
        if not self._tars:
            raise DatasetError(f"{path}: no .tar shard; expected shard-000000.tar and so on.")
        self._members = lru_cache(maxsize=256)(self._scan)

    def _scan(self, number: int) -> list[tuple[ustar.Member, ustar.Member]]:
        return [(image, label) for _, image, label in samples_of(self._tars[number])]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """First index of each shard, and the total."""
        if self.manifest is not None:
            counts = [record.count for record in self.manifest.shards]
            if len(counts) != len(self._tars):
                raise DatasetError(f"{self.path}: expected {len(counts)} shards, found {len(self._tars)}.")
        else:
            counts = [len(self._members(number)) for number in range(len(self._tars))]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        known = self.planned_labels()
        return self.labels_one_by_one(int(self._starts[-1])) if known is None else known

    def _sample(self, index: int) -> tuple[Path, ustar.Member, ustar.Member]:
        """(tar, image member, label member) of sample `index`."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        members = self._members(number)
        row = index - int(self._starts[number])
        if row >= len(members):
            raise DatasetError(
                f"{self._tars[number]}: expected more than {row} samples, found {len(members)}."
            )
        return self._tars[number], *members[row]

    def label(self, index: int) -> int:
        tar, _, label = self._sample(index)
        return _label(self._files, tar, label)

    def data(self, index: int) -> bytes:
        tar, image, _ = self._sample(index)
        return self._files.read(tar, image.offset, image.size)


class WebDatasetFormat(Format):
    name = "webdataset"

    def shard_writer(self, place: Place, shard: PlannedShard) -> ShardWriter:
        return TarWriter(place, shard)

    def finish(self, place: Place, records: Mapping[int, ShardRecord], read: ReadShard) -> Finished:
        shards = [{"url": tar_name(n), "nsamples": records[n].count} for n in range(place.plan.shards)]
        text = json.dumps({"wids_version": 1, "shardlist": shards}, indent=1).encode()
        return Finished.as_written(records, write_piece(place.root, WIDS_INDEX, text, place.writer))

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        for piece in image_pieces(record.pieces):
            yield from read_tar(place.root / piece.name)

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".tar" if path.is_file() else any(path.glob("*.tar"))

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return WebDataset(path, split)


FORMAT = WebDatasetFormat()

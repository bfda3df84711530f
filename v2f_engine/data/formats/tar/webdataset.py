"""WebDataset: tar shards of `{key}.jpg` and `{key}.cls`, with the wids index that random access needs.

Layout: `shard-000000.tar ...`, `datasets_webdataset.json` =
`{"wids_version": 1, "shardlist": [{"url", "nsamples"}]}`. Keys are `{identity}_{image}`; `cls` is the label
in ASCII. Bytes depend on the samples alone: mtime 0, uid 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import Account, Tally
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.folders.archives import TARS, archives_at, open_tars
from v2f_engine.data.formats.protocol import (
    Finished,
    Format,
    OneFileWriter,
    Place,
    ReadShard,
    Sample,
    ShardWriter,
)
from v2f_engine.data.formats.tar import samples, ustar
from v2f_engine.data.formats.tar.blobs import Blob
from v2f_engine.data.formats.tar.members import Member, scan
from v2f_engine.data.formats.tar.shard_members import shard_of
from v2f_engine.data.formats.tar.shards import Shards, is_labelled
from v2f_engine.data.formats.tar.tar_folders import TarFolders
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.data.layout import MANIFEST, WIDS_INDEX, tar_name
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
    for found in _samples(files, path):
        identity, _, number = found.key.partition("_")
        if not (identity.isdecimal() and number.isdecimal()) or int(identity) != _label(
            files, path, found.label
        ):
            raise DatasetError(
                f"{path}: key {found.key!r} is not identity_image with that identity as label."
            )
        yield Sample(int(identity), int(number), files.read(path, found.image.offset, found.image.size))


def _samples(files: OpenFiles, path: Path, tally: Tally | None = None) -> list[samples.Sample]:
    """The samples of a shard of ours: a picture and its label, in turn; else sorted out as a stranger's."""
    members = list(scan(Blob(path, path.stat().st_size, partial(files.read, path))))
    if tally is None:
        pairs = [_pair(*pair) for pair in zip(members[::2], members[1::2], strict=False)]
        found = [pair for pair in pairs if pair is not None]
        if 2 * len(found) == len(members):
            return found
    tally = tally or Tally("members")
    return samples.samples_of(shard_of(members, str(path), tally), tally)


def _pair(image: Member, label: Member) -> samples.Sample | None:
    key, ending = label.name[:-4], label.name[-4:]
    if ending != ".cls" or image.name[:-4] != key or image.name[-4:] not in (".jpg", ".png"):
        return None
    return samples.Sample(key, image, label, ())


def _label(files: OpenFiles, path: Path, member: Member) -> int:
    text = files.read(path, member.offset, min(member.size, 20)).strip()
    if not text.isdigit():
        raise DatasetError(f"{path}: {member.name} holds {text!r}; expected a label, a number from 0.")
    return int(text)


class WebDataset(Dataset):
    """Reads the tar shards of a set of ours with random access; a shard's headers are read when it is first touched."""

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "webdataset", split)
        if split is not None or self.manifest is None:
            raise DatasetError(f"{path}: one set and no split {split!r}; open it without.")
        self._files = OpenFiles()
        self._tars = sorted(each for each in path.glob("*.tar") if not is_hidden(each.name))
        counts = [record.count for record in self.manifest.shards]
        if len(counts) != len(self._tars):
            raise DatasetError(f"{path}: expected {len(counts)} shards, found {len(self._tars)}.")
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._members = lru_cache(maxsize=256)(self._scan)

    def _scan(self, number: int) -> list[tuple[Member, Member]]:
        return [(found.image, found.label) for found in _samples(self._files, self._tars[number])]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        known = self.planned_labels()
        return self.labels_one_by_one(int(self._starts[-1])) if known is None else known

    def account(self) -> Account:
        tally = Tally("members")
        for tar in self._tars:
            _samples(self._files, tar, tally)
        return tally.close(len(np.unique(self.labels))).check(self.path)

    def _sample(self, index: int) -> tuple[Path, Member, Member]:
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
        tar, _, member = self._sample(index)
        label = _label(self._files, tar, member)
        if member.name.partition("_")[0].lstrip("0") != (str(label) if label else ""):
            raise DatasetError(f"{tar}: {member.name} holds {label}; expected the identity of its name.")
        return label

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
        return bool(archives_at(path, TARS).files)

    def open(self, path: Path, split: str | None = None) -> Dataset:
        """Shards of ours, shards with labels, or tars of people's folders: whichever `path` holds."""
        if (path / MANIFEST).is_file():
            return WebDataset(path, split)
        tars = open_tars(path, split)
        return (Shards if is_labelled(tars.blobs) else TarFolders)(path, split, tars)


FORMAT = WebDatasetFormat()

"""LMDB as HaiyuWu's trainer reads it: one file, ASCII index keys, msgpack((jpeg, label)) values.

`train.lmdb` (subdir=False): `b"0"`, `b"1"`, ... -> msgpack((bytes, int)); `__keys__` -> msgpack list of all
keys; `__len__`, `__classnum__` -> msgpack int. Vec2Face's generator variant holds (jpeg, .npy bytes, label[,
landmark jpeg]); reading understands both. The file itself is written by `lmdb_writer` and read by `lmdb_reader`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from v2f_engine.data import fs
from v2f_engine.data.dataset import Dataset, OpenFiles, planned_labels
from v2f_engine.data.formats import Finished, Place, ReadShard, Sample, ShardWriter, file_pieces
from v2f_engine.data.formats.lmdb_layout import OVERFLOW_HEADER, PAGE
from v2f_engine.data.formats.lmdb_reader import TreeReader, data_file, is_lmdb
from v2f_engine.data.formats.lmdb_writer import TreeWriter
from v2f_engine.data.formats.staging import PackWriter
from v2f_engine.data.manifest import MANIFEST, Manifest, ShardRecord
from v2f_engine.data.pieces import Piece, region_piece
from v2f_engine.data.plan import Shard
from v2f_engine.errors import DatasetError

FILE = "train.lmdb"


class Record(NamedTuple):
    """A value, taken apart: encoded image, label, and in Vec2Face's variant .npy bytes and landmark image."""

    image: bytes
    label: int
    feature: bytes | None = None
    landmark: bytes | None = None


def pack_record(record: Record) -> bytes:
    if record.feature is None:
        parts: tuple[bytes | int, ...] = (record.image, record.label)
    elif record.landmark is None:
        parts = (record.image, record.feature, record.label)
    else:
        parts = (record.image, record.feature, record.label, record.landmark)
    packed: bytes = msgpack.packb(parts)
    return packed


def unpack_record(value: bytes, where: str) -> Record:
    """The record in a value.

    Raises:
        DatasetError: not one of the three known shapes.
    """
    return _record(_unpack(value, where), where)


def _unpack(value: bytes, where: str) -> object:
    try:
        return msgpack.unpackb(value, raw=True, use_list=False)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise DatasetError(f"{where}: expected msgpack, found {type(error).__name__}.") from error


def _record(parts: object, where: str) -> Record:
    shapes: Mapping[tuple[type, ...], tuple[int, ...]] = {
        (bytes, int): (0, 1),
        (bytes, bytes, int): (0, 2, 1),
        (bytes, bytes, int, bytes): (0, 2, 1, 3),
    }
    kinds = tuple(type(part) for part in parts) if isinstance(parts, tuple) else ()
    if not isinstance(parts, tuple) or kinds not in shapes:
        names = [kind.__name__ for kind in kinds] or type(parts).__name__
        raise DatasetError(
            f"{where}: expected (image, label), (image, feature, label) or (image, feature, label, landmark "
            f"image), found {names}."
        )
    record = Record(*(parts[position] for position in shapes[kinds]))
    if not 0 <= record.label < 2**63:
        raise DatasetError(f"{where}: label {record.label}; expected 0 or more.")
    return record


_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""msgpack's types of byte strings (bin and str) -> bytes of their length."""


def packed_label(size: int, read: Callable[[int, int], bytes]) -> int | None:
    """The label of a packed record from a few bytes of it: labels of 42 GB are read in a minute.

    Args:
        size: of the record.
        read: (offset, bytes) -> those bytes.

    Returns:
        None where the record is not one of the known shapes; unpacking it tells why.
    """
    offset = 0
    for part in range(3):
        head = read(offset, min(12, size - offset)) if offset < size else b""
        if part == 0:  # an array of two to four
            if not 0x92 <= int.from_bytes(head[:1]) <= 0x94:
                return None
            head, offset = head[1:], 1
        if not head:
            return None
        kind = head[0]
        if kind in _LENGTH_BYTES:
            width = _LENGTH_BYTES[kind]
            offset += 1 + width + int.from_bytes(head[1 : 1 + width], "big")
        elif kind & 0xE0 == 0xA0:  # a short str
            offset += 1 + (kind & 0x1F)
        elif kind < 0x80:
            return kind
        elif kind in _UNSIGNED and len(head) > _UNSIGNED[kind]:
            return int.from_bytes(head[1 : 1 + _UNSIGNED[kind]], "big")
        else:
            return None
    return None


_UNSIGNED = {0xCC: 1, 0xCD: 2, 0xCE: 4}


def decimal_order(count: int) -> NDArray[np.int64]:
    """0..count-1 in the order of their decimal spellings: 0, 1, 10, 100, 11, ..., as LMDB sorts keys."""
    numbers = np.arange(count, dtype=np.int64)
    powers = 10 ** np.arange(1, 19, dtype=np.int64)
    digits = np.searchsorted(powers, numbers, side="right") + 1
    widest = int(digits.max(initial=1))
    return np.lexsort((digits, numbers * 10 ** (widest - digits)))


def write_values(
    file: fs.DurableFile, groups: Iterable[tuple[int, Iterable[bytes]]], classes: int
) -> tuple[dict[int, Piece], list[Piece]]:
    """Fills `file` with the values of all groups, numbered through, and the entries that trainers look for.

    Args:
        groups: (shard number, its packed records).
        classes: what `__classnum__` says.

    Returns:
        the region of each group, and those of head and tree.
    """
    writer = TreeWriter(file)
    pages, sizes = array("q"), array("q")
    regions: dict[int, Piece] = {}
    for number, values in groups:
        file.begin_region()
        for value in values:
            pages.append(writer.value(value))
            sizes.append(len(value))
        regions[number] = region_piece(FILE, file.end_region())
    file.begin_region()
    count = len(pages)
    special = [(b"__classnum__", msgpack.packb(classes)), (b"__len__", msgpack.packb(count))]
    extra = {key: (writer.value(value), len(value)) for key, value in special}
    extra[b"__keys__"] = _write_keys(writer, count)

    def entries() -> Iterator[tuple[bytes, int, int]]:
        for index in decimal_order(count).tolist():
            yield b"%d" % index, pages[index], sizes[index]
        for key in sorted(extra):  # "_" sorts after every digit
            yield key, *extra[key]

    metas = writer.tree(entries())
    tree = region_piece(FILE, file.end_region())
    return regions, [region_piece(FILE, file.rewrite(0, metas)), tree]


def _write_keys(writer: TreeWriter, count: int) -> tuple[int, int]:
    """Writes the msgpack list of all keys, in parts: at 15 M images it has 150 MB."""
    header: bytes = msgpack.Packer().pack_array_header(count)
    powers = [10**power for power in range(1, 19) if 10**power < count]
    digits = count + sum(count - power for power in powers)
    size = len(header) + 2 * count + digits  # a two-byte bin header each

    def parts() -> Iterator[bytes]:
        yield header
        for start in range(0, count, 10_000):
            keys = (b"%d" % index for index in range(start, min(count, start + 10_000)))
            yield b"".join(b"\xc4%c%b" % (len(key), key) for key in keys)

    return writer.value_in_parts(size, parts()), size


class Lmdb(Dataset):
    """Reads an LMDB of face images, this engine's or a stranger's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "lmdb")
        self.tree = TreeReader(data_file(path))
        if path.is_dir() and (path / MANIFEST).exists():
            self.manifest = Manifest.load(path / MANIFEST)
        count = self._number(b"__len__")
        self._count = count
        # a cut-off __keys__ or __len__ would show here, not after an epoch
        if count > self.tree.entries:
            raise DatasetError(f"{path}: __len__ says {count}, the file holds {self.tree.entries} entries.")
        self._keys = None if self.manifest is not None else self._foreign_keys()

    def _number(self, key: bytes) -> int:
        value = self.tree.get(key, limit=64)
        number = None if value is None else _unpack(value, f"{self.path}: {key!r}")
        if type(number) is not int or number < 0:
            raise DatasetError(f"{self.path}: expected a count under {key!r}, found {number!r:.40}.")
        return number

    def _foreign_keys(self) -> tuple[bytes, ...] | None:
        """The key list, where it is not just 0, 1, 2, ..."""
        value = self.tree.get(b"__keys__")
        if value is None:
            return None
        keys = _unpack(value, f"{self.path}: __keys__")
        if (
            not isinstance(keys, tuple)
            or len(keys) < self._count
            or not all(type(key) is bytes for key in keys)
        ):
            raise DatasetError(f"{self.path}: __keys__ is not a list of {self._count} keys.")
        keys = keys[: self._count]
        return None if all(key == b"%d" % index for index, key in enumerate(keys)) else keys

    def __len__(self) -> int:
        return self._count

    def _key(self, index: int) -> bytes:
        return self._keys[index] if self._keys is not None else b"%d" % index

    def parts(self, index: int) -> Record:
        """Record `index`, taken apart.

        Raises:
            DatasetError: missing or broken.
        """
        key = self._key(index)
        value = self.tree.get(key)
        if value is None:
            raise DatasetError(f"{self.where(index)}: no entry under key {key!r}.")
        return unpack_record(value, self.where(index))

    def label(self, index: int) -> int:
        extent = self.tree.find(self._key(index))
        label = None if extent is None else packed_label(extent.size, partial(self.tree.read_part, extent))
        return self.parts(index).label if label is None else label

    def data(self, index: int) -> bytes:
        return self.parts(index).image

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        known = planned_labels(self.manifest) if self.manifest is not None else None
        if known is not None:
            return known
        return np.fromiter((self.label(index) for index in range(self._count)), np.int64, self._count)


class LmdbFormat:
    name = "lmdb"
    stores = True
    staged = True

    def describe(self) -> dict[str, str]:
        return {"revision": "1"}

    def shard_writer(self, place: Place, shard: Shard) -> ShardWriter:
        return PackWriter(place, shard)

    def finish(self, place: Place, records: Mapping[int, ShardRecord], read: ReadShard) -> Finished:
        def values(number: int) -> Iterator[bytes]:
            return (pack_record(Record(sample.data, sample.identity)) for sample in read(number))

        file = fs.DurableFile(place.root / FILE, place.writer, whole=False)
        try:
            groups = ((number, values(number)) for number in sorted(records))
            regions, files = write_values(file, groups, place.plan.identities)
            file.prepare()
            file.publish()
        except BaseException:
            file.abort()
            raise
        return Finished({number: (region,) for number, region in regions.items()}, tuple(files))

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        files = OpenFiles()
        numbers: dict[int, int] = {}
        for piece in file_pieces(record.pieces):
            path, offset = place.root / piece.name, piece.offset
            while offset < piece.offset + piece.bytes:
                _, _, _, pages = OVERFLOW_HEADER.unpack(files.read(path, offset, OVERFLOW_HEADER.size))
                value = files.read(path, offset + OVERFLOW_HEADER.size, pages * PAGE - OVERFLOW_HEADER.size)
                unpacker = msgpack.Unpacker(raw=True, use_list=False, max_buffer_size=len(value))
                unpacker.feed(value)
                image, label, *_ = _record(next(unpacker), f"{path}: offset {offset}")
                yield Sample(label, numbers.get(label, 0), image)
                numbers[label] = numbers.get(label, 0) + 1
                offset += pages * PAGE

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return (path / "data.mdb").is_file() or any(path.glob("*.lmdb"))
        return is_lmdb(path)

    def open(self, path: Path) -> Dataset:
        return Lmdb(path)


FORMAT = LmdbFormat()

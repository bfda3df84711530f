"""What stands under a key: msgpack of a record, and the entries that trainers look for.

`b"0"`, `b"1"`, ... -> msgpack((jpeg, label)), in Vec2Face's generator variant msgpack((jpeg, .npy bytes, label[,
landmark jpeg])); `__keys__` -> msgpack list of all keys; `__len__`, `__classnum__` -> msgpack int.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgpack
import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.atomic import DurableFile, aborted_on_error
from v2f_engine.data.formats.dataset import Record
from v2f_engine.data.formats.lmdb.tree_writer import TreeWriter
from v2f_engine.data.layout import LMDB
from v2f_engine.data.records.pieces import Piece, region_piece
from v2f_engine.errors import DatasetError


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
    return record_from(unpack_value(value, where), where)


def unpack_value(value: bytes, where: str) -> object:
    try:
        return msgpack.unpackb(value, raw=True, use_list=False)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise DatasetError(f"{where}: expected msgpack, found {type(error).__name__}.") from error


def record_from(parts: object, where: str) -> Record:
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
    file: DurableFile, groups: Iterable[tuple[int, Iterable[bytes]]], classes: int
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
        regions[number] = region_piece(LMDB, file.end_region())
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
    tree = region_piece(LMDB, file.end_region())
    return regions, [region_piece(LMDB, file.rewrite(0, metas)), tree]


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


TrainingRecord = tuple[bytes, NDArray[np.float32], int] | tuple[bytes, NDArray[np.float32], int, bytes]


def write_training_lmdb(path: str | Path, rows: Iterable[TrainingRecord], classes: int) -> int:
    """Writes one LMDB file in the published layout.

    Args:
        path: the file; replaced atomically.
        rows: (encoded image, feature float32 `[D]`, label[, encoded landmark picture]).
        classes: number of identities.

    Returns:
        number of records.
    """
    count = 0

    def values() -> Iterable[bytes]:
        nonlocal count
        for image, feature, label, *landmark in rows:
            stream = io.BytesIO()
            np.save(stream, np.ascontiguousarray(feature, np.float32), allow_pickle=False)
            count += 1
            yield pack_record(Record(image, int(label), stream.getvalue(), *landmark))

    file = DurableFile(Path(path), "main", whole=False)
    with disk.named_errors(Path(path).parent), aborted_on_error(file):
        write_values(file, [(0, values())], classes)
        file.prepare()
        file.publish()
    return count

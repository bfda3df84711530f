"""Which records of a `.rec` are pictures, which are ranges of keys, and whether its `.idx` names all of them.

One read of 64 bytes a record, which its label costs anyway; the rest is arithmetic on whole columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import EXAMPLES, Account, Tally
from v2f_engine.data.formats.recordio.frames import (
    FIRST,
    FRAME,
    HEADER,
    MAGIC,
    MAX_LENGTH,
    WHOLE,
    after_record,
)
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.errors import DatasetError

SEEN_LABELS = 8
"""Labels of a record that are looked at."""
_HEAD = np.dtype(
    {
        "names": ["magic", "word", "flag", "label", "id", "id2", "labels"],
        "formats": ["<u4", "<u4", "<u4", "<f4", "<u8", "<u8", f"({SEEN_LABELS},)<f4"],
    }
)
CHUNK = 1 << 16
"""Records whose heads are held at once: 4 MB."""
MAX_EXACT = 1 << 24
"""Largest whole number up to which a float32 label holds all of them."""


def read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(keys, offsets) of a `.idx` file: lines of `key<TAB>offset`.

    Raises:
        DatasetError: a line that is not two whole numbers from 0.
    """
    try:
        if not path.stat().st_size:
            raise ValueError("an empty file")
        columns = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2, comments=None)
    except (ValueError, OSError, OverflowError) as error:
        raise DatasetError(f"{path}: expected lines of key<TAB>offset, found {error}.") from error
    if columns.shape[1] != 2 or columns.min() < 0:
        raise DatasetError(f"{path}: expected lines of key<TAB>offset from 0, found shape {columns.shape}.")
    return columns[:, 0], columns[:, 1]


@dataclass(frozen=True)
class Books:
    """A `.rec` as its records say.

    Args:
        keys: int64 `[N]` of the pictures, ascending.
        offsets: int64 `[N]` of their frames.
        labels: float64 `[N]`, the first label of each; NaN where the record is damaged.
        ranges: keys of the records that hold a range of keys and no picture.
        faults: row -> what is wrong with its record.
        constant: whether the first labels are all equal.
        varied: places of the further labels that are not all equal.
        ids: int64 `[N]`, the key that each record states itself.
        remarks: what a user has to know.
    """

    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]
    labels: NDArray[np.float64]
    ranges: NDArray[np.int64]
    faults: dict[int, str]
    constant: bool
    varied: tuple[int, ...]
    ids: NDArray[np.int64]
    remarks: list[str] = field(default_factory=list)

    def account(self, path: Path, identities: int, remarks: tuple[str, ...]) -> Account:
        """Every key of the index: a picture or a range."""
        if self.faults:
            named = "; ".join(list(self.faults.values())[:EXAMPLES])
            raise DatasetError(
                f"{path}: {len(self.faults)} of {len(self.keys)} records are damaged: {named}."
            )
        tally = Tally("keys", len(self.keys), len(self.keys), remarks=[*self.remarks, *remarks])
        tally.asides(
            "records of ranges of keys, without picture", (f"key {key}" for key in self.ranges.tolist())
        )
        return tally.close(identities).check(path)


def read_books(files: OpenFiles, rec: Path, keys: NDArray[np.int64], offsets: NDArray[np.int64]) -> Books:
    """Judges every record that the index names, and whether it names all.

    Raises:
        DatasetError: index and records do not belong together; the message gives both counts.
    """
    _check_index(rec, keys, offsets)
    order = np.argsort(offsets, kind="stable")
    keys, offsets = keys[order], offsets[order]
    heads = np.concatenate(
        [_heads(files, rec, offsets[at : at + CHUNK]) for at in range(0, len(keys), CHUNK)]
    )
    length = (heads["word"] & MAX_LENGTH).astype(np.int64)
    kind = heads["word"] >> 29
    framed = (heads["magic"] == MAGIC) & ((kind == WHOLE) | (kind == FIRST))
    ends = offsets + FRAME.size + length + (-length % 4)
    for row in np.flatnonzero(framed & (kind == FIRST)).tolist():
        try:
            ends[row] = after_record(files, rec, int(offsets[row]))
            length[row] = MAX_LENGTH  # holds the magic, so holds a picture
        except DatasetError:
            framed[row] = False
    nexts = np.append(offsets[1:], rec.stat().st_size)
    _refuse_unnamed(files, rec, keys, offsets, ends, nexts, framed)
    whole = framed & (ends == nexts) & (length >= HEADER.size)
    labelled = HEADER.size + 4 * heads["flag"].astype(np.int64)
    bare = whole & (length == labelled) & (heads["flag"] > 0)
    faulty = ~whole | (whole & (length <= labelled) & ~bare)
    _check_ranges(rec, keys, ~bare & ~faulty, bare, heads)
    shown = np.argsort(keys, kind="stable")
    shown = shown[~bare[shown]]
    labels = np.where(heads["flag"] == 0, heads["label"], heads["labels"][:, 0]).astype(np.float64)
    labels[faulty] = np.nan
    faults = {
        row: _fault(rec, keys[place], offsets[place], ends[place], nexts[place], bool(framed[place]))
        for row, place in enumerate(shown.tolist())
        if faulty[place]
    }
    good = labels[shown][~faulty[shown]]
    books = Books(
        keys[shown],
        offsets[shown],
        labels[shown],
        np.sort(keys[bare]),
        faults,
        len(good) > 1 and bool((good == good[0]).all()),
        _varied(heads[shown], faulty[shown]),
        heads["id"][shown].astype(np.int64),
    )
    if len(faults) > len(shown) // 2:
        raise DatasetError(
            f"{next(iter(faults.values()))} So are {len(faults)} of {len(shown)}: is the index that of another .rec?"
        )
    _remark_meta(books, keys, bare, heads)
    return books


def read_ranges(files: OpenFiles, rec: Path, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 `[N, 2]`: first key and last + 1 of the range records at these offsets."""
    ranges: NDArray[np.float32] = _heads(files, rec, offsets)["labels"][:, :2]
    return np.where((ranges >= 0) & (ranges <= MAX_EXACT), ranges, -1).astype(np.int64)


def _heads(files: OpenFiles, rec: Path, offsets: NDArray[np.int64]) -> NDArray[np.void]:
    return files.heads(rec, offsets.tolist(), _HEAD.itemsize).view(_HEAD).reshape(-1)


def _check_index(rec: Path, keys: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
    idx = rec.with_suffix(".idx")
    for name, column in (("key", keys), ("offset", offsets)):
        values, counts = np.unique(column, return_counts=True)
        if len(values) < len(column):
            again = values[counts > 1]
            raise DatasetError(
                f"{idx}: {len(again)} {name}s stand in several lines, such as {again[:EXAMPLES].tolist()}; expected "
                f"every {name} once."
            )
    size = rec.stat().st_size if rec.is_file() else None
    if size is None:
        raise DatasetError(f"{rec} does not exist; {idx} names {len(keys)} records of it.")
    beyond = int((offsets >= size).sum())
    if beyond:
        raise DatasetError(
            f"{idx}: {beyond} of {len(keys)} offsets lie beyond the {size} bytes of {rec.name}: the file is cut, or "
            "the index is "
            "that of another .rec."
        )


def _refuse_unnamed(
    files: OpenFiles,
    rec: Path,
    keys: NDArray[np.int64],
    offsets: NDArray[np.int64],
    ends: NDArray[np.int64],
    nexts: NDArray[np.int64],
    framed: NDArray[np.bool_],
) -> None:
    """Records between those that the index names are pictures that nobody would miss."""
    gaps = [(0, int(offsets[0]))] if offsets[0] else []
    gaps += [(int(ends[row]), int(nexts[row])) for row in np.flatnonzero(framed & (ends < nexts)).tolist()]
    unnamed = 0
    for start, stop in gaps:
        at = start
        while at < stop:
            try:
                at = after_record(files, rec, at)
            except DatasetError:
                break
            unnamed += 1
    if unnamed:
        raise DatasetError(
            f"{rec.with_suffix('.idx')} names {len(keys)} records, {rec.name} holds {unnamed} more, the first at "
            f"offset {gaps[0][0]}: the "
            "index is cut, or that of another .rec. Make it anew (mxnet's tools/rec2idx.py)."
        )


def _check_ranges(
    rec: Path,
    keys: NDArray[np.int64],
    image: NDArray[np.bool_],
    bare: NDArray[np.bool_],
    heads: NDArray[np.void],
) -> None:
    """Keys that a range speaks of exist; where they are gone, pictures are."""
    if not bare.any():
        return
    stated = np.sort(keys)
    for place in np.flatnonzero(bare).tolist():
        first, last = (
            float(heads["labels"][place, 0]),
            float(heads["labels"][place, min(1, int(heads["flag"][place]) - 1)]),
        )
        where = f"{rec}: key {int(keys[place])}"
        if not (first >= 0 and first.is_integer() and last >= 0 and last.is_integer()):
            raise DatasetError(
                f"{where}: no picture, and no range of keys: {first:g}, {last:g}; expected the number of keys or a "
                "picture."
            )
        if int(keys[place]) == 0:
            if first > np.float32(int(stated[-1]) + 1):
                raise DatasetError(
                    f"{where}: the meta record speaks of keys up to {first:.0f}, the index ends at "
                    f"{int(stated[-1])}: pictures are missing."
                )
            continue
        if last > MAX_EXACT or last < first:
            continue
        held = int(np.searchsorted(stated, last) - np.searchsorted(stated, first))
        if held != int(last - first):
            raise DatasetError(
                f"{where}: the record of an identity speaks of keys {first:.0f} to {last - 1:.0f}, of which the "
                f"index names {held} of "
                f"{int(last - first)}: pictures are missing."
            )


def _remark_meta(
    books: Books, keys: NDArray[np.int64], bare: NDArray[np.bool_], heads: NDArray[np.void]
) -> None:
    """The meta record counts images up to a key, rounded to float32; it may count fewer than there are, never more."""
    place = np.flatnonzero(bare & (keys == 0))
    if not len(place) or not len(books.keys):
        return
    stated, held = float(heads["labels"][place[0], 0]), float(np.float32(int(books.keys[-1]) + 1))
    if stated > held:
        raise DatasetError(
            f"record 0 speaks of images up to key {stated - 1:.0f}, the last one has key {int(books.keys[-1])}."
        )
    if stated < held:
        books.remarks.append(
            f"the meta record speaks of images up to key {stated - 1:.0f}; there are some up to "
            f"{int(books.keys[-1])}, all are read"
        )


def _varied(heads: NDArray[np.void], faulty: NDArray[np.bool_]) -> tuple[int, ...]:
    """Which labels behind the first differ among the pictures."""
    flags = heads["flag"].astype(np.int64)
    found = []
    for place in range(1, SEEN_LABELS):
        values = heads["labels"][:, place][(flags > place) & ~faulty]
        if len(values) and not (values == values[0]).all():
            found.append(place)
    return tuple(found)


def _fault(rec: Path, key: int, offset: int, end: int, following: int, framed: bool) -> str:
    if not framed:
        return f"{rec}: key {int(key)}: offset {int(offset)}: expected a RecordIO record, found none."
    if end != following:
        cut = following == rec.stat().st_size and end > following
        why = "the file is cut" if cut else "one of them is damaged"
        return f"{rec}: key {int(key)}: its record ends at {int(end)}, the next begins at {int(following)}: {why}."
    return f"{rec}: key {int(key)}: no picture in its record, and no range of keys."

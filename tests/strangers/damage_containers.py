"""The inside of lists, records, trees and tables, taken apart and written anew by other tools than ours."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb
from containers import Entry
from damage_case import Case

_LABELS = {
    "list of label path, tabs": r"^\d+(?=\t)",
    "list of im2rec": r"(?<=\t)\d+\.\d+(?=\t)",
    "list in lines of JSON": r"(?<=\"label\": )\d+",
    "list of StyleGAN": r"(?<=, )\d+(?=\])",
    "list with a column of splits": r"(?<=,)\d+(?=,)",
}

_LAST = r"[^\s;,]+(?=\r?\n?$)"

NAMED = ("list of names", "list with semicolons", "list of pandas")

BY_FOLDER = ("list of index path", "list of paths")

_HEADED = (*NAMED[1:], "list with a header", "list with a column of splits")


class Listed:
    """A list as text, taken apart."""

    def __init__(self, case: Case) -> None:
        self.case, self.path, self.name = case, case.path, case.layout.name
        data = self.path.read_bytes()
        self.encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        text = data.decode(self.encoding)
        self.head, self.join, self.tail = "", "", ""
        if self.name == "list of StyleGAN":
            self.head, self.join, self.tail = '{"labels": [', ", ", "]}"
            self.units = [json.dumps(each) for each in json.loads(text)["labels"]]
            return
        self.head = "\ufeff" if text.startswith("\ufeff") else ""
        self.units = text.removeprefix("\ufeff").splitlines(keepends=True)
        if self.name in _HEADED:
            self.head += self.units.pop(0)
        if self.name == "list with a column of splits":
            self.tail = self.units.pop()

    def of(self, entry: Entry) -> int:
        """The unit that names a picture."""
        names = (entry.name, entry.name.replace("/", "\\"), json.dumps(entry.name), entry.base)
        for name in names if self.name == "list of CelebA" else names[:3]:
            for place, unit in enumerate(self.units):
                if re.search(rf"(?<![\w]){re.escape(name)}(?![\w.])", unit):
                    return place
        raise AssertionError((self.name, entry.name))

    def save(self) -> None:
        self.path.write_bytes((self.head + self.join.join(self.units) + self.tail).encode(self.encoding))

    def label(self, unit: str, label: str) -> str:
        return re.sub(_LABELS.get(self.name, _LAST), label, unit, count=1)


def records_of(case: Case) -> tuple[Path, list[tuple[int, int]]]:
    """(`.rec`, (key, offset) of each line of its index)."""
    rec = case.files("*.rec")[0]
    lines = rec.with_suffix(".idx").read_text().splitlines()
    return rec, [(int(key), int(offset)) for key, offset in (line.split("\t") for line in lines)]


def write_index(rec: Path, lines: Sequence[tuple[int, int]]) -> None:
    rec.with_suffix(".idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in lines))


def picture_records(case: Case) -> tuple[Path, dict[bytes, int]]:
    """(`.rec`, picture -> offset of its record)."""
    rec, lines = records_of(case)
    data = rec.read_bytes()
    places = {}
    for _, offset in lines:
        length = struct.unpack_from("<I", data, offset + 4)[0] & ((1 << 29) - 1)
        payload = data[offset + 8 : offset + 8 + length]
        flag = struct.unpack_from("<I", payload)[0]
        encoded = payload[24 + 4 * flag :]
        if encoded in case.who:
            places[encoded] = offset
    return rec, places


def tree_file(case: Case) -> Path:
    return case.files("*.mdb", "*.lmdb")[0] if not case.files("data.mdb") else case.files("data.mdb")[0]


def change_tree(case: Case, change: Callable[[dict[bytes, bytes]], None]) -> None:
    """Writes the entries of an LMDB anew, by liblmdb."""
    place = tree_file(case)
    folder = place.name == "data.mdb"
    where = str(place.parent if folder else place)
    with lmdb.open(where, subdir=folder, map_size=1 << 26, lock=False) as opened:
        with opened.begin() as reading:
            before = {bytes(key): bytes(value) for key, value in reading.cursor()}
        after = dict(before)
        change(after)
        with opened.begin(write=True) as writing:
            for key in before.keys() - after.keys():
                writing.delete(key)
            for key, value in after.items():
                if before.get(key) != value:
                    writing.put(key, value)


def rewrite_rows(case: Case, path: Path, change: Callable[[list[int]], list[int]]) -> None:
    """Writes the rows of a Parquet file anew, in this order."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(table.take(change(list(range(len(table))))), path, row_group_size=3)


def pictures_of_table(path: Path, who: dict[bytes, int]) -> list[bytes]:
    """The pictures in a Parquet file, by pyarrow."""
    import pyarrow.parquet as pq

    found = []
    for name, values in pq.read_table(path).to_pydict().items():
        for value in values:
            data = value.get("bytes") if isinstance(value, dict) else value
            if name and data in who:
                found.append(data)
    return found


def labels_of(case: Case, entry: Entry) -> list[Entry]:
    """The members that label a picture of a shard: of its key, in its order where keys repeat."""
    stem = entry.name.rpartition(".")[0]
    named = [
        each for each in case.contents.held
        if each.holder == entry.holder and each.name != entry.name and each.name.endswith((".cls", ".json"))
        and (each.name.startswith(f"{stem}.") or each.name.startswith(f"{entry.name}."))
    ]  # fmt: skip
    same = [each for each in case.pictures if each.name == entry.name and each.holder == entry.holder]
    return [named[[each is entry for each in same].index(True)]] if len(named) > 1 else named

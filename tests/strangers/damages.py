"""What may happen to a set of faces on its way, and what is then the exact data: known without any reader of ours.

A damage writes a layout (`Case.make`), changes its files, and says what a reader may answer: the people that are then
there (none where data was destroyed), or always a named error. `must`: nothing was lost, so it has to be read.
"""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import lmdb
import msgpack
from all_layouts import Groups, Layout, People, groups, picture
from containers import ARCHIVED, Contents, Entry

FOREIGN = ("README.md", "LICENSE", "preview.html", "statistics.yaml", "train.log")
APPLEDOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(64)
GIF, TIFF = b"GIF89a" + bytes(60), b"II*\0" + bytes(60)
LONG = "李雷-" + "long" * 30


@dataclass(frozen=True)
class Expected:
    """What a reader may answer.

    Args:
        data: the people that may be given; none: only an error is right.
        must: an error is wrong.
    """

    data: tuple[Groups, ...]
    must: bool = False


@dataclass
class Case:
    """A layout of random people, to be damaged.

    Args:
        layout: of LAYOUTS.
        folder: an empty one, for the set alone.
        people: encoded pictures, no two alike.
        rng: decides everything.
    """

    layout: Layout
    folder: Path
    people: list[list[bytes]]
    rng: random.Random
    path: Path = field(default_factory=Path)

    @property
    def own(self) -> bool:
        return self.layout.name.startswith("ours")

    def make(self, people: People | None = None) -> None:
        self.path = self.layout.maker(self.folder, self.people if people is None else people)

    @cached_property
    def contents(self) -> Contents:
        return Contents(self.path, self.layout.family)

    @cached_property
    def who(self) -> dict[bytes, int]:
        return {data: person for person, pictures in enumerate(self.people) for data in pictures}

    @property
    def pictures(self) -> list[Entry]:
        """Files and members that are pictures of the set."""
        return [
            entry
            for entry in self.contents.held
            if entry.data in self.who and not re.search(r"@eaDir|\.txt$|contact_sheet", entry.name)
        ]

    def one(self) -> Entry:
        return self.rng.choice(self.pictures)

    def files(self, *patterns: str) -> list[Path]:
        """Files of the set, without hidden ones."""
        found = {path for pattern in patterns for path in self.folder.rglob(pattern) if path.is_file()}
        return sorted(path for path in found if not path.name.startswith("."))

    # What is right afterwards.

    def whole(self, *, must: bool = False) -> Expected:
        """Nothing was lost. A set of ours knows its files by hash, so it may always refuse strange ones."""
        return Expected((groups(self.people),), must)

    def only(self, *data: Groups) -> Expected:
        """One of these; of a set of ours only what was written."""
        return Expected(tuple(each for each in data if not self.own or each == groups(self.people)))

    def without(self, *pictures: bytes) -> Groups:
        return groups([[data for data in held if data not in pictures] for held in self.people])

    def alone(self, picture: bytes) -> Groups:
        """That picture as a person of its own."""
        return sorted([*self.without(picture), [picture]])

    def moved(self, picture: bytes, person: int) -> Groups:
        """That picture as one of another person's, who may be new."""
        if person >= len(self.people):
            return self.alone(picture)
        held = [[data for data in pictures if data != picture] for pictures in self.people]
        held[person].append(picture)
        return groups(held)


Damage = Callable[[Case], Expected | None]
"""None where it does not apply."""

# Lists: a head, a unit for each picture, a tail.

_LABELS = {
    "list of label path, tabs": r"^\d+(?=\t)",
    "list of im2rec": r"(?<=\t)\d+\.\d+(?=\t)",
    "list in lines of JSON": r"(?<=\"label\": )\d+",
    "list of StyleGAN": r"(?<=, )\d+(?=\])",
    "list with a column of splits": r"(?<=,)\d+(?=,)",
}
_LAST = r"[^\s;,]+(?=\r?\n?$)"
_NAMED = ("list of names", "list with semicolons", "list of pandas")
_BY_FOLDER = ("list of index path", "list of paths")
_HEADED = (*_NAMED[1:], "list with a header", "list with a column of splits")


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


def _records(case: Case) -> tuple[Path, list[tuple[int, int]]]:
    """(`.rec`, (key, offset) of each line of its index)."""
    rec = case.files("*.rec")[0]
    lines = rec.with_suffix(".idx").read_text().splitlines()
    return rec, [(int(key), int(offset)) for key, offset in (line.split("\t") for line in lines)]


def _index(rec: Path, lines: Sequence[tuple[int, int]]) -> None:
    rec.with_suffix(".idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in lines))


def _picture_records(case: Case) -> tuple[Path, dict[bytes, int]]:
    """(`.rec`, picture -> offset of its record)."""
    rec, lines = _records(case)
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


def _trees(case: Case) -> Path:
    return case.files("*.mdb", "*.lmdb")[0] if not case.files("data.mdb") else case.files("data.mdb")[0]


def _change_tree(case: Case, change: Callable[[dict[bytes, bytes]], None]) -> None:
    """Writes the entries of an LMDB anew, by liblmdb."""
    place = _trees(case)
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


def _tables(case: Case, path: Path, change: Callable[[list[int]], list[int]]) -> None:
    """Writes the rows of a Parquet file anew, in this order."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(table.take(change(list(range(len(table))))), path, row_group_size=3)


def _encoded(path: Path, who: dict[bytes, int]) -> list[bytes]:
    """The pictures in a Parquet file, by pyarrow."""
    import pyarrow.parquet as pq

    found = []
    for name, values in pq.read_table(path).to_pydict().items():
        for value in values:
            data = value.get("bytes") if isinstance(value, dict) else value
            if name and data in who:
                found.append(data)
    return found


def _labels_of(case: Case, entry: Entry) -> list[Entry]:
    """The members that label a picture of a shard: of its key, in its order where keys repeat."""
    stem = entry.name.rpartition(".")[0]
    named = [
        each for each in case.contents.held
        if each.holder == entry.holder and each.name != entry.name and each.name.endswith((".cls", ".json"))
        and (each.name.startswith(f"{stem}.") or each.name.startswith(f"{entry.name}."))
    ]  # fmt: skip
    same = [each for each in case.pictures if each.name == entry.name and each.holder == entry.holder]
    return [named[[each is entry for each in same].index(True)]] if len(named) > 1 else named


# The damages, one each.


def member_repeated(case: Case) -> Expected | None:
    """A member, line or file is there twice."""
    case.make()
    family = case.layout.family
    if family == "lists":
        listed = Listed(case)
        at = case.rng.randrange(len(listed.units))
        listed.units.insert(case.rng.choice([at, len(listed.units)]), listed.units[at])
        listed.save()
        return case.whole()
    if family in ("records", "parquet", "lmdb"):
        if family != "parquet":
            return None  # the index is shifted below; keys of a tree are there once
        path = case.rng.choice(case.files("*.parquet"))
        rows = _encoded(path, case.who)
        if not rows:
            return None  # of paths
        at = case.rng.randrange(len(rows))
        _tables(case, path, lambda order: [*order, at])
        held = [[*pictures] for pictures in case.people]
        held[case.who[rows[at]]].append(rows[at])
        return case.only(groups(held))
    entry, held = case.one(), case.contents.held
    if family in ARCHIVED:
        copy = Entry(entry.holder, entry.name, entry.data)
        held.insert(case.rng.choice([held.index(entry), len(held)]), copy)
        case.contents.save()
        return case.whole()
    held.append(Entry(entry.holder, entry.beside(f"{entry.base[:-4]} (1).jpg"), entry.data))
    case.contents.save()
    twice = [[*pictures] for pictures in case.people]
    twice[case.who[entry.data]].append(entry.data)
    return case.only(groups(twice), *([groups(case.people)] if case.own else []))


def key_missing(case: Case) -> Expected | None:
    """A label, or a key of the index, is not there."""
    family = case.layout.family
    if family in ("folders", "zips", "tars") or (family == "parquet" and case.own):
        return None
    case.make()
    if family == "shards":
        label = case.rng.choice(_labels_of(case, case.one()))
        case.contents.held.remove(label)
        case.contents.save()
        return case.only(groups(case.people)) if case.own else case.only()
    if family == "lists":
        listed = Listed(case)
        if listed.name in _BY_FOLDER:
            return None
        entry = case.one()
        at = listed.of(entry)
        listed.units[at] = listed.label(listed.units[at], "")
        listed.save()
        return case.only(*([case.alone(entry.data)] if listed.name in _NAMED else []))
    if family == "records":
        rec, lines = _records(case)
        lines.pop(case.rng.randrange(len(lines)))
        _index(rec, lines)
        return case.whole()
    if family == "lmdb":
        lost: list[bytes] = []

        def drop(entries: dict[bytes, bytes]) -> None:
            key = case.rng.choice([key for key in entries if not key.startswith(b"__")])
            lost.extend(data for data in case.who if data in entries[key])
            del entries[key]

        _change_tree(case, drop)
        return case.only(*([case.without(*lost)] if "alone" in case.layout.name else []))
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = case.rng.choice(case.files("*.parquet"))
    table = pq.read_table(path)
    name = next(name for name in ("label", "cls", "identity") if name in table.column_names)
    labels = table[name].combine_chunks().to_pylist()
    labels[case.rng.randrange(len(labels))] = None
    place = table.column_names.index(name)
    kind = table.schema.field(name).type
    pq.write_table(table.set_column(place, name, pa.array(labels).cast(kind)), path)
    return case.only()


def labels_shorter(case: Case) -> Expected | None:
    """The file that says who is who ends early, or is empty."""
    family = case.layout.family
    if family in ("folders", "zips", "tars", "parquet"):
        return None
    case.make()
    if family == "lists":
        listed = Listed(case)
        entry = next(entry for entry in case.pictures if listed.of(entry) == len(listed.units) - 1)
        listed.units.pop()
        listed.save()
        return case.only(case.without(entry.data))  # a list of a part is what it says
    if family == "shards":
        label = case.rng.choice(_labels_of(case, case.one()))
        label.data = b""
        case.contents.save()
        return case.only(groups(case.people)) if case.own else case.only()
    if family == "records":
        lists = case.files("*.lst", "*.tsv", "list.txt", "property")
        lists = [path for path in lists if path.name != "done_list.txt"]
        if not lists:
            return None
        path = case.rng.choice(lists)
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        return case.whole()
    return _keys(case, -1)


def labels_longer(case: Case) -> Expected | None:
    """The file that says who is who speaks of a picture that is not there."""
    family = case.layout.family
    if family in ("folders", "zips", "tars", "parquet"):
        return None
    case.make()
    if family == "lists":
        listed = Listed(case)
        unit = case.rng.choice(listed.units)
        listed.units.insert(case.rng.randint(0, len(listed.units)), re.sub(r"\.jpg", "x.jpg", unit))
        listed.save()
        return case.only()
    if family == "shards":
        entry = case.one()
        for label in _labels_of(case, entry)[:1]:
            name = re.sub(r"^(.*/)?([^/.]*)", r"\g<0>9", label.name, count=1)
            case.contents.held.append(Entry(label.holder, name, label.data))
        case.contents.save()
        return case.only(groups(case.people)) if case.own else case.only()
    if family == "records":
        lists = case.files("*.lst", "*.tsv", "list.txt")
        lists = [path for path in lists if path.name != "done_list.txt"]
        if not lists:
            return None
        path = case.rng.choice(lists)
        rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*rows, re.sub(r"^\d+", "9999", rows[-1])]))
        return case.whole()
    return _keys(case, 1)


def _keys(case: Case, by: int) -> Expected | None:
    """`__keys__` or `__len__` of an LMDB changed by one."""
    if "alone" in case.layout.name:
        return None

    def change(entries: dict[bytes, bytes]) -> None:
        keys = msgpack.unpackb(entries[b"__keys__"]) if b"__keys__" in entries else []
        if keys and case.rng.random() < 0.5:
            entries[b"__keys__"] = msgpack.packb(keys[:-1] if by < 0 else [*keys, b"9999"])
        else:
            entries[b"__len__"] = msgpack.packb(msgpack.unpackb(entries[b"__len__"]) + by)

    _change_tree(case, change)
    return case.whole()  # a key that names nothing loses nothing


def split_added(case: Case) -> Expected | None:
    """Another split lies beside, or within."""
    case.make()
    family = case.layout.family
    other = picture(900)
    root = case.path if case.path.is_dir() else case.path.parent
    if family in ("folders", "lists"):
        (root / "test" / "stranger").mkdir(parents=True)
        (root / "test" / "stranger" / "0.jpg").write_bytes(other)
        if family == "lists":
            case.path.with_name(f"test{case.path.suffix}").write_text("test/stranger/0.jpg 0\n")
        return case.whole(must=family == "lists")
    if family in ("zips", "tars"):
        holder = case.rng.choice(case.contents.held).holder
        case.contents.held.append(Entry(holder, "test/stranger/0.jpg", other))
        case.contents.save()
        return case.whole()
    second = case.folder.with_name("second")
    second.mkdir()
    _second(case, second, [[picture(900 + n), picture(950 + n)] for n in range(2)])
    for file in sorted(second.rglob("*")):
        if file.suffix in (".tar", ".gz", ".rec", ".idx", ".parquet", ".lmdb"):
            target = root / re.sub(r"train|faces|web4m|file|shard|^", "test-", file.name, count=1)
            if file.is_file():
                shutil.copy(file, target)
    return case.whole()


def _second(case: Case, folder: Path, people: People) -> Path:
    """Another set of the same kind; of ours, one that their tools would write."""
    import archive_files
    import record_files

    makers = {
        "ours, imagefolder": archive_files.plain,
        "ours, webdataset": archive_files.wds_gz,
        "ours, lmdb": record_files.lmdb_file,
        "ours, recordio": record_files.insightface,
        "ours, parquet": record_files.class_labels,
    }
    return makers.get(case.layout.name, case.layout.maker)(folder, people)


def hidden_file(case: Case) -> Expected | None:
    """What macOS, Windows and network disks leave beside people's files, and in their archives."""
    case.make()
    root = case.path if case.path.is_dir() else case.path.parent
    known = [path for path in root.rglob("*") if path.is_file()]
    near = case.rng.choice(known) if known else root / "x"
    names = [f"._{near.name}", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/x.jpg/SYNOFILE_THUMB_M.jpg"]
    hidden = near.parent / case.rng.choice(names)
    hidden.parent.mkdir(parents=True, exist_ok=True)
    hidden.write_bytes(APPLEDOUBLE)
    if case.layout.family in ARCHIVED and not case.own:
        entry = case.one()
        inner = case.rng.choice([f"._{entry.base}", ".DS_Store", "Thumbs.db"])
        name = case.rng.choice([entry.beside(inner), f"__MACOSX/{inner}"])
        case.contents.held.insert(
            case.rng.randint(0, len(case.contents.held)), Entry(entry.holder, name, APPLEDOUBLE)
        )
        case.contents.save()
    return case.whole(must=True)


def long_name(case: Case) -> Expected | None:
    """A name beyond ASCII and beyond the hundred bytes of a tar's header."""
    case.make()
    family = case.layout.family
    if family in ("folders", "zips", "tars"):
        entry = case.one()
        if not entry.folder:
            return None
        folder = entry.folder
        for each in case.contents.held:
            if each.folder == folder:
                each.name = f"{folder}{LONG}/{each.base}"
        case.contents.save()
        return case.whole(must=not case.own)
    if family == "shards":
        if case.own:
            return None
        entry = case.one()
        key = re.match(r"^(.*/)?[^/.]*", entry.name)
        assert key
        for each in case.contents.held:
            if each.holder == entry.holder and each.name.startswith(f"{key[0]}."):
                each.name = f"{key[0]}{LONG}{each.name[len(key[0]) :]}"
        case.contents.save()
        return case.whole(must=True)
    if family == "lists":
        if case.layout.name in ("list in lines of JSON", "list of StyleGAN"):
            return None
        listed, entry = Listed(case), case.one()
        at = listed.of(entry)
        base = f"{entry.base[:-4]}{LONG}.jpg"
        listed.units[at] = listed.units[at].replace(entry.base, base)
        entry.name = entry.beside(base)
        case.contents.save()
        listed.save()
        return case.whole(must=True)
    if family == "records" and not case.own and case.layout.name.endswith(("insightface", "RecBuilder")):
        for file in case.files("*.rec", "*.idx"):
            file.rename(file.with_name(f"{LONG}{file.suffix}"))
        return case.whole(must=True)
    if family == "lmdb" and not case.own:
        place = next(each for each in case.folder.rglob("*.lmdb"))
        moved = place.rename(place.with_name(f"{LONG}.lmdb"))
        case.path = moved if case.path == place else case.path
        return case.whole(must=True)
    return None


def _altered(case: Case, change: Callable[[bytes], bytes]) -> Expected | None:
    """One picture of the set is written otherwise."""
    if case.own and case.layout.family not in ("folders", "shards"):
        return None  # the bytes of one record alone: the byte flipped, below
    if case.own:
        case.make()
        entry = case.one()
        entry.data = change(entry.data)
        case.contents.save()
        return case.only()
    person = case.rng.randrange(len(case.people))
    number = case.rng.randrange(len(case.people[person]))
    people = [[*pictures] for pictures in case.people]
    people[person][number] = change(people[person][number])
    case.make(people)
    return case.only()


def picture_empty(case: Case) -> Expected | None:
    """A picture without bytes."""
    return _altered(case, lambda data: b"")


def picture_cut(case: Case) -> Expected | None:
    """A picture that ends early."""
    return _altered(case, lambda data: data[: case.rng.randrange(1, len(data) - 40)])


def picture_unread(case: Case) -> Expected | None:
    """A picture of a kind that no decoder here reads, under the name of one that is."""
    return _altered(case, lambda data: case.rng.choice([GIF, TIFF, b"BM" + bytes(9), data[::-1]]))


def member_removed(case: Case) -> Expected | None:
    """A picture, or a file of several, is gone."""
    case.make()
    family = case.layout.family
    if family in ("folders", "zips", "tars", "shards", "lists"):
        entry = case.one()
        case.contents.held.remove(entry)
        case.contents.save()
        return case.only(*([case.without(entry.data)] if family in ("folders", "zips", "tars") else []))
    if family == "records":
        rec, lines = _records(case)
        offset = lines[-1][1]
        _, places = _picture_records(case)
        lost = [data for data, at in places.items() if at == offset]
        rec.write_bytes(rec.read_bytes()[:offset])
        _index(rec, lines[:-1])
        return case.only() if lost else case.whole()  # a list, a count or a range of keys knows the picture
    if family == "parquet":
        files = case.files("*.parquet")
        if len(files) < 2:
            return None
        gone = case.rng.choice(files)
        lost = _encoded(gone, case.who)
        told = "-of-" in gone.name or gone != files[-1]
        gone.unlink()
        return case.only(*([] if told else [case.without(*lost)]))
    return None


def index_shifted(case: Case) -> Expected | None:
    """An index that points elsewhere, or twice to one place."""
    family = case.layout.family
    if family == "records":
        case.make()
        rec, lines = _records(case)
        at, other = case.rng.sample(range(len(lines)), 2)
        way = case.rng.randrange(5)
        if way == 0:
            lines[at] = (lines[at][0], lines[at][1] + case.rng.choice([4, -4, 8, 1]))
        elif way == 1:
            lines[at] = (lines[at][0], lines[other][1])
        elif way == 2:
            lines[at], lines[other] = (lines[at][0], lines[other][1]), (lines[other][0], lines[at][1])
        elif way == 3:
            lines.insert(case.rng.randrange(len(lines)), lines[at])
        else:
            lines[at] = (lines[other][0], lines[at][1])
        _index(rec, lines)
        return case.whole()
    if family == "shards":
        case.make()
        indices = [path for path in case.files("*.json") if "shardlist" in path.read_text()]
        if not indices:
            return None
        said = json.loads(indices[0].read_text())
        shard = case.rng.choice(said["shardlist"])
        if case.rng.random() < 0.5:
            shard["nsamples"] += case.rng.choice([-1, 1])
        else:
            shard["url"] += "x"
        indices[0].write_text(json.dumps(said))
        return case.whole()
    if family == "zips":
        case.make()
        path = case.rng.choice(case.files("*.zip"))
        data = bytearray(path.read_bytes())
        places = [found.start() for found in re.finditer(rb"PK\x01\x02", bytes(data))]
        one, other = case.rng.sample(places, 2) if len(places) > 1 else (places[0], places[0])
        way = case.rng.randrange(2)
        if way == 0:
            data[one + 42 : one + 46], data[other + 42 : other + 46] = (
                data[other + 42 : other + 46],
                data[one + 42 : one + 46],
            )
        else:
            data[one + 42] ^= 1 << case.rng.randrange(8)
        path.write_bytes(data)
        return case.whole()
    return None


def set_beside(case: Case) -> Expected | None:
    """Another set of the same kind, of other people under the same numbers."""
    case.make()
    root = case.path if case.path.is_dir() else case.path.parent
    second = case.folder.with_name("second")
    second.mkdir()
    others = [[picture(900 + 2 * n), picture(901 + 2 * n)] for n in range(3)]
    made = _second(case, second, others)
    alone = case.path.is_file()
    way = case.rng.choice(["folder", "file"])
    if way == "folder" or case.layout.family in ("folders", "lists"):
        shutil.copytree(made if made.is_dir() else made.parent, root / "second", symlinks=False)
    else:
        for file in sorted(second.rglob("*")):
            if file.is_file():
                shutil.copy(file, root / f"second-{file.name}")
    # a folder named beside a file is not part of that file
    return case.whole(must=alone and case.layout.family not in ("records",))


def unread_kind(case: Case) -> Expected | None:
    """A picture of the set is a GIF or TIFF by its name."""
    family = case.layout.family
    if family not in ("folders", "zips", "tars", "shards", "lists"):
        return None
    case.make()
    entry = case.one()
    ending, data = case.rng.choice([(".gif", GIF), (".tiff", TIFF), (".avif", b"\0\0\0\x1cftypavif")])
    if family == "lists":
        listed = Listed(case)
        at = listed.of(entry)
        base = f"{entry.base[:-4]}{ending}"
        listed.units[at] = listed.units[at].replace(entry.base, base)
        entry.name, entry.data = entry.beside(base), data
        case.contents.save()
        listed.save()
        return case.only()
    if family == "shards":
        for label in _labels_of(case, entry)[:1]:
            name = re.sub(r"^(.*/)?([^/.]*)", r"\g<0>9", label.name, count=1)
            case.contents.held.append(Entry(label.holder, name, label.data))
        stem = re.match(r"^(.*/)?[^/.]*", entry.name)
        assert stem
        case.contents.held.append(Entry(entry.holder, f"{stem[0]}9{ending}", data))
    else:
        case.contents.held.append(Entry(entry.holder, entry.beside(f"{entry.base[:-4]}x{ending}"), data))
    case.contents.save()
    return case.only(groups(case.people)) if case.own else case.only()


def foreign_file(case: Case) -> Expected | None:
    """Notes and licences, as everybody puts them beside a set and into it."""
    case.make()
    root = case.path if case.path.is_dir() else case.path.parent
    name = case.rng.choice(FOREIGN)
    if not (root / name).exists():
        (root / name).write_text("Faces of nobody.\n")
    if case.layout.family in ARCHIVED and not case.own:
        held = case.contents.held
        held.insert(case.rng.choice([0, len(held)]), Entry(case.rng.choice(held).holder, name, b"Faces.\n"))
        case.contents.save()
    return case.whole(must=True)


def label_text(case: Case) -> Expected | None:
    """One label is a word, or no number that a person can have."""
    family = case.layout.family
    if family in ("folders", "zips", "tars", "parquet"):
        return None
    case.make()
    if family == "shards":
        entry = case.one()
        (label,) = _labels_of(case, entry)[:1]
        if label.name.endswith(".json"):
            label.data = re.sub(rb'"label": "n\d+"', b'"label": "abc"', label.data)
        else:
            label.data = b"abc"
        case.contents.save()
        return case.only(case.alone(entry.data), *([groups(case.people)] if case.own else []))
    if family == "lists":
        listed, entry = Listed(case), case.one()
        if listed.name in _BY_FOLDER:
            return None
        at = listed.of(entry)
        text = '"abc"' if "JSON" in listed.name or "StyleGAN" in listed.name else "abc"
        listed.units[at] = listed.label(listed.units[at], text)
        listed.save()
        return case.only(case.alone(entry.data))
    if family == "records":
        rec, places = _picture_records(case)
        offset = case.rng.choice(sorted(places.values()))
        held = bytearray(rec.read_bytes())
        flag = struct.unpack_from("<I", held, offset + 8)[0]
        struct.pack_into(
            "<f", held, offset + (12 if flag == 0 else 32), case.rng.choice([float("nan"), -1.0, 0.5, 1e30])
        )
        rec.write_bytes(held)
        return case.whole() if case.own else case.only()

    lost: list[bytes] = []

    def change(entries: dict[bytes, bytes]) -> None:
        key = case.rng.choice([key for key in entries if not key.startswith(b"__")])
        parts = list(msgpack.unpackb(entries[key]))
        place = next(at for at, part in enumerate(parts) if isinstance(part, int))
        lost.append(parts[0])
        parts[place] = case.rng.choice(["abc", -1, 0.5, None])
        entries[key] = msgpack.packb(parts)

    _change_tree(case, change)
    return case.only(case.alone(lost[0]), *([groups(case.people)] if case.own else []))


def label_moved(case: Case) -> Expected | None:
    """One label is another person's: the data says so, and so must the reader, or it knows better."""
    family = case.layout.family
    if family in ("folders", "zips", "tars", "parquet"):
        return None
    case.make()
    if family == "shards":
        entry = case.one()
        (label,) = _labels_of(case, entry)[:1]
        number = re.compile(rb"\d+(?=\D*$)" if not label.name.endswith(".json") else rb'(?<="label": "n)\d+')
        label.data = number.sub(b"%d" % len(case.people), label.data, count=1)
        case.contents.save()
        return case.only(case.alone(entry.data), *([groups(case.people)] if case.own else []))
    if family == "lists":
        listed, entry = Listed(case), case.one()
        if listed.name in _BY_FOLDER:
            return None
        at, person = listed.of(entry), case.rng.randrange(len(case.people) + 1)
        listed.units[at] = listed.label(listed.units[at], str(person))
        listed.save()
        return case.only(case.moved(entry.data, person))
    if family == "records":
        rec, places = _picture_records(case)
        data, offset = case.rng.choice(sorted(places.items()))
        held = bytearray(rec.read_bytes())
        flag = struct.unpack_from("<I", held, offset + 8)[0]
        person = case.rng.randrange(len(case.people) + 1)
        struct.pack_into("<f", held, offset + (12 if flag == 0 else 32), float(person))
        rec.write_bytes(held)
        if case.own or case.layout.name.endswith(("DCFace", "im2rec", "CVLface")):
            return case.whole()  # a list, or the manifest, says otherwise
        return case.only(case.moved(data, person))
    return None


def container_cut(case: Case) -> Expected | None:
    """A file of the set ends early."""
    case.make()
    if case.layout.family == "folders":
        return None  # picture_cut
    if case.layout.name == "tars joined by cat":
        case.contents  # as it was
    if case.layout.family == "lists":
        return _list_cut(case)
    kinds = ("*.zip", "*.tar*", "*.tgz", "*.rec", "*.idx", "*.lst", "*.tsv", "list.txt", "*.parquet", "*.lmdb",
             "data.mdb", "datasets_webdataset.json")  # fmt: skip
    files = [path for path in case.files(*kinds) if "done" not in path.name]
    path = case.rng.choice(files)
    path.write_bytes(path.read_bytes()[: case.rng.randrange(path.stat().st_size)])
    return _joined(case, path) if case.layout.name == "tars joined by cat" else case.whole()


def _joined(case: Case, path: Path) -> Expected:
    """Of two tars, one behind the other, the first may be left: a whole tar, zeros at its end."""
    data = path.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as first:
        try:
            members = first.getmembers()
        except tarfile.TarError:
            return case.whole()
    end = members[-1].offset_data + -(-members[-1].size // 512) * 512
    if len(data) < end + 1024 or any(data[end:]):
        return case.whole()
    names = {entry.name: entry.data for entry in case.contents.held}
    left = {names[member.name] for member in members}
    return case.only(groups(case.people), case.without(*(data for data in case.who if data not in left)))


def _list_cut(case: Case) -> Expected:
    """Whole lines that are left are what the list says; of a line that is cut, as much as stands there."""
    listed = Listed(case)
    by_unit = {listed.of(entry): entry.data for entry in case.pictures if entry.data in case.who
               and entry.name != "more.jpg"}  # fmt: skip
    text = listed.head + listed.join.join(listed.units) + listed.tail
    at = case.rng.randrange(len(text))
    case.path.write_bytes(text[:at].encode(listed.encoding))
    if listed.tail == "]}":
        return case.only()
    left, start = [], len(listed.head)
    for place, unit in enumerate(listed.units):
        end = start + len(unit)
        if end <= at:
            left.append(by_unit[place])
        elif start < at:
            partial = by_unit[place]
            gone = [data for data in case.who if data not in (*left, partial)]
            rest = [[data for data in held if data not in gone] for held in case.people]
            apart = [[data for data in held if data != partial] for held in rest]
            return case.only(groups(rest), groups([*apart, [partial]]))
        start = end
    gone = [data for data in case.who if data not in left]
    return case.only(case.without(*gone)) if left else case.only()


def byte_flipped(case: Case) -> Expected | None:
    """A bit of a header: of a member, a record, a page, a directory, a picture."""
    family = case.layout.family
    if family in ("folders", "lists"):
        return _altered(case, lambda data: bytes([data[0] ^ 1 << case.rng.randrange(8)]) + data[1:])
    case.make()
    rng = case.rng
    expected = case.whole()
    if family == "zips":
        path = rng.choice(case.files("*.zip"))
        with zipfile.ZipFile(path) as opened:
            heads = [(info.header_offset, 30 + len(info.filename)) for info in opened.infolist()]
            heads += 3 * [(opened.start_dir, path.stat().st_size - opened.start_dir)]
        start, length = rng.choice(heads)
        at = start + rng.randrange(length)
    elif family in ("tars", "shards"):
        path = rng.choice(case.files("*.tar", "*.tar.*", "*.tgz"))
        if path.suffix == ".tar":
            with tarfile.open(path, ignore_zeros=True) as archive:
                at = rng.choice(archive.getmembers()).offset + rng.randrange(512)
        else:
            at = rng.randrange(path.stat().st_size)
    elif family == "records":
        path, places = _picture_records(case)
        at = rng.choice(sorted(places.values()))
        at += +rng.choice([*range(12), *range(16, 32)])  # the label itself: label_moved, label_text
    elif family == "lmdb":
        path = _trees(case)
        page = rng.randrange(path.stat().st_size // 4096)
        at = 4096 * page + (rng.randrange(152) if page < 2 else rng.randrange(24))
    else:
        path = rng.choice(case.files("*.parquet"))
        at = rng.choice([rng.randrange(4), path.stat().st_size - 1 - rng.randrange(8)])
    held = bytearray(path.read_bytes())
    held[at] ^= 1 << rng.randrange(8)
    path.write_bytes(held)
    return expected


def moved_into_folder(case: Case) -> Expected | None:
    """A file or member goes one folder deeper."""
    case.make()
    family = case.layout.family
    if family in ("folders", "zips", "tars", "lists"):
        entry = case.one()
        entry.name = entry.beside(f"more/{entry.base}")
        case.contents.save()
        return case.whole()
    files = case.files("*.tar*", "*.idx", "*.rec", "*.parquet", "*.lst", "list.txt", "*.tsv")
    if not files or (case.path.is_file() and family != "records"):
        return None
    file = case.rng.choice(files)
    (file.parent / "more").mkdir()
    file.rename(file.parent / "more" / file.name)
    if family == "parquet" and not case.own and file.name == "0000.parquet" and "bot" not in case.layout.name:
        return case.whole()
    return case.whole()


def shuffled(case: Case) -> Expected | None:
    """The order of members, lines or rows is another."""
    case.make()
    family = case.layout.family
    if family in ARCHIVED:
        case.rng.shuffle(case.contents.held)
        case.contents.save()
        return case.whole(must=family != "shards")
    if family == "lists":
        listed = Listed(case)
        case.rng.shuffle(listed.units)
        listed.save()
        return case.whole(must=True)
    if family == "records":
        rec, lines = _records(case)
        case.rng.shuffle(lines)
        _index(rec, lines)
        return case.whole(must=True)
    if family == "parquet":
        path = case.rng.choice(case.files("*.parquet"))
        _tables(case, path, lambda order: case.rng.sample(order, len(order)))
        return case.whole(must=not case.own)
    return None


def shared_picture(case: Case) -> Expected | None:
    """One picture of two people, byte for byte."""
    if case.own:
        return None
    people = [[*pictures] for pictures in case.people]
    one, other = case.rng.sample(range(len(people)), 2)
    people[other].append(case.rng.choice(people[one]))
    case.make(people)
    return Expected((groups(people),))


def other_spelling(case: Case) -> Expected | None:
    """Line ends of Windows, a byte order mark, no last line end; endings in upper case; blanks about a label."""
    case.make()
    family = case.layout.family
    if family == "lists":
        data = case.path.read_bytes()
        ways = [lambda: data.rstrip(b"\r\n") if b"\xff\xfe" not in data[:2] else data]
        if data[:2] != b"\xff\xfe":
            ways.append(lambda: re.sub(rb"\r?\n", b"\r\n", data))
            ways.append(lambda: b"\xef\xbb\xbf" + data.removeprefix(b"\xef\xbb\xbf"))
        case.path.write_bytes(case.rng.choice(ways)())
        return case.whole(must=True)
    if family in ("folders", *ARCHIVED):
        if family == "shards" and not case.own and case.rng.random() < 0.5:
            labels = [entry for entry in case.contents.held if entry.name.endswith(".cls")]
            for label in labels:
                label.data = b" " + label.data + b" \r\n"
        else:
            entry = case.one()
            entry.name = entry.name.rpartition(".")[0] + "." + entry.name.rpartition(".")[2].upper()
            if entry.folder == "" and family == "folders" and "IDiff" not in case.layout.name:
                return None
        case.contents.save()
        return case.whole(must=not case.own)
    return None


def nobody_added(case: Case) -> Expected | None:
    """A folder without pictures."""
    if case.layout.family in ("folders", "zips", "tars"):
        case.make()
        root = case.path if case.path.is_dir() else case.path.parent
        (root / "nobody at all").mkdir()
        if case.layout.family == "folders":
            entry = case.one()
            case.contents.held.append(Entry(entry.holder, "notes only/about.md", b"words"))
        else:
            holder = case.rng.choice(case.contents.held).holder
            case.contents.held.append(Entry(holder, "notes only/about.md", b"words"))
        case.contents.save()
        return case.whole(must=True)
    return None


DAMAGES: tuple[tuple[str, Damage], ...] = tuple(
    (damage.__name__.replace("_", " "), damage)
    for damage in (
        member_repeated, key_missing, labels_shorter, labels_longer, split_added, hidden_file, long_name, picture_empty,
        picture_cut, picture_unread, member_removed, index_shifted, set_beside, unread_kind, foreign_file, label_text,
        label_moved, container_cut, byte_flipped, moved_into_folder, shuffled, shared_picture, other_spelling,
        nobody_added,
    )
)  # fmt: skip

"""Labels and indices that are missing, too short, too long, words, another person's, or point elsewhere."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import msgpack
from containers import Entry
from damage_case import Case, Expected
from damage_containers import (
    BY_FOLDER,
    NAMED,
    Listed,
    change_tree,
    labels_of,
    picture_records,
    records_of,
    write_index,
)
from people_given import groups


def key_missing(case: Case) -> Expected | None:
    """A label, or a key of the index, is not there."""
    family = case.layout.family
    if family in ("folders", "zips", "tars") or (family == "parquet" and case.own):
        return None
    case.make()
    if family == "shards":
        label = case.rng.choice(labels_of(case, case.one()))
        case.contents.held.remove(label)
        case.contents.save()
        return case.only(groups(case.people)) if case.own else case.only()
    if family == "lists":
        listed = Listed(case)
        if listed.name in BY_FOLDER:
            return None
        entry = case.one()
        at = listed.of(entry)
        listed.units[at] = listed.label(listed.units[at], "")
        listed.save()
        return case.only(*([case.alone(entry.data)] if listed.name in NAMED else []))
    if family == "records":
        rec, lines = records_of(case)
        lines.pop(case.rng.randrange(len(lines)))
        write_index(rec, lines)
        return case.whole()
    if family == "lmdb":
        lost: list[bytes] = []

        def drop(entries: dict[bytes, bytes]) -> None:
            key = case.rng.choice([key for key in entries if not key.startswith(b"__")])
            lost.extend(data for data in case.who if data in entries[key])
            del entries[key]

        change_tree(case, drop)
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
        label = case.rng.choice(labels_of(case, case.one()))
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
        for label in labels_of(case, entry)[:1]:
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

    change_tree(case, change)
    return case.whole()  # a key that names nothing loses nothing


def set_label(rec: Path, offset: int, label: float) -> None:
    """Writes the label of the record at `offset`: in its header, or first of those behind it."""
    held = bytearray(rec.read_bytes())
    flag = struct.unpack_from("<I", held, offset + 8)[0]
    struct.pack_into("<f", held, offset + (12 if flag == 0 else 32), label)
    rec.write_bytes(held)


def label_text(case: Case) -> Expected | None:
    """One label is a word, or no number that a person can have."""
    family = case.layout.family
    if family in ("folders", "zips", "tars", "parquet"):
        return None
    case.make()
    if family == "shards":
        entry = case.one()
        (label,) = labels_of(case, entry)[:1]
        if label.name.endswith(".json"):
            label.data = re.sub(rb'"label": "n\d+"', b'"label": "abc"', label.data)
        else:
            label.data = b"abc"
        case.contents.save()
        return case.believed(case.alone(entry.data))
    if family == "lists":
        listed, entry = Listed(case), case.one()
        if listed.name in BY_FOLDER:
            return None
        at = listed.of(entry)
        text = '"abc"' if "JSON" in listed.name or "StyleGAN" in listed.name else "abc"
        listed.units[at] = listed.label(listed.units[at], text)
        listed.save()
        return case.only(case.alone(entry.data))
    if family == "records":
        rec, places = picture_records(case)
        offset = case.rng.choice(sorted(places.values()))
        set_label(rec, offset, case.rng.choice([float("nan"), -1.0, 0.5, 1e30]))
        return case.whole() if case.own else case.only()

    lost: list[bytes] = []

    def change(entries: dict[bytes, bytes]) -> None:
        key = case.rng.choice([key for key in entries if not key.startswith(b"__")])
        parts = list(msgpack.unpackb(entries[key]))
        place = next(at for at, part in enumerate(parts) if isinstance(part, int))
        lost.append(parts[0])
        parts[place] = case.rng.choice(["abc", -1, 0.5, None])
        entries[key] = msgpack.packb(parts)

    change_tree(case, change)
    return case.believed(case.alone(lost[0]))


def label_moved(case: Case) -> Expected | None:
    """One label is another person's: the data says so, and so must the reader, or it knows better."""
    family = case.layout.family
    if family in ("folders", "zips", "tars", "parquet"):
        return None
    case.make()
    if family == "shards":
        entry = case.one()
        (label,) = labels_of(case, entry)[:1]
        number = re.compile(rb"\d+(?=\D*$)" if not label.name.endswith(".json") else rb'(?<="label": "n)\d+')
        label.data = number.sub(b"%d" % len(case.people), label.data, count=1)
        case.contents.save()
        return case.believed(case.alone(entry.data))
    if family == "lists":
        listed, entry = Listed(case), case.one()
        if listed.name in BY_FOLDER:
            return None
        at, person = listed.of(entry), case.rng.randrange(len(case.people) + 1)
        listed.units[at] = listed.label(listed.units[at], str(person))
        listed.save()
        return case.only(case.moved(entry.data, person))
    if family == "records":
        rec, places = picture_records(case)
        data, offset = case.rng.choice(sorted(places.items()))
        person = case.rng.randrange(len(case.people) + 1)
        set_label(rec, offset, float(person))
        if case.own or case.layout.name.endswith(("DCFace", "im2rec", "CVLface")):
            return case.whole()  # a list, or the manifest, says otherwise
        return case.only(case.moved(data, person))
    return None


def index_shifted(case: Case) -> Expected | None:
    """An index that points elsewhere, or twice to one place."""
    family = case.layout.family
    if family == "records":
        case.make()
        rec, lines = records_of(case)
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
        write_index(rec, lines)
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

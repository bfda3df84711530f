"""Pictures that are there twice, gone, empty, cut, of a kind that is not read, or of two people."""

from __future__ import annotations

import re
from collections.abc import Callable

from containers import ARCHIVED, Entry
from damage_case import Case, Expected
from damage_containers import (
    Listed,
    labels_of,
    picture_records,
    pictures_of_table,
    records_of,
    rewrite_rows,
    write_index,
)
from people_given import groups

GIF, TIFF = b"GIF89a" + bytes(60), b"II*\0" + bytes(60)


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
        rows = pictures_of_table(path, case.who)
        if not rows:
            return None  # of paths
        at = case.rng.randrange(len(rows))
        rewrite_rows(case, path, lambda order: [*order, at])
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
    return case.believed(groups(twice))


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
        rec, lines = records_of(case)
        offset = lines[-1][1]
        _, places = picture_records(case)
        lost = [data for data, at in places.items() if at == offset]
        rec.write_bytes(rec.read_bytes()[:offset])
        write_index(rec, lines[:-1])
        return case.only() if lost else case.whole()  # a list, a count or a range of keys knows the picture
    if family == "parquet":
        files = case.files("*.parquet")
        if len(files) < 2:
            return None
        gone = case.rng.choice(files)
        lost = pictures_of_table(gone, case.who)
        told = "-of-" in gone.name or gone != files[-1]
        gone.unlink()
        return case.only(*([] if told else [case.without(*lost)]))
    return None


def altered(case: Case, change: Callable[[bytes], bytes]) -> Expected | None:
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
    return altered(case, lambda data: b"")


def picture_cut(case: Case) -> Expected | None:
    """A picture that ends early."""
    return altered(case, lambda data: data[: case.rng.randrange(1, len(data) - 40)])


def picture_unread(case: Case) -> Expected | None:
    """A picture of a kind that no decoder here reads, under the name of one that is."""
    return altered(case, lambda data: case.rng.choice([GIF, TIFF, b"BM" + bytes(9), data[::-1]]))


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
        for label in labels_of(case, entry)[:1]:
            name = re.sub(r"^(.*/)?([^/.]*)", r"\g<0>9", label.name, count=1)
            case.contents.held.append(Entry(label.holder, name, label.data))
        stem = re.match(r"^(.*/)?[^/.]*", entry.name)
        assert stem
        case.contents.held.append(Entry(entry.holder, f"{stem[0]}9{ending}", data))
    else:
        case.contents.held.append(Entry(entry.holder, entry.beside(f"{entry.base[:-4]}x{ending}"), data))
    case.contents.save()
    return case.only(groups(case.people)) if case.own else case.only()


def shared_picture(case: Case) -> Expected | None:
    """One picture of two people, byte for byte."""
    if case.own:
        return None
    people = [[*pictures] for pictures in case.people]
    one, other = case.rng.sample(range(len(people)), 2)
    people[other].append(case.rng.choice(people[one]))
    case.make(people)
    return Expected((groups(people),))

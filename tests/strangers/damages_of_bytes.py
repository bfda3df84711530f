"""Files that end early, bits of headers, the order and the spelling of what they hold."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path

from containers import ARCHIVED
from damage_case import Case, Expected
from damage_containers import Listed, picture_records, records_of, rewrite_rows, tree_file, write_index
from damages_of_pictures import altered
from people_given import groups

LONG = "李雷-" + "long" * 30


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
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as first:
            members = first.getmembers()
    except tarfile.TarError:
        return case.whole()
    end = members[-1].offset_data + -(-members[-1].size // 512) * 512
    if len(data) < end + 512 or len(data) % 512 or any(data[end:]):
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
        return altered(case, lambda data: bytes([data[0] ^ 1 << case.rng.randrange(8)]) + data[1:])
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
        path, places = picture_records(case)
        at = rng.choice(sorted(places.values()))
        at += +rng.choice([*range(12), *range(16, 32)])  # the label itself: label_moved, label_text
    elif family == "lmdb":
        path = tree_file(case)
        data = path.read_bytes()
        starts = range(0, len(data), 4096)  # pages behind the first of a large value have no header
        page = rng.choice(
            [n for n, at in enumerate(starts) if int.from_bytes(data[at : at + 8], "little") == n]
        )
        overflow = data[4096 * page + 10] & 4  # whose value begins behind 16 bytes
        at = 4096 * page + rng.randrange(152 if page < 2 else 16 if overflow else 24)
    else:
        path = rng.choice(case.files("*.parquet"))
        at = rng.choice([rng.randrange(4), path.stat().st_size - 1 - rng.randrange(8)])
    held = bytearray(path.read_bytes())
    held[at] ^= 1 << rng.randrange(8)
    path.write_bytes(held)
    return expected


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
        rec, lines = records_of(case)
        case.rng.shuffle(lines)
        write_index(rec, lines)
        return case.whole(must=True)
    if family == "parquet":
        path = case.rng.choice(case.files("*.parquet"))
        rewrite_rows(case, path, lambda order: case.rng.sample(order, len(order)))
        return case.whole(must=not case.own)
    return None


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

"""What lies beside a set or within it and is not of it; and what of it lies elsewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from all_layouts import People, picture
from containers import ARCHIVED, Entry
from damage_case import Case, Expected

FOREIGN = ("README.md", "LICENSE", "preview.html", "statistics.yaml", "train.log")

APPLEDOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(64)


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
    second_set(case, second, [[picture(900 + n), picture(950 + n)] for n in range(2)])
    for file in sorted(second.rglob("*")):
        if file.suffix in (".tar", ".gz", ".rec", ".idx", ".parquet", ".lmdb"):
            target = root / re.sub(r"train|faces|web4m|file|shard|^", "test-", file.name, count=1)
            if file.is_file():
                shutil.copy(file, target)
    return case.whole()


def second_set(case: Case, folder: Path, people: People) -> Path:
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


def set_beside(case: Case) -> Expected | None:
    """Another set of the same kind, of other people under the same numbers."""
    case.make()
    root = case.path if case.path.is_dir() else case.path.parent
    second = case.folder.with_name("second")
    second.mkdir()
    others = [[picture(900 + 2 * n), picture(901 + 2 * n)] for n in range(3)]
    made = second_set(case, second, others)
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

"""Which person each picture of a folder, zip or tar shows, by the folders it lies in; one rule for all three.

A folder that holds pictures is a person. Folders above it are a path: two levels (`group/person`) are read, several
sets (`train/person` beside `test/person`) are named and one is asked for. What would merge people, split one in two or
lose a picture is refused with counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import EXAMPLES, Account, Tally
from v2f_engine.data.formats.folders.container_files import LISTS, Names, is_list, kinds_of, sorted_out
from v2f_engine.data.formats.folders.flat_names import read_flat_names
from v2f_engine.data.formats.folders.set_words import holds_everything
from v2f_engine.data.formats.folders.sets import Parts, one_set, shared_depth
from v2f_engine.data.gate.pictures import is_hidden, suffix_of
from v2f_engine.data.layout import ABOUT
from v2f_engine.errors import DatasetError

_LISTS_READ = 64
"""Texts looked into, the least deep first: some sets have one beside each picture."""
_MOST_OF_ONE = 1000
"""Pictures that one person may have who is alone in a set; the largest of MS1M has 602, of VGGFace2 843."""


@dataclass(frozen=True)
class People:
    """Who is on which picture.

    Args:
        rows: int64 `[N]`: place of each picture in the names given, in the order of the set.
        labels: int64 `[N]`: rank of its class name.
        class_names: sorted.
        account: of all names given, and of what the caller had counted.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: list[str]
    account: Account


def people_of(files: Names, tally: Tally, split: str | None = None) -> People:
    """The pictures of a container and whom they show.

    Args:
        files: what it holds.
        tally: counts the names; what is no regular file was counted by the caller.
        split: which of several sets.

    Raises:
        DatasetError: no picture, several sets and none asked for, pictures that no decoder reads, pictures without a
            person's folder, folders that say no person clearly, or archives beside the folders.
    """
    folders, others = sorted_out(files, tally)
    if not folders:
        held = Counter(suffix_of(name) or "no ending" for name in files.names)
        raise DatasetError(
            f"{files.path}: no image; expected folders such as 000000/ holding 000.jpg and so on, found "
            f"{len(files.names)} files{kinds_of(held)}."
        )
    chosen, remarks = one_set(files.path, list(folders), split)
    for folder in sorted(folders.keys() - set(chosen)):
        tally.asides("pictures of other splits", (files.names[row] for row in folders[folder]))
    tally.remarks += remarks
    by_class = _flat(files, folders, chosen, others, tally) or _by_folder(files, folders, chosen)
    if len(by_class) == 1:
        _one_person(files, others, by_class, tally)
    without = _without_pictures(files, others, folders)
    if without:
        tally.remarks.append(
            f"{len(without)} folders without a picture, such as {', '.join(without[:EXAMPLES])}"
        )
    rows: list[int] = []
    labels: list[int] = []
    for label, name in enumerate(sorted(by_class)):
        rows += by_class[name]
        labels += [label] * len(by_class[name])
    for _ in rows:
        tally.image()
    account = tally.close(len(by_class)).check(files.path)
    return People(np.asarray(rows, np.int64), np.asarray(labels, np.int64), sorted(by_class), account)


def _by_folder(files: Names, folders: dict[Parts, list[int]], chosen: list[Parts]) -> dict[str, list[int]]:
    """Class name -> its pictures, sorted by name."""
    if () in folders:
        loose = [files.names[row] for row in folders[()]]
        raise DatasetError(
            f"{files.path}: {len(loose)} pictures lie beside {len(folders) - 1} folders of people, such as "
            f"{loose[0]!r}; expected each in its person's folder. Move them there, or out of this folder if they "
            "are no faces."
        )
    known = set(chosen)
    for folder in chosen:
        above = next((folder[:cut] for cut in range(1, len(folder)) if folder[:cut] in known), None)
        if above is not None:
            raise DatasetError(
                f"{files.path}: {'/'.join(above)!r} holds {len(folders[above])} pictures itself and "
                f"{len(folders[folder])} more in {'/'.join(folder)!r}: one person or several? Put a person's "
                "pictures into one folder."
            )
    shallowest = min(map(len, chosen))
    names = {folder[-1]: folder for folder in chosen if len(folder) == shallowest}
    again = next((folder for folder in chosen if len(folder) > shallowest and folder[-1] in names), None)
    if again is not None:
        raise DatasetError(
            f"{files.path}: {'/'.join(names[again[-1]])!r} and {'/'.join(again)!r}: one person, two of one name, "
            "or two sets? Put a person's pictures into one folder, or give one of the sets."
        )
    depth = shared_depth(chosen)
    depths = {len(folder) for folder in chosen}
    tops = Counter(folder[depth] for folder in chosen)
    if len(depths) > 1 and tops.most_common(1)[0][1] > 1:
        shallow, deep = min(chosen, key=len), max(chosen, key=len)
        raise DatasetError(
            f"{files.path}: folders of people lie at several depths, such as {'/'.join(shallow)!r} and "
            f"{'/'.join(deep)!r}: which folder is a person is not clear. Bring them to one depth, or give one of "
            "them."
        )
    skip = 0 if files.whole_paths else depth
    return {
        "/".join(folder[skip:]): sorted(folders[folder], key=files.names.__getitem__) for folder in chosen
    }


def _flat(
    files: Names, folders: dict[Parts, list[int]], chosen: list[Parts], others: list[int], tally: Tally
) -> dict[str, list[int]] | None:
    """Class name -> pictures where all lie in one folder that is no person's; None where folders say who."""
    if len(chosen) > 1:
        depth = shared_depth(chosen)
        if max(map(len, chosen)) > depth + 1:
            levels = max(map(len, chosen)) - depth
            tally.remarks.append(
                f"people's folders lie {levels} levels deep: a class is a path, such as "
                f"{'/'.join(max(chosen)[depth:])}"
            )
        return None
    folder = chosen[0]
    rows = folders[folder]
    names = [files.names[row].rpartition("/")[2] for row in rows]
    flat = read_flat_names(names)
    counts = Counter(flat.identities)
    no_person = not folder or holds_everything(folder[-1])
    if not no_person and len(counts) < 2 and len(flat.several) < 2:
        return None
    _no_list(files, others, "no picture lies in a person's folder")
    what = "/".join(folder) or "the folder"
    if not no_person and min(counts.values(), default=0) < 2:
        spoken = len(counts) or len(flat.several)
        raise DatasetError(
            f"{files.path}: {len(rows)} pictures in one folder {what!r}, whose names speak of {spoken} people "
            f"({names[0]}): one person or several? Give each person a folder, or give a list of `path label`."
        )
    if not flat.identities:
        raise DatasetError(
            f"{files.path}: {len(rows)} pictures lie in {what} without a folder for each person, such as "
            f"{names[0]!r}; expected a folder an identity, or names {{identity}}_{{number}}.png with numbers from "
            f"0 or 1 without a gap, but {flat.why_not}. Make folders, or a list of `path label`. Grids of one "
            "person's faces (IDiff-Face's identity blocks) must be split first."
        )
    tally.remarks.append(
        f"no folders of people: identities by the names, {{identity}}_{{number}}, such as {names[0]}"
    )
    by_class: dict[str, list[tuple[int, int]]] = {}
    for row, identity, number in zip(rows, flat.identities, flat.numbers, strict=True):
        by_class.setdefault(identity, []).append((number, row))
    return {identity: [row for _, row in sorted(held)] for identity, held in by_class.items()}


def _one_person(files: Names, others: list[int], by_class: dict[str, list[int]], tally: Tally) -> None:
    """Says that a set shows one person; raises where a list says otherwise, or where nobody has so many pictures."""
    name, rows = next(iter(by_class.items()))
    _no_list(files, others, "all pictures lie in one folder")
    if len(rows) > _MOST_OF_ONE:
        raise DatasetError(
            f"{files.path}: all {len(rows)} pictures lie in one folder {name!r}, such as {files.names[rows[0]]!r}: "
            f"expected a folder an identity, and at most {_MOST_OF_ONE} pictures of one who is alone. Make "
            "folders, or a list of `path label`."
        )
    tally.remarks.append(f"one identity: all pictures lie in the folder {name}")


def _no_list(files: Names, others: list[int], why: str) -> None:
    """Raises where a list beside the pictures says who they show, and the folders do not."""
    lists = [row for row in others if suffix_of(files.names[row]) in LISTS]
    for row in sorted(lists, key=lambda row: files.names[row].count("/"))[:_LISTS_READ]:
        if is_list(files.head(row)):
            raise DatasetError(
                f"{files.path}: {why}, and {files.names[row]!r} lists pictures with labels. Give that list instead "
                "of the folder (unpack it first where it lies in an archive), or take it away if the folders are "
                "right."
            )


def _without_pictures(files: Names, others: list[int], folders: Iterable[Parts]) -> list[str]:
    """Folders, sorted, in and below which no picture lies."""
    above = {"/".join(folder[:cut]) for folder in folders for cut in range(len(folder) + 1)}
    named = {files.names[row].rpartition("/")[0] for row in others} | set(files.empty)
    return sorted(
        name for name in named - above if name and not is_hidden(name) and ABOUT not in name.split("/")
    )

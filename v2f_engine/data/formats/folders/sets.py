"""The sets that folders of people make: one, or several of which one is asked for (`train/person`, `test/person`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from v2f_engine.data.formats.folders.set_words import holds_everything, split_word
from v2f_engine.data.formats.lists.label_values import refuse_two_spellings
from v2f_engine.data.formats.splits import choose, remark

Parts = tuple[str, ...]
"""A folder's path."""


def shared_depth(folders: Iterable[Parts]) -> int:
    """How many leading parts the folders above all of these share."""
    parents = [folder[:-1] for folder in folders]
    shared = 0
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return shared


def one_set(path: Path, folders: list[Parts], split: str | None) -> tuple[list[Parts], list[str]]:
    """(folders of the one set that is meant, remarks)."""
    depth = shared_depth(folders)
    found = _sets(folders, depth)
    if len(found) > 1:
        name, chosen = choose(path, found, split)
        inner, remarks = one_set(path / name, chosen, None)
        return inner, [*remark(found, name), *remarks]
    if split is not None and split not in folders[0][: max(depth, 1)]:
        choose(path, {"": folders}, split)
    refuse_two_spellings(map("/".join, folders), str(path))
    return folders, []


def _sets(folders: list[Parts], depth: int) -> dict[str, list[Parts]]:
    """The sets that the folders make: name -> folders; `""` for all, where they are one."""
    one = {"": folders}
    if len(folders) == 1 or () in folders:
        return one
    tops: dict[str, list[Parts]] = {}
    leaves: dict[str, list[Parts]] = {}
    for folder in folders:
        tops.setdefault(folder[depth], []).append(folder)
        leaves.setdefault(folder[-1], []).append(folder)
    deep = max(map(len, folders)) > depth + 1
    if len(tops) > 1 and ((deep and any(map(split_word, tops))) or all(map(holds_everything, tops))):
        return tops
    if len(leaves) > 1 and min(map(len, folders)) > depth + 1 and all(map(holds_everything, leaves)):
        return leaves  # person/train beside person/test
    if deep and len(leaves) < len(folders) and any(len(below) > 1 for below in tops.values()):
        return tops  # the same person's name in several of them: sets, or takes of one person
    return one

"""The files of a folder, zip or tar, sorted out: pictures by folder, others, and what stops the reading."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from v2f_engine.data.formats.account import Tally
from v2f_engine.data.formats.folders.sets import Parts
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_hidden, suffix_of
from v2f_engine.data.layout import ABOUT, OLD_SHEET
from v2f_engine.errors import DatasetError

HIDDEN = "hidden and system files"
ABOUT_THE_SET = "pictures about the set"
NO_PICTURES = "files that are no pictures"
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")
"""Files that may hold pictures of their own; `.npy.gz` and the like do not count."""
LISTS = (".txt", ".csv", ".tsv", ".lst", ".jsonl")
_NO_PICTURE = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".lst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".pts"),
        *(".npy", ".npz", ".mat", ".pkl", ".pt", ".pth", ".py", ".log"),
    )
)
_LOOKED_INTO = 256
"""Files of unknown kind whose first bytes are looked at."""
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8")
_LISTED = re.compile(rb"\.(jpe?g|png|bmp|webp)[\"']?[\s,;]+[\"']?\S", re.IGNORECASE)


@dataclass(frozen=True)
class Names:
    """The regular files of a container.

    Args:
        path: of the container, for messages.
        names: their paths inside it, `/` between parts, each once.
        head: the first bytes of a file, by its place in `names`; looked at where a list may contradict the folders.
        empty: folders without any file.
        whole_paths: classes are called by their whole path, as in archives; else without what all share.
    """

    path: Path
    names: Sequence[str]
    head: Callable[[int], bytes]
    empty: Sequence[str] = ()
    whole_paths: bool = False


def sorted_out(files: Names, tally: Tally) -> tuple[dict[Parts, list[int]], list[int]]:
    """(pictures by folder, places of files that are none); hidden files are set aside."""
    by_folder: dict[str, list[int]] = {}
    hidden: dict[str, bool] = {}
    others: list[int] = []
    unread: list[str] = []
    for row, name in enumerate(files.names):
        folder, _, base = name.rpartition("/")
        if folder not in hidden:
            hidden[folder] = is_hidden(folder)
        if hidden[folder] or is_hidden(base):
            tally.aside(HIDDEN, name)
            continue
        suffix = suffix_of(base)
        if suffix in IMAGE_SUFFIXES:
            by_folder.setdefault(folder, []).append(row)
        elif suffix in UNREAD_SUFFIXES:
            unread.append(name)
        else:
            others.append(row)
    if unread:
        kinds = Counter(suffix_of(name) for name in unread)
        raise DatasetError(
            f"{files.path}: {len(unread)} pictures of kinds that are not read{kinds_of(kinds)}, such as "
            f"{unread[0]!r}; expected {', '.join(IMAGE_SUFFIXES)}. Convert them, or take them away if they are no "
            "faces."
        )
    _refuse_repeats(files, by_folder)
    _refuse_disguised(files, others)
    folders = {tuple(folder.split("/")) if folder else (): rows for folder, rows in by_folder.items()}
    for about in [parts for parts in folders if ABOUT in parts]:
        tally.asides(ABOUT_THE_SET, (files.names[row] for row in folders.pop(about)))
    if len(folders) > 1 and () in folders:
        sheets = [row for row in folders[()] if files.names[row] == OLD_SHEET]
        tally.asides(ABOUT_THE_SET, (files.names[row] for row in sheets))
        folders[()] = [row for row in folders[()] if row not in sheets]
        if not folders[()]:
            del folders[()]
    tally.asides(NO_PICTURES, (files.names[row] for row in others))
    archives = [files.names[row] for row in others if is_archive(files.names[row])]
    if archives and folders:
        raise DatasetError(
            f"{files.path}: {len(archives)} archives lie beside the pictures, such as {archives[0]!r}: whether "
            "they hold other pictures is not known. Give the archive itself, or move it away."
        )
    return folders, others


def _refuse_repeats(files: Names, by_folder: dict[str, list[int]]) -> None:
    pictures = [files.names[row] for rows in by_folder.values() for row in rows]
    if len(set(pictures)) < len(pictures):
        twice = [name for name, count in Counter(pictures).items() if count > 1]
        raise DatasetError(
            f"{files.path}: {len(twice)} names of pictures stand there more than once, such as {twice[0]!r}: which "
            "file is meant cannot be known, or two sets lie together. Unpack it, or give each archive by itself."
        )


def _refuse_disguised(files: Names, others: list[int]) -> None:
    """Raises where files without a picture's ending hold pictures."""
    odd = [
        row
        for row in others
        if suffix_of(files.names[row]) not in _NO_PICTURE and not is_archive(files.names[row])
    ]
    found = [files.names[row] for row in odd[:_LOOKED_INTO] if files.head(row).startswith(_MAGIC)]
    if found:
        raise DatasetError(
            f"{files.path}: {len(odd)} files have no ending of a picture, and {len(found)} of those looked into "
            f"hold one, such as {found[0]!r}. Give them the ending of their kind ({', '.join(IMAGE_SUFFIXES)}), or "
            "take them away."
        )


def is_archive(name: str) -> bool:
    """Whether a file of this name may hold pictures of its own."""
    suffix = suffix_of(name)
    stem = name[: -len(suffix)] if suffix else name
    return suffix in ARCHIVES and (suffix not in (".gz", ".bz2", ".xz", ".zst") or suffix_of(stem) == ".tar")


def kinds_of(counts: Counter[str]) -> str:
    return (
        " (" + ", ".join(f"{kind}: {count}" for kind, count in counts.most_common(4)) + ")" if counts else ""
    )


def is_list(head: bytes) -> bool:
    """Whether the first bytes of a text are lines that name pictures and say something of each."""
    lines = [line for line in head.splitlines()[:50] if line.strip()]
    return bool(lines) and 2 * sum(_LISTED.search(line) is not None for line in lines) >= len(lines)

"""Which Parquet files make a set: Hugging Face's names of splits, configurations and shards, its converter's folders.

`data/train-00000-of-00002.parquet` (`datasets`, older ones with a hash behind), `CONFIG/train-00000-of-00001.parquet`,
`default/train/0000.parquet` and `default/partial-train/0000.parquet` (the converter bot of the Hub), `train/x.parquet`,
`train.parquet`, `x.parquet`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from v2f_engine.data.formats.account import EXAMPLES
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.data.layout import PARQUET
from v2f_engine.errors import DatasetError

DEPTH, FOLDERS = 3, 256
"""Folders below the set in which files are looked for, and how many a folder may have: people's have more."""
KEYWORDS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation")
"""Words in names of files and folders that are splits, as the Hub takes them."""
_SHARD = re.compile(r"(?P<name>.+?)[-_](?P<number>\d+)[-_]of[-_](?P<of>\d+)(-[0-9a-f]+)?")
_NUMBERED = re.compile(r"\d{4}")
_COUNTED = re.compile(r"(.*\D)?(\d{1,6})")
_WORDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=\d)")


@dataclass
class FileSet:
    """The files of one set, in order.

    Args:
        files: them.
        of: how many each shard's name speaks of; empty where names do not.
        numbers: of the shards.
    """

    files: list[Path] = field(default_factory=list)
    of: set[int] = field(default_factory=set)
    numbers: list[int] = field(default_factory=list)

    def checked(self, where: str) -> FileSet:
        """Itself, with all its shards.

        Raises:
            DatasetError: one is missing, or they are of two sets.
        """
        if len(self.of) > 1:
            raise DatasetError(
                f"{where}: shards of {' and of '.join(map(str, sorted(self.of)))} files lie in one folder; keep one "
                "set."
            )
        if self.numbers and len(self.numbers) < len(self.files):
            raise DatasetError(
                f"{where}: {len(self.numbers)} shards and {len(self.files) - len(self.numbers)} other files: which "
                "are the set?"
            )
        numbers = self.numbers or self._counted()
        first = min(numbers, default=0)
        if self.numbers:
            first = 1 if self.of and max(self.of) in numbers else 0  # `datasets` and the bot count from 0
        count = max(self.of) if self.of else max(numbers, default=first - 1) + 1 - first
        expected = range(first, first + count)
        missing = sorted(set(expected) - set(numbers))
        if missing:
            raise DatasetError(
                f"{where}: {len(missing)} of {len(expected)} files are missing: numbers {missing[:EXAMPLES]}; found "
                f"{', '.join(file.name for file in self.files[:EXAMPLES])}. Fetch them; without them pictures would "
                "be missing."
            )
        if len(set(self.numbers)) < len(self.numbers):
            raise DatasetError(
                f"{where}: {len(self.files)} files for {len(set(self.numbers))} shards: one stands there twice."
            )
        return self

    def _counted(self) -> list[int]:
        """Numbers at the end of the files' names, where all have one behind the same text and count from 0 or 1."""
        found = [_COUNTED.fullmatch(file.name.removesuffix(".parquet")) for file in self.files]
        numbers = [int(match[2]) for match in found if match]
        same = len({match[1] for match in found if match}) == 1 and len(numbers) == len(self.files)
        return numbers if same and min(numbers) <= 1 else []


def parquet_sets(path: Path) -> tuple[dict[str, FileSet], list[str]]:
    """(name -> files of the sets at `path`, hidden files).

    The name is the split, or `config/split` where there are several configurations.
    """
    if path.is_file():
        _, split, _, of = _place(path.name)
        return {split: FileSet([path], of={of} if of is not None and of > 1 else set())}, []
    found: dict[tuple[str, str], FileSet] = {}
    hidden = []
    for file in _files(path, DEPTH):
        name = file.relative_to(path).as_posix()
        if is_hidden(name):
            hidden.append(name)
            continue
        config, split, number, of = _place(name)
        files = found.setdefault((config, split), FileSet())
        files.files.append(file)
        if number is not None:
            files.numbers.append(number)
        if of is not None:
            files.of.add(of)
    several = len({config for config, _ in found}) > 1
    named = {
        "/".join(filter(None, (config if several else "", split))): files
        for (config, split), files in found.items()
    }
    if len(named) < len(found):
        raise DatasetError(
            f"{path}: a folder and a file are called alike: {sorted(named)}; open the one that is meant."
        )
    return named, hidden


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Parquet files in a folder and in those inside it, sorted; people's folders are not searched."""
    inside, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.name)
                if len(folders) > FOLDERS:
                    depth = 0
                    folders = []
            elif entry.name.endswith(".parquet"):
                inside.append(entry.name)
    yield from (folder / name for name in sorted(inside))
    if depth:
        for name in sorted(folders):
            yield from _files(folder / name, depth - 1)


def _place(name: str) -> tuple[str, str, int | None, int | None]:
    """(configuration, split, number of the shard, how many there are) that a file's path says."""
    *folders, file = name.removesuffix(".parquet").split("/")
    if folders[:1] == [PARQUET]:
        folders = folders[1:]
    shard = _SHARD.fullmatch(file)
    if shard is not None:
        return "/".join(folders), shard["name"], int(shard["number"]), int(shard["of"])
    number = _NUMBERED.fullmatch(file)
    if folders and (_keyword(folders[-1]) or number is not None):
        return "/".join(folders[:-1]), folders[-1], None if number is None else int(file), None
    if number is not None:
        return "/".join(folders), "", int(file), None
    return "/".join(folders), _keyword(file), None, None


def _keyword(name: str) -> str:
    """The split that a name speaks of, `""` where it does not: `train_01` is of `train`, `partial-train` of itself."""
    if name.startswith("partial-"):
        return name
    found = [word for word in _WORDS.split(name.lower()) if word in KEYWORDS]
    return found[0] if len(found) == 1 else ""

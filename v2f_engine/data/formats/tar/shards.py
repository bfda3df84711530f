"""Tar shards of strangers, read to the last member: samples with labels (people's folders: `tar_folders`)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import Account, Tally
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.folders.archives import Tars, open_tars, refuse_shared
from v2f_engine.data.formats.folders.container_files import LISTS, is_list
from v2f_engine.data.formats.folders.set_words import stem_of
from v2f_engine.data.formats.lists.label_values import LAST_RESORT, PERSON_NAMES, grouping, is_number
from v2f_engine.data.formats.tar.blobs import Blob
from v2f_engine.data.formats.tar.members import Member, scan
from v2f_engine.data.formats.tar.sample_labels import check_size, labels_of, scalars, text
from v2f_engine.data.formats.tar.samples import Sample, samples_of
from v2f_engine.data.formats.tar.shard_members import IMAGE_TYPES, LABEL_TYPES, Shard, shard_of
from v2f_engine.errors import DatasetError

_LOOKED_AT = 64
"""Samples of a shard whose `.json` is looked into where `.cls` labels them."""


class Shards(Dataset):
    """Labelled samples of tar shards that somebody else wrote.

    Args:
        path: a tar, compressed or not, or a folder of them.
        split: which of several sets.

    Raises:
        DatasetError: members that make no whole samples, labels that cannot be told, shards that lack samples their
            index states.
    """

    def __init__(self, path: Path, split: str | None = None, tars: Tars | None = None) -> None:
        super().__init__(path, "webdataset", split)
        tars = tars or open_tars(path, split)
        if tars.inside is not None:
            raise DatasetError(
                f"{path}: no set {tars.inside!r} in {len(tars.blobs)} shards; their names speak of none."
            )
        self._blobs = tars.blobs
        tally = Tally("members", remarks=tars.remarks)
        read = [_read(blob, tally) for blob in tars.blobs]
        counts = [len(shard.offsets) for shard in read]
        archives = [blob.path for blob in tars.blobs]
        _check_index(path, archives, counts)
        kinds = sorted({shard.kind for shard in read if len(shard.offsets)})
        if len(kinds) != 1:
            found = f"labels of several kinds, {', '.join(kinds)}; expected one" if kinds else "no sample"
            raise DatasetError(f"{path}: {found} in {len(read)} shards.")
        self._places = np.repeat(np.arange(len(read)), counts)
        self._offsets = np.concatenate([shard.offsets for shard in read])
        self._sizes = np.concatenate([shard.sizes for shard in read])
        labels = labels_of(kinds[0], [held for shard in read for held in shard.held], str(path))
        self._labels, self._names = labels.values, labels.names
        known = self._names or _Numbers()
        refuse_shared(path, archives, self._places, self._labels, known)
        self._refuse_all_equal({name for shard in read for name in shard.fields})
        tally.remarks += [*labels.remarks, *_gaps(archives)]
        self._account = tally.close(len(np.unique(self._labels))).check(path)

    def _refuse_all_equal(self, fields: Collection[str]) -> None:
        """Raises where all labels are one, and a list beside the shards or a field inside them may know better."""
        if len(self._labels) < 2 or len(np.unique(self._labels)) > 1:
            return
        folder = self.path if self.path.is_dir() else self.path.parent
        lists = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in LISTS and _is_list(file)]
        if lists or fields:
            types = sorted(name for name in fields if name.startswith("."))
            named = f"fields of .json ({', '.join(sorted(set(fields) - set(types)))})"
            what = f"the list {lists[0].name}" if lists else f"members {', '.join(types)}" if types else named
            raise DatasetError(
                f"{self.path}: all {len(self._labels)} samples have the label {self._labels[0]}, and {what} may "
                "tell people apart. Write the right labels into .cls, or take the other away if this is one person."
            )

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    @property
    def class_names(self) -> list[str] | None:
        """The name of each label, where shards hold names."""
        return self._names

    def account(self) -> Account:
        return self._account

    def where(self, index: int) -> str:
        return f"{self._blobs[int(self._places[index])].path}: sample at {int(self._offsets[index])}"

    def data(self, index: int) -> bytes:
        return self._blobs[int(self._places[index])].read(int(self._offsets[index]), int(self._sizes[index]))


def _gaps(archives: Sequence[Path]) -> list[str]:
    """What a user should know where shards are numbered and numbers between them are not there: `00000`, `00002`."""
    found = [re.findall(r"\d+", tar.name.partition(".")[0]) for tar in archives]
    if len(archives) < 2 or len({stem_of(tar.name) for tar in archives}) > 1 or not all(found):
        return []
    numbers = {int(each[-1]) for each in found}
    absent = sorted(set(range(min(numbers), max(numbers))) - numbers) if max(numbers) < 1 << 20 else []
    if not absent or len(numbers) < len(archives):
        return []
    return [
        f"shards are numbered {min(numbers)} to {max(numbers)}, {len(absent)} of these numbers are not there, such as "
        f"{absent[0]}"
    ]


def is_labelled(blobs: Sequence[Blob]) -> bool:
    """Whether tars hold samples with labels, rather than people's folders: by the first that holds any.

    `.json` and `.txt` beside pictures in folders label them only where they say more than a row's number or a caption.
    """
    for blob in blobs:
        shard = shard_of(scan(blob), str(blob.path), Tally("members"))
        if shard.parts:
            return _is_labelled(shard, blob)
    return False


def _is_labelled(shard: Shard, blob: Blob) -> bool:
    if shard.kind in ("cls", "class", "label", "identity") or not shard.labelled:
        return shard.labelled
    if not any("/" in part.key for part in shard.parts if part.type in IMAGE_TYPES):
        return True
    first = next(part.member for part in shard.parts if part.type == shard.kind)
    data = blob.read(first.offset, min(first.size, 1 << 16))
    if shard.kind == "json":
        return any(name not in LAST_RESORT for name in scalars(data, first.name))
    return shard.kind == "txt" and is_number(data.decode("utf-8", "replace").strip())


class _Numbers(Sequence[str]):
    """Names of labels that are numbers."""

    def __len__(self) -> int:
        return 1 << 62

    def __getitem__(self, label: Any) -> Any:
        return str(label)


class _Read(NamedTuple):
    """What one shard holds: pictures' places, labels' contents, and what else might label them."""

    kind: str
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    held: list[str | Mapping[str, str]]
    fields: frozenset[str]


def _read(blob: Blob, tally: Tally) -> _Read:
    shard = shard_of(scan(blob), str(blob.path), tally)
    samples = samples_of(shard, tally)
    held: list[str | Mapping[str, str]] = []
    seen: dict[tuple[str, int], list[Member]] = {}
    for sample in samples:
        _refuse_twice(sample, seen, blob)
        where = f"{blob.path}: {sample.label.name}"
        check_size(sample.label, shard.kind, str(blob.path))
        data = blob.read(sample.label.offset, sample.label.size)
        held.append(scalars(data, where) if shard.kind == "json" else sys.intern(text(data, where)))
    beside = [part for sample in samples[:_LOOKED_AT] for part in sample.others]
    rows = [
        scalars(blob.read(part.member.offset, part.member.size), part.member.name)
        for part in beside
        if part.type == "json" and part.member.size < 1 << 16
    ]
    if len(rows) == len(samples[:_LOOKED_AT]):
        _refuse_disagreement(blob, shard.kind, held[: len(rows)], rows)
    fields = {name for row in rows for name in row}
    fields |= {
        f".{part.type}" for part in beside if part.type in LABEL_TYPES and part.type not in ("json", "txt")
    }
    offsets = np.array([sample.image.offset for sample in samples], np.int64)
    sizes = np.array([sample.image.size for sample in samples], np.int64)
    return _Read(shard.kind, offsets, sizes, held, frozenset(fields))


def _refuse_disagreement(
    blob: Blob, kind: str, held: Sequence[str | Mapping[str, str]], rows: Sequence[Mapping[str, str]]
) -> None:
    """Raises where a field of `.json` that can mean only a person groups samples otherwise than their labels."""
    for name in ("label", "labels", *PERSON_NAMES):
        values = [row.get(name) for row in rows]
        if None not in values and grouping(values) != grouping(map(str, held)):
            raise DatasetError(
                f"{blob.path}: the labels of .{kind} and the field {name!r} of .json disagree: "
                f"{len(set(map(str, held)))} and {len(set(values))} values in the first "
                f"{len(rows)} samples, such as {str(held[0])!r} and "
                f"{values[0]!r}. Which is the person? Keep that one."
            )


def _refuse_twice(sample: Sample, seen: dict[tuple[str, int], list[Member]], blob: Blob) -> None:
    """Raises where a key and its picture stand in one shard twice."""
    same = seen.setdefault((sample.key, sample.image.size), [])
    if same:
        data = blob.read(sample.image.offset, sample.image.size)
        if any(blob.read(other.offset, other.size) == data for other in same):
            raise DatasetError(
                f"{blob.path}: the sample {sample.key!r} stands there twice, byte for byte; expected each once. "
                "Write the shard again."
            )
    same.append(sample.image)


def _is_list(file: Path) -> bool:
    with open(file, "rb") as opened:
        return is_list(opened.read(4096))


def _check_index(path: Path, tars: Sequence[Path], counts: Sequence[int]) -> None:
    """Raises where a wids index in the folder, or in the one above as `imagelist2webdataset.py` puts it, knows more."""
    folder = path if path.is_dir() else path.parent
    held = {tar.name: count for tar, count in zip(tars, counts, strict=True)}
    for file in (*sorted(folder.glob("*.json")), *sorted(folder.parent.glob("*webdataset*.json"))):
        stated = _index(file)
        if not held.keys() & stated.keys():
            continue
        missing = sorted(stated.keys() - held.keys()) if path.is_dir() else []
        wrong = [name for name in held if name in stated and held[name] != stated[name]]
        if missing or wrong:
            name = (missing or wrong)[0]
            raise DatasetError(
                f"{path}: {file} states {len(stated)} shards with {sum(stated.values())} samples, found "
                f"{len(held)} with {sum(held.values())}; first difference: {name}, {stated[name]} stated, "
                f"{held.get(name, 'no shard')} found. Fetch the missing shards, or correct the index."
            )


def _index(file: Path) -> dict[str, int]:
    """Name of each shard -> samples, of a wids index; empty where a file is none."""
    try:
        if file.stat().st_size > 1 << 26:
            return {}
        shards = json.loads(file.read_bytes())["shardlist"]
        return {str(each["url"]).rpartition("/")[2]: int(each["nsamples"]) for each in shards}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}

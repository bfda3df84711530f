"""An LMDB of face images as a dataset; the file underneath is `tree_reader`'s, the records are `entries`'s."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import Account, Tally
from v2f_engine.data.formats.dataset import Dataset, Record
from v2f_engine.data.formats.lmdb.entries import packed_label, unpack_record
from v2f_engine.data.formats.lmdb.keys import (
    found_keys,
    refuse_unnamed,
    stated_classes,
    stated_keys,
    stated_length,
    unnamed,
)
from v2f_engine.data.formats.lmdb.tree_reader import TreeReader, data_files
from v2f_engine.data.formats.splits import choose, remark
from v2f_engine.data.layout import LMDB
from v2f_engine.errors import DatasetError


class Lmdb(Dataset):
    """Reads an LMDB of face images, this engine's or a stranger's."""

    composite = True

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "lmdb", split)
        found = {"": path / LMDB} if self.manifest is not None else data_files(path)
        if not found:
            raise DatasetError(f"{path}: expected one LMDB file (*.lmdb or data.mdb), found none.")
        name, file = choose(path, found, split)
        self._remarks = remark(found, name)
        self.tree = TreeReader(file)
        count = stated_length(self.tree)
        if count is None:
            self._keys: tuple[bytes, ...] | None = found_keys(self.tree)
            self._remarks += ("no __len__: every key is a record",)
        else:
            self._keys = None if self.manifest is not None else stated_keys(self.tree, count)
        self._count = len(self._keys or ()) if count is None else count
        if self.manifest is not None and self._count != sum(shard.count for shard in self.manifest.shards):
            raise DatasetError(f"{path}: __len__ says {self._count}, its manifest another number of images.")

    def account(self) -> Account:
        about, others, missing = unnamed(self.tree, self._keys, self._count)
        refuse_unnamed(self.tree, others, missing, self._count)
        tally = Tally("keys", self._count, self._count, remarks=list(self._remarks))
        tally.asides("entries about the set", (key.decode("ascii", "replace") for key in about))
        return tally.close(len(np.unique(self.labels))).check(self.path)

    def __len__(self) -> int:
        return self._count

    def _key(self, index: int) -> bytes:
        return self._keys[index] if self._keys is not None else b"%d" % index

    def parts(self, index: int) -> Record:
        """Record `index`, taken apart.

        Raises:
            DatasetError: missing or broken.
        """
        key = self._key(index)
        value = self.tree.get(key)
        if value is None:
            raise DatasetError(f"{self.where(index)}: no entry under key {key!r}.")
        return unpack_record(value, self.where(index))

    def label(self, index: int) -> int:
        extent = self.tree.find(self._key(index))
        label = None if extent is None else packed_label(extent.size, partial(self.tree.read_part, extent))
        return self.parts(index).label if label is None else label

    def stated_classes(self) -> int | None:
        return stated_classes(self.tree)

    def data(self, index: int) -> bytes:
        return self.parts(index).image

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        known = self.planned_labels()
        return self.labels_one_by_one(self._count) if known is None else known

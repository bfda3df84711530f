"""An LMDB of face images as a dataset; the file underneath is `tree_reader`'s, the records are `entries`'s."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.dataset import Dataset, Record
from v2f_engine.data.formats.lmdb.entries import packed_label, unpack_record, unpack_value
from v2f_engine.data.formats.lmdb.tree_reader import TreeReader, data_file
from v2f_engine.errors import DatasetError


class Lmdb(Dataset):
    """Reads an LMDB of face images, this engine's or a stranger's."""

    composite = True

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "lmdb", split)
        self.tree = TreeReader(data_file(path))
        count = self._number(b"__len__")
        self._count = count
        # a cut-off __keys__ or __len__ would show here, not after an epoch
        if count > self.tree.entries:
            raise DatasetError(f"{path}: __len__ says {count}, the file holds {self.tree.entries} entries.")
        self._keys = None if self.manifest is not None else self._foreign_keys()

    def _number(self, key: bytes) -> int:
        value = self.tree.get(key, limit=64)
        number = None if value is None else unpack_value(value, f"{self.path}: {key!r}")
        if type(number) is not int or number < 0:
            raise DatasetError(f"{self.path}: expected a count under {key!r}, found {number!r:.40}.")
        return number

    def _foreign_keys(self) -> tuple[bytes, ...] | None:
        """The key list, where it is not just 0, 1, 2, ..."""
        value = self.tree.get(b"__keys__")
        if value is None:
            return None
        keys = unpack_value(value, f"{self.path}: __keys__")
        if (
            not isinstance(keys, tuple)
            or len(keys) < self._count
            or not all(type(key) is bytes for key in keys)
        ):
            raise DatasetError(f"{self.path}: __keys__ is not a list of {self._count} keys.")
        keys = keys[: self._count]
        return None if all(key == b"%d" % index for index, key in enumerate(keys)) else keys

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

    def data(self, index: int) -> bytes:
        return self.parts(index).image

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        known = self.planned_labels()
        return self.labels_one_by_one(self._count) if known is None else known

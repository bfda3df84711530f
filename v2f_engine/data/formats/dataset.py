"""What every dataset offers a reader, whatever its format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from v2f_engine import notebook
from v2f_engine.batch import IMAGE_SIZE, ImageBatch
from v2f_engine.data.formats.account import Account
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.resize import Resized
from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.errors import RowError, V2FError
from v2f_engine.indexing import Rows, chosen


class Record(NamedTuple):
    """A record, taken apart: encoded image, label; in a generator's set also a feature's .npy, a landmark picture."""

    image: bytes
    label: int
    feature: bytes | None = None
    landmark: bytes | None = None


class Dataset(ABC):
    """Encoded face images with labels, by index.

    Args:
        path: file or folder, for messages.
        format: name in `formats.READERS`.
        split: which of several sets at `path` was asked for; None where there is one.

    `manifest` is the one beside the data, where this engine wrote it.
    `labels` is int64 `[N]`. `record(i)` is (encoded bytes, label); `image(i)` the decoded uint8 `[H, W, 3]`
    RGB. Safe to use from several threads, and after a fork.

    `dataset[i]` is the decoded (image, label), so that a torch `DataLoader` takes a dataset as it is;
    `dataset[10:20]`, a mask or row numbers an `ImageBatch`. Going through a dataset gives `record`s, encoded, as
    whoever copies or converts reads them. A notebook shows the first people.
    """

    composite = False
    """Whether a record may hold more than image and label: `parts` then reads it, and labels are read one by one."""

    def __init__(self, path: Path, format: str, split: str | None = None) -> None:
        self.path = path
        self.format = format
        self.split = split
        self.manifest = Manifest.load(path / MANIFEST) if (path / MANIFEST).is_file() else None

    @property
    @abstractmethod
    def labels(self) -> NDArray[np.int64]:
        """int64 `[N]`."""

    @abstractmethod
    def data(self, index: int) -> bytes:
        """The encoded image `index`."""

    @abstractmethod
    def account(self) -> Account:
        """What the container holds and what this reader makes of it, to the last member (`v2f inspect` prints it).

        Raises:
            DatasetError: a member that is neither an image of the set nor set aside for a stated reason.
        """

    def told(self) -> list[str]:
        """What a user should see unasked of how a stranger's set is read (`Account.told`); empty for our own.

        Raises:
            DatasetError: as `account`.
        """
        return [] if self.manifest is not None else self.account().told()

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, index: int) -> int:
        """The label of image `index` alone: a damaged record elsewhere does not matter.

        Raises:
            DatasetError: it cannot be read.
        """
        return int(self.labels[index])

    def parts(self, index: int) -> Record:
        """Record `index`, taken apart, its label unread (0) where the format is not `composite`.

        Raises:
            DatasetError: missing or broken.
        """
        return Record(self.data(index), 0)

    @property
    def class_names(self) -> list[str] | None:
        """The name of each label; None where labels have none."""
        return None

    def stated_classes(self) -> int | None:
        """How many people the container says that it holds, whoever its labels name; None where it does not say."""
        return None

    def planned_labels(self) -> NDArray[np.int64] | None:
        """Labels of a finished dataset from its manifest alone; None when there is none or its plan fixes none."""
        if self.manifest is None or not self.manifest.complete or not self.manifest.plan.uniform:
            return None
        plan = self.manifest.plan
        return np.repeat(np.arange(plan.identities, dtype=np.int64), plan.images_per_id)

    def labels_one_by_one(self, count: int) -> NDArray[np.int64]:
        """int64 `[count]` from the records themselves."""
        return np.fromiter((self.label(index) for index in range(count)), np.int64, count)

    def where(self, index: int) -> str:
        """What to call image `index` in messages."""
        return f"{self.path}: record {index}"

    def record(self, index: int) -> tuple[bytes, int]:
        """(encoded bytes, label) of image `index`.

        Raises:
            RowError: no such image.
            DatasetError: the record is broken.
        """
        if not 0 <= index < len(self):
            raise RowError(f"{self.path}: record {index} does not exist; there are {len(self)}.")
        return self.data(index), int(self.labels[index])

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        for index in range(len(self)):
            yield self.record(index)

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> tuple[NDArray[np.uint8], int]: ...
    @overload
    def __getitem__(self, rows: Rows) -> ImageBatch: ...
    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> tuple[NDArray[np.uint8], int] | ImageBatch:
        """(image uint8 `[H, W, 3]`, label) of one row, or an `ImageBatch` of several; negative rows from the end.

        Raises:
            RowError: a row that is not there, or no index.
            DatasetError: a record is broken, or of several one is neither 112x112 nor square.
        """
        place = chosen(str(self.path), rows, len(self))
        if isinstance(place, int):
            return self.image(place), int(self.labels[place])
        numbers = np.arange(len(self), dtype=np.int64)[place] if isinstance(place, slice) else place
        return ImageBatch(self.images(numbers), self.labels[numbers], self._image_numbers(numbers))

    def _image_numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64: how many images of the same person come before each of `rows`."""
        people, found = np.unique(self.labels[rows], return_inverse=True)
        places = [np.flatnonzero(self.labels == person) for person in people]
        counted = (np.searchsorted(places[who], row) for who, row in zip(found, rows, strict=True))
        return np.fromiter(counted, np.int64, len(rows))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.format}, {len(self):,} images)"

    def _repr_html_(self) -> str:
        try:
            labels, names = self.labels, self.class_names
            rows = [
                (
                    names[label] if names is not None and label < len(names) else f"label {label}",
                    self.images(places[: notebook.IMAGES]),
                    len(places) - len(places[: notebook.IMAGES]),
                )
                for label, places in notebook.by_person(labels)
            ]
        except V2FError as error:
            return notebook.facts(str(self.path), {"cannot be shown": error})
        people = len(np.unique(labels))
        more = people - len(rows)
        title = f"{self.path}: {len(self):,} images of {people:,} people ({self.format})"
        return notebook.faces(title, rows, f"and {more:,} more people" if more else "")

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image `index`, decoded: uint8 `[H, W, 3]`, RGB."""
        return decode(self.record(index)[0], self.where(index))

    def images(self, indices: Sequence[int] | NDArray[np.int64], threads: int = 1) -> NDArray[np.uint8]:
        """Several decoded faces: uint8 `[B, 112, 112, 3]`, RGB; decoding leaves the GIL.

        Square pictures of another size are resized by the rule of `gate.resize`; `resized` counts them.

        Raises:
            DatasetError: an image is broken, or neither 112x112 nor square; the message names it.
        """
        batch = np.empty((len(indices), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        resized = self.resized  # made here, once: threads would each make their own

        def fill(row: int) -> None:
            index = int(indices[row])
            batch[row] = resized.face(self.image(index), index, self.where(index))

        if threads <= 1 or len(indices) < 2:
            for row in range(len(indices)):
                fill(row)
        else:
            list(self._pool(threads).map(fill, range(len(indices)), chunksize=8))
        return batch

    def batches(self, size: int, threads: int = 1) -> Iterator[ImageBatch]:
        """All images in order, decoded, `size` at a time; `identity` is the label, `image` its count."""
        seen: dict[int, int] = {}
        for start in range(0, len(self), size):
            rows = np.arange(start, min(len(self), start + size), dtype=np.int64)
            labels = self.labels[rows]
            numbers = np.empty_like(labels)
            for row, label in enumerate(labels.tolist()):
                numbers[row] = seen[label] = seen.get(label, -1) + 1
            yield ImageBatch(self.images(rows, threads), labels, numbers)

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        key = (os.getpid(), threads)  # a pool's threads do not survive a fork
        if self._pools.get("key") != key:
            self._pools = {"key": key, "pool": ThreadPoolExecutor(threads, "v2f-decode")}
        pool = self._pools["pool"]
        assert isinstance(pool, ThreadPoolExecutor)
        return pool

    @cached_property
    def resized(self) -> Resized:
        """Which pictures had another size than 112x112 when `images` or a training set read them."""
        return Resized(len(self))

    @cached_property
    def _pools(self) -> dict[str, object]:
        return {}

    def __reduce__(self) -> tuple[object, tuple[Path, str | None]]:
        """Pickles as path and split, of which readers are made: data-loader processes open it themselves."""
        return type(self), (self.path, self.split)

    @property
    def classes(self) -> int:
        """Number of distinct identities, taken as largest label + 1."""
        return int(self.labels.max()) + 1 if len(self) else 0

    def attributes(self) -> NDArray[np.void] | None:
        """Per-image attributes (structured, `[N]`, in record order), or None where none were recorded."""
        from v2f_engine.data.records.sidecar import read_attributes

        return None if self.manifest is None else read_attributes(self.path, self.manifest)

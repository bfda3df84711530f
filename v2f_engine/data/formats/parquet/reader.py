"""Parquet files of pictures as a dataset, ours or a stranger's."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from v2f_engine.data.formats.account import EXAMPLES, Account, Tally
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.folders.archives import refuse_shared
from v2f_engine.data.formats.lists.label_values import PERSON_NAMES, grouping
from v2f_engine.data.formats.parquet.columns import Columns, columns_of, labels_of
from v2f_engine.data.formats.parquet.files import FileSet, parquet_sets
from v2f_engine.data.formats.splits import choose, remark
from v2f_engine.data.layout import PARQUET
from v2f_engine.errors import DatasetError


class ParquetDataset(Dataset):
    """Reads Parquet files of pictures and labels; which files and columns: `files`, `columns`."""

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "parquet", split)
        if self.manifest is not None:
            found = {"train": FileSet(sorted((path / PARQUET).glob("*.parquet")))}
            self._hidden: list[str] = []
        else:
            found, self._hidden = parquet_sets(path)
        if not any(files.files for files in found.values()):
            raise DatasetError(
                f"{path}: no .parquet file; expected data/train-00000-of-00001.parquet and so on."
            )
        name, files = (
            choose(path, found, split) if split in found or len(found) > 1 else next(iter(found.items()))
        )
        self._name = name
        self._paths = (
            files.checked(f"{path}: {name}" if name else str(path)).files if path.is_dir() else files.files
        )
        self._unnumbered = self.manifest is None and not files.numbers
        self._remarks = remark(found, name)
        if name.rpartition("/")[2].startswith("partial-"):
            self._remarks += ("a partial conversion: the Hub's bot writes the first 5 GB of a large set",)
        if path.is_file() and any(files.of):
            self._remarks += (f"one of {max(files.of)} files of the split {name}",)
        if files.numbers and not files.of:
            self._remarks += (f"{len(files.files)} files, whose names do not say how many there are",)
        groups: list[tuple[int, int, int]] = []
        kinds: list[Columns] = []
        for number in range(len(self._paths)):
            meta, columns = self._inspected(number)
            kinds.append(columns)
            groups += [
                (number, group, meta.row_group(group).num_rows) for group in range(meta.num_row_groups)
            ]
        self._columns = self._same(kinds)
        self._groups = groups
        self._starts = np.concatenate([[0], np.cumsum([rows for _, _, rows in groups], dtype=np.int64)])
        self._column = lru_cache(maxsize=8)(self._read_column)
        self._rows = self._chosen(split if name != split else None)
        if self.manifest is not None:
            count = sum(record.count for record in self.manifest.shards)
            if count != int(self._starts[-1]):
                raise DatasetError(
                    f"{path}: expected {count} rows by its manifest, found {int(self._starts[-1])}."
                )

    def _open(self, number: int) -> Any:
        try:
            return pq.ParquetFile(self._paths[number], page_checksum_verification=True)
        except (
            pa.ArrowException,
            OSError,
            UnicodeDecodeError,
        ) as error:  # the last: a damaged name of a column
            raise DatasetError(f"{self._paths[number]}: expected a Parquet file: {error}.") from error

    def _inspected(self, number: int) -> tuple[Any, Columns]:
        with self._open(number) as file:
            meta, columns = file.metadata, columns_of(file.schema_arrow, str(self._paths[number]))
        held = sum(meta.row_group(group).num_rows for group in range(meta.num_row_groups))
        if held != meta.num_rows:
            raise DatasetError(
                f"{self._paths[number]}: {meta.num_rows} rows, its {meta.num_row_groups} row groups hold {held}: the "
                "file is damaged."
            )
        return meta, columns

    def _chosen(self, split: str | None) -> NDArray[np.int64] | None:
        """Rows of the split that is asked for, where a column says of which a row is; None where all are of one.

        Raises:
            DatasetError: rows of several splits and none asked for, or none of that name.
        """
        if self._columns.split is None:
            found: dict[str, NDArray[np.int64]] = {self._name: np.zeros(0, np.int64)}
        else:
            parts = [self._read_column(group, (self._columns.split,)) for group in range(len(self._groups))]
            names = np.array([str(text) for part in parts for text in part.to_pylist()], object)
            found = {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
        if split is None and len(found) == 1:
            return None
        name, rows = choose(self.path, found, split)
        self._remarks += remark(found, name)
        return rows

    def _same(self, kinds: list[Columns]) -> Columns:
        """The columns of all files, which are the same.

        Raises:
            DatasetError: a file with others.
        """
        for path, columns in zip(self._paths, kinds, strict=True):
            if columns != kinds[0]:
                raise DatasetError(
                    f"{path}: {_said(columns)}; {self._paths[0].name}: {_said(kinds[0])}. Expected the same in all "
                    "files of a set."
                )
        return kinds[0]

    def _read_column(self, group: int, place: tuple[str, ...]) -> Any:
        """A column of a row group, or a field of one, as one Arrow array."""
        number, row_group, rows = self._groups[group]
        name, *inner = place
        try:
            with self._open(number) as file:
                column = (
                    file.read_row_group(row_group, columns=[".".join(place)]).column(name).combine_chunks()
                )
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DatasetError(
                f"{self._paths[number]}: row group {row_group} is damaged: {error}."
            ) from error
        if len(column) != rows:  # pyarrow reads a column chunk that a damaged footer lost as an empty one
            raise DatasetError(
                f"{self._paths[number]}: row group {row_group} has {rows} rows, {len(column)} of them in "
                f"{'.'.join(place)}: the file is damaged."
            )
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0)
        for part in inner:
            column = pc.struct_field(column, part)
        return column

    @cached_property
    def _labels(self) -> tuple[NDArray[np.int64], list[str] | None]:
        parts = [self._read_column(group, self._columns.label) for group in range(len(self._groups))]
        labels, names = labels_of(parts, self._columns, str(self.path))
        if self._unnumbered:
            counts = [rows for _, _, rows in self._groups]
            places = np.repeat([number for number, _, _ in self._groups], counts).astype(np.int64)
            refuse_shared(self.path, self._paths, places, labels, names or range(1 << 62))
        labels = labels if self._rows is None else labels[self._rows]
        if len(labels) > 1 and (labels == labels[0]).all() and self._columns.unread:
            raise DatasetError(
                f"{self.path}: all {len(labels)} values of {'.'.join(self._columns.label)} are equal, and there are "
                "columns "
                f"{', '.join(self._columns.unread)}: which is the person? Call the right one label."
            )
        self._refuse_disagreement(parts)
        return labels, names

    def _refuse_disagreement(self, labels: list[Any]) -> None:
        """Raises where a column that can mean only a person groups the rows otherwise than the labels do."""
        for name in self._columns.unread:
            if name.lower().removeprefix("json.") not in PERSON_NAMES:
                continue
            place = ("json", name.removeprefix("json.")) if name.startswith("json.") else (name,)
            other = [self._read_column(group, place) for group in range(len(self._groups))]
            first, second = (
                grouping(value for part in each for value in part.to_pylist()) for each in (labels, other)
            )
            if first != second:
                raise DatasetError(
                    f"{self.path}: the columns {'.'.join(self._columns.label)} and {name} disagree: "
                    f"{max(first) + 1} and {max(second) + 1} values in {len(first)} rows. "
                    "Which is the person? Keep that one, called label."
                )

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels[0]

    @property
    def class_names(self) -> list[str] | None:
        """Texts of the label column, or the names of a ClassLabel; None where labels are numbers."""
        return self._labels[1]

    def data(self, index: int) -> bytes:
        index = index if self._rows is None else int(self._rows[index])
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - int(self._starts[group])
        value: object = self._column(group, self._columns.image)[row].as_py()
        if value is None and self._columns.names is not None:
            return self._beside(index, group, row)
        if not isinstance(value, bytes):
            raise DatasetError(f"{self.where(index)}: no image bytes; expected them inside the Parquet file.")
        return value

    def _beside(self, index: int, group: int, row: int) -> bytes:
        """The picture that a row names instead of holding it."""
        name = self._column(group, self._columns.names)[row].as_py()
        folders = [
            self._paths[self._groups[group][0]].parent,
            self.path if self.path.is_dir() else self.path.parent,
        ]
        inside = bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts
        for folder in folders if inside else []:
            if (folder / name).is_file():
                return bytes((folder / name).read_bytes())
        raise DatasetError(
            f"{self.where(index)}: no image bytes, and its path {name!r} lies neither in {folders[0]} nor in "
            f"{folders[1]}; expected "
            "the bytes inside the Parquet file."
        )

    def account(self) -> Account:
        """Every row; those without bytes are read from the files that they name, or refused with their number."""
        absent = []
        for group, (number, row_group, _) in enumerate(self._groups):
            if self._empty(number, row_group):
                places = np.flatnonzero(
                    self._column(group, self._columns.image).is_null().to_numpy(zero_copy_only=False)
                )
                absent += (places + int(self._starts[group])).tolist()
        if self._rows is not None:
            absent = np.flatnonzero(np.isin(self._rows, absent)).tolist()
        unread = []
        for index in absent:
            try:
                self.data(index)
            except DatasetError as error:
                unread.append(str(error))
        if unread:
            raise DatasetError(
                f"{self.path}: {len(unread)} of {len(self)} rows have no picture: {'; '.join(unread[:EXAMPLES])}"
            )
        tally = Tally("rows", len(self), len(self), remarks=list(self._remarks))
        tally.asides("hidden files", self._hidden)
        if self._rows is not None:
            others = np.setdiff1d(np.arange(int(self._starts[-1])), self._rows)
            tally.asides("rows of other splits", (f"row {row}" for row in others.tolist()))
        if absent:
            tally.remarks.append(f"{len(absent)} pictures are read from the files that the rows name")
        if self._columns.label != ("label",):
            tally.remarks.append(f"labels of the column {'.'.join(self._columns.label)}")
        if self._columns.unread:
            tally.remarks.append(f"columns that are not read: {', '.join(self._columns.unread)}")
        return tally.close(len(np.unique(self.labels))).check(self.path)

    def _empty(self, number: int, row_group: int) -> bool:
        """Whether a row group may hold a row without bytes: by its statistics, else by looking."""
        with self._open(number) as file:
            group = file.metadata.row_group(row_group)
            for place in range(group.num_columns):
                column = group.column(place)
                if column.path_in_schema == ".".join(self._columns.image) and column.is_stats_set:
                    nulls = column.statistics.null_count if column.statistics.has_null_count else None
                    return nulls is None or nulls > 0
        return True


def _said(columns: Columns) -> str:
    classes = "" if columns.class_names is None else f", {len(columns.class_names)} class names"
    return f"pictures in {'.'.join(columns.image)}, labels in {'.'.join(columns.label)} ({columns.kind}{classes})"

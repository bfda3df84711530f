"""Features with labels, wherever they lie: tables with labels beside, a file a feature, or inside a training LMDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import npy
from v2f_engine.data.formats import open_dataset
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.lists.image_list import root_of
from v2f_engine.data.formats.lists.table import read_list
from v2f_engine.data.training.features_file import check_record, dataset_of
from v2f_engine.data.training.row_reader import probe
from v2f_engine.errors import ConfigError, DatasetError, VectorError
from v2f_engine.pipeline.labels import TEXTS, Labels, is_feature, numbered, of_dataset, read_labels
from v2f_engine.vectors.centres import Blocks, Centres, People, person_centres
from v2f_engine.vectors.gate import DIMENSION
from v2f_engine.vectors.streams import BLOCK, parts_of
from v2f_engine.vectors.within import Within, fit_within

TABLES = (".npy", ".npz", ".pt", ".pth", ".safetensors")
"""Endings of files of features alone, which `vectors.containers` reads."""
PIECE = 2048
"""Features read one by one before they are added up: 4 MB."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Labelled:
    """Features in order, and whose each is.

    Args:
        name: for messages.
        labels: of the rows.
        blocks: of (codes, skip) makes the stream of all rows. Where features are read one by one, those of nobody
            (code below 0) are not read and zero, and with `skip` those that cannot be read are NaN instead of refused.
        stated: how many people the container says it holds; None where it does not.
        from_people: how the people were told, for people.
    """

    name: str
    labels: Labels
    blocks: Callable[[NDArray[np.int64], bool], Blocks] = field(repr=False)
    stated: int | None = None
    from_people: str = "labels"


def centres_of(
    sources: Sequence[str | Path],
    labels: str | Path | None = None,
    *,
    mask: str | Path | None = None,
    people: int | None = None,
    unit: bool = False,
    on_bad: str = "refuse",
    dimension: int | None = DIMENSION,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Centres:
    """The mean feature of each person: `vectors.centres.person_centres` on features wherever they lie.

    Args:
        sources: files of features `[N, D]` or folders of `.npy`, in order; or one of: a list of `.npy` paths, a folder
            of folders of `.npy` (a feature a file, a folder a person), a training LMDB with features in its records.
        labels: as in `read_labels`; None where records or folders say them, or where `v2f features`
            has noted the dataset.
        mask: `.npy` of row numbers: only these rows, and only their people.
        people: how many people there must be; by default what an LMDB states of itself.
        unit, progress: as in `person_centres`.
        on_bad: "refuse" names rows that are no features, "skip" leaves them out.
        dimension: entries a feature must have; None takes any.
        say: told how the people were told apart.

    Raises:
        ConfigError: labels given twice. VectorError, DatasetError: as named.
    """
    if on_bad not in ("refuse", "skip"):
        raise ConfigError(f"on_bad: expected refuse or skip, found {on_bad!r}.")
    found = labelled(sources, labels, dimension=dimension)
    own, stated = found.labels, found.stated
    if mask is not None:
        own, stated = own.kept_of(len(own), _mask(mask, len(own))), None
    _expect(own.people, people if people is not None else stated, found.name, people is not None)
    say(f"{len(own.people):,} people by {found.from_people}")
    skip = on_bad == "skip"
    stream = found.blocks(own.codes, skip)
    return person_centres(
        stream, own.codes, own.people, what=found.name, unit=unit, skip=skip, progress=progress
    )


def within_of(
    sources: Sequence[str | Path],
    labels: str | Path | None = None,
    *,
    dimension: int | None = DIMENSION,
    components: int | None = None,
    shrinkage: float | str = 0.0,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Within:
    """How images of one person differ: `vectors.within.fit_within` on features wherever they lie, in two passes.

    Args:
        sources, labels, dimension, say: as in `centres_of`.
        components, shrinkage: as in `fit_within`.
        progress: called with (rows done, rows in all), of both passes together.

    Raises:
        VectorError, DatasetError, ConfigError: as `centres_of` and `fit_within`.
    """
    found = labelled(sources, labels, dimension=dimension)
    own = found.labels
    _expect(own.people, found.stated, found.name, False)
    say(f"{len(own.people):,} people by {found.from_people}")

    def part(before: int) -> Progress | None:
        return None if progress is None else lambda done, rows: progress(before * rows + done, 2 * rows)

    blocks, name = found.blocks, found.name
    means = person_centres(blocks(own.codes, False), own.codes, own.people, what=name, progress=part(0))
    origin = f"{len(means)} people of {', '.join(Path(source).name for source in sources)}"
    return fit_within(
        blocks(own.codes, False),
        own.codes,
        means,
        components=components,
        shrinkage=shrinkage,
        origin=origin,
        progress=part(1),
    )


def labelled(
    sources: Sequence[str | Path], labels: str | Path | None = None, *, dimension: int | None = DIMENSION
) -> Labelled:
    """Opens features with their labels; see `centres_of`."""
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and (own := _self_labelled(paths[0], dimension)) is not None:
        if labels is not None:
            raise ConfigError(
                f"{paths[0]} says itself whose its features are ({own.from_people}), and --labels {labels} says it "
                "again. Leave one of them out."
            )
        return own
    parts = parts_of([str(path) for path in paths], dimension=dimension)
    rows, name = sum(len(array) for _, array in parts), ", ".join(map(str, paths))
    whose, found = _recorded(paths) if labels is None else (str(labels), read_labels(labels))
    if len(found) != rows:
        raise VectorError(
            f"{name}: {rows:,} rows of features, {whose}: {len(found):,} labels. Expected a label for every row, "
            "in its order."
        )

    def blocks(codes: NDArray[np.int64], skip: bool) -> Blocks:
        first = 0
        for _, array in parts:
            for start in range(0, len(array), BLOCK):
                yield first + start, array[start : start + BLOCK]
            first += len(array)

    return Labelled(name, found, blocks, from_people=f"the labels of {whose}")


def labels_itself(sources: Sequence[str | Path]) -> bool:
    """Whether what lies there says whose its features are, looked at by its kind alone: no table of features."""
    if len(sources) != 1:
        return False
    path = Path(sources[0])
    return path.suffix.lower() not in TABLES and not (path.is_dir() and any(path.glob("*.npy")))


def _recorded(paths: Sequence[Path]) -> tuple[str, Labels]:
    """(dataset, its labels), where `v2f features` has noted from which dataset it extracted the only file of features.

    Raises:
        VectorError: it has not, or the dataset is another by now.
    """
    told = dataset_of(paths[0]) if len(paths) == 1 else None
    if told is None or not Path(told[0]).exists():
        hint = "" if told is None else f" {told[0]}, from which they were extracted, is not there."
        raise VectorError(
            f"{', '.join(map(str, paths))}: nothing says whose each row is.{hint} Give --labels: a .npy or a text of a "
            "label a row, a table with a column of labels, or the dataset."
        )
    dataset = open_dataset(told[0], split=told[1])
    check_record(paths[0], dataset.labels)
    return told[0], of_dataset(dataset)


def _self_labelled(path: Path, dimension: int | None) -> Labelled | None:
    """What says itself whose its features are; None for tables of features alone."""
    if not labels_itself([path]):
        return None
    if path.is_file() and path.suffix.lower() in TEXTS:
        return _listed(path, dimension)
    if path.is_dir() and (people := sorted(_folders(path))):
        names = [folder.name for folder, _ in people]
        files = [file for _, own in people for file in own]
        codes = np.repeat(np.arange(len(people)), [len(own) for _, own in people])
        return _one_each(path, files, Labels(codes.astype(np.int64), names), "folders", dimension)
    return _in_records(path, open_dataset(path), dimension)


def _folders(path: Path) -> Iterator[tuple[Path, list[Path]]]:
    for folder in path.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            files = sorted(file for file in folder.glob("*.npy") if not file.name.startswith("."))
            if files:
                yield folder, files


def _listed(path: Path, dimension: int | None) -> Labelled:
    """A list of files of a feature each, as `center_features.py` takes."""
    table = read_list(path, is_feature, repeated=False)
    root = root_of(path, table.names[0])
    labels = numbered(table.labels)
    if table.class_names is not None:
        named = [table.class_names[label] for label in np.asarray(labels.people).tolist()]
        labels = Labels(labels.codes, named)
    how = f"the labels in {path}" if table.stated else f"the folders of the files in {path}"
    return _one_each(path, [root / name for name in table.names], labels, how, dimension)


def _one_each(path: Path, files: Sequence[Path], labels: Labels, how: str, dimension: int | None) -> Labelled:
    def read(row: int) -> NDArray[np.floating[Any]]:
        try:
            return parse_any(files[row].read_bytes(), str(files[row]))
        except OSError as error:
            raise VectorError(f"{files[row]}: cannot be read: {error.strerror}.") from error

    return Labelled(str(path), labels, _Pieces(read, str(path), dimension), from_people=how)


def _in_records(path: Path, dataset: Dataset, dimension: int | None) -> Labelled:
    if probe(dataset).feature_dim is None:
        raise DatasetError(
            f"{path} holds no features. Extract them first (v2f features {path} --out features.npy), or give an LMDB "
            "whose records are (jpeg, feature, label)."
        )

    def read(row: int) -> NDArray[np.floating[Any]]:
        feature = dataset.parts(row).feature
        if feature is None:
            raise VectorError(f"{dataset.where(row)}: expected (image, feature, label), found no feature.")
        return parse_any(feature, dataset.where(row))

    return Labelled(
        str(path),
        numbered(dataset.labels),
        _Pieces(read, str(path), dimension),
        stated=dataset.stated_classes(),
        from_people="the labels in its records",
    )


def parse_any(data: bytes, where: str) -> NDArray[np.floating[Any]]:
    """The floats in the bytes of a `.npy`, as one row; whether they are finite is looked at where rows are added up."""
    found = npy.from_bytes(data, where)
    if found.dtype.kind != "f" or not found.size:
        raise VectorError(f"{where}: expected one floating-point feature, found {found.dtype} {found.shape}.")
    return found.reshape(-1)


@dataclass(frozen=True)
class _Pieces:
    """A stream of features that are read one by one: `Labelled.blocks`.

    Args:
        read: of a row number gives the feature, or raises VectorError or DatasetError.
        name: for messages.
        dimension: entries a feature must have; None: those of the first.
    """

    read: Callable[[int], NDArray[np.floating[Any]]]
    name: str
    dimension: int | None

    def __call__(self, codes: NDArray[np.int64], skip: bool) -> Blocks:
        width = self.dimension
        for first in range(0, len(codes), PIECE):
            piece: list[NDArray[np.floating[Any]] | None] = []
            for row in range(first, min(len(codes), first + PIECE)):
                feature = self._one(row, width, skip) if codes[row] >= 0 else None
                width = width or (None if feature is None else len(feature))
                piece.append(feature)
            rows = np.zeros((len(piece), width or 1))
            for place, feature in enumerate(piece):
                if feature is not None:
                    rows[place] = feature if len(feature) else np.nan
            if width is not None:
                yield first, rows

    def _one(self, row: int, width: int | None, skip: bool) -> NDArray[np.floating[Any]]:
        """The feature of a row; an empty one where it cannot be read and may be left out."""
        try:
            feature = self.read(row)
            if width is not None and len(feature) != width:
                raise VectorError(
                    f"{self.name}: row {row} has a feature of {len(feature)} numbers, expected {width}. Features of "
                    "another length come from another extractor."
                )
        except (VectorError, DatasetError):
            if not skip:
                raise
            return np.zeros(0)
        return feature


def _mask(source: str | Path, rows: int) -> NDArray[np.int64]:
    array = npy.map_file(source)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise VectorError(f"{source}: expected row numbers [M], found {array.dtype} {list(array.shape)}.")
    if int(array.min()) < 0 or int(array.max()) >= rows:
        raise VectorError(
            f"{source}: row numbers {array.min()}..{array.max()}; there are rows 0..{rows - 1}."
        )
    kept = np.unique(array)
    if len(kept) < len(array):
        raise VectorError(
            f"{source}: {len(array) - len(kept):,} of {len(array):,} row numbers stand in it twice."
        )
    return kept.astype(np.int64)


def _expect(people: People, expected: int | None, name: str, asked: bool) -> None:
    """Refuses another number of people than there must be."""
    if expected is None or expected == len(people):
        return
    absent = ""
    if not isinstance(people, list) and expected > len(people):
        missing = np.setdiff1d(np.arange(min(expected, 10**8)), people)
        absent = f" No image of {', '.join(map(str, missing[:10].tolist()))}{', ...' if len(missing) > 10 else ''}."
    who = "--people says" if asked else "it says of itself (__classnum__) that it holds"
    raise VectorError(
        f"{name}: {who} {expected:,} people, its labels name {len(people):,}.{absent} Give --people {len(people)} if "
        "these are all."
    )

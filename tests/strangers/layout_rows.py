"""What the commands' functions answer to a layout of faces, held against the people that were put in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import picture_files
from all_layouts import Layout, picture
from numpy.typing import NDArray
from people_given import groups

from v2f_engine.data import convert_dataset, open_dataset, open_training_set
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.inspect_file import Inspected, _read
from v2f_engine.errors import V2FError
from v2f_engine.evaluate.source import open_source
from v2f_engine.models.features import extract_features
from v2f_engine.models.weights import load_recogniser

PEOPLE = [[picture(10 * person + number) for number in range(4)] for person in range(5)]

SIZES: Mapping[str, tuple[int, int]] = {
    "JPEG of 128x128": (128, 128),
    "JPEG of 160x160": (160, 160),
    "JPEG of 8x8": (8, 8),
    "JPEG of 112x96": (112, 96),
}


@dataclass
class Row:
    """One layout: its cells by column, and files as they lie."""

    name: str
    tool: str
    files: str
    cells: dict[str, str] = field(default_factory=dict)


def people(images: int, identities: int) -> str:
    return f"{images} images of {identities} people"


def refusal(error: V2FError, folder: Path) -> str:
    """An error in a cell: the sets that are asked about, or its class and first clause without paths."""
    text = " ".join(
        re.sub(rf"(?:/private)?{re.escape(str(folder))}[^\s:;,]*(?::| )?", "", str(error)).split()
    )
    several = re.search(r"\d+ sets: (.+?)\. Ask", text)
    if several:
        return f"asks: `--split` {several[1]}"
    clause = re.split(r"(?<=\D)[.;] |, such as|, found| \(it starts", text)[0].strip(" :.")
    if len(clause) > 80:
        clause = clause[:80].rpartition(" ")[0] + " ..."
    return f"refused: {type(error).__name__}: {clause}"


def cell(folder: Path, call: Callable[[], str]) -> str:
    try:
        return call()
    except V2FError as error:
        return refusal(error, folder)


def files_of(folder: Path) -> str:
    """What lies in a folder: names with `*` for numbers, each kind once."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    about = re.compile(r"/(README\.md|__about__|manifest\.json|attributes|contact_sheet)")
    kinds = dict.fromkeys(
        re.sub(r"\d+|(?<=Ann_)\w", "*", name) for name in found if not about.search(f"/{name}")
    )
    kinds = {name.replace("**", "*"): None for name in kinds}
    shown = [f"`{name.encode('utf-8', 'replace').decode()}`" for name in [*kinds][:3]]
    return ", ".join(shown) + (", ..." if len(kinds) > 3 else "")


@cache
def recogniser() -> Any:
    return load_recogniser("mini")


@cache
def feature(data: bytes) -> NDArray[np.float32]:
    """Of a picture by itself, float32 `[D]`."""
    return extract_features(recogniser().model, decode(data, "a picture")[None])[0]


def inspected(path: Path, split: str | None) -> str:
    found: Inspected = _read(path, split)
    if not found.account:
        return found.summary
    counted = re.search(r"(\d+) images of (\d+) identities", found.account[0])
    assert counted is not None
    assert found.sound
    aside = [line.partition(" (such as")[0] for line in found.account[1:] if " (such as" in line]
    return "; ".join([people(int(counted[1]), int(counted[2])), *aside])


def converted(path: Path, split: str | None, folder: Path, given: Sequence[Sequence[bytes]]) -> str:
    report = convert_dataset(path, folder / "converted", "imagefolder", split=split)
    held: dict[int, list[bytes]] = {}
    for data, label in open_dataset(folder / "converted"):
        held.setdefault(label, []).append(data)
    assert groups(list(held.values())) == groups(given), path
    return people(report.images, report.identities)


def evaluated(path: Path, split: str | None, given: Sequence[Sequence[bytes]]) -> str:
    """Two pictures of each person: the features that each has by itself, under its person."""
    source = open_source(path, recogniser=recogniser(), images_per_id=2, split=split)
    table = source.table()
    assert source.dataset is not None
    assert source.rows is not None
    of = {data: person for person, held in enumerate(given) for data in held}
    rows = [source.dataset.record(row)[0] for row in source.rows.tolist()]
    pairs = {(of[data], label) for data, label in zip(rows, table.labels.tolist(), strict=True)}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
    wanted = np.stack([feature(data) for data in rows])
    np.testing.assert_allclose(np.asarray(source.features), wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    return people(len(rows), len(pairs))


def trained(path: Path, split: str | None, given: Sequence[Sequence[bytes]]) -> str:
    """Every row, in one batch: its pixels and its person."""
    data = open_training_set(path, split=split)
    rows = data.read(list(range(len(data))))
    pixels = {decode(one, "a picture").tobytes(): person for person, held in enumerate(given) for one in held}
    labels = np.asarray(rows.labels).tolist()
    pairs = {(pixels[one.tobytes()], label) for one, label in zip(rows.images, labels, strict=True)}
    assert len(pairs) == len({one for one, _ in pairs}) == data.classes
    return people(len(data), data.classes)


def dataset_row(layout: Layout, folder: Path) -> Row:
    place = folder / "set"
    place.mkdir()
    path = layout.maker(place, PEOPLE)
    row = Row(layout.name, layout.tool, files_of(place))
    calls: dict[str, Callable[[str | None], str]] = {
        "inspect": lambda split: inspected(path, split),
        "convert": lambda split: converted(path, split, folder, PEOPLE),
        "evaluate": lambda split: evaluated(path, split, PEOPLE),
        "train": lambda split: trained(path, split, PEOPLE),
    }
    for name, call in calls.items():
        row.cells[name] = cell(folder, partial(call, None))
        if layout.split is not None:
            row.cells[name] += f"; then {cell(folder, partial(call, layout.split))}"
    return row


def _resized(path: Path, folder: Path, target: Path) -> str:
    report = convert_dataset(path, target, "imagefolder", resize=True)
    return people(report.images, report.identities)


def picture_row(name: str, given: Sequence[Sequence[bytes]], folder: Path) -> Row:
    """Folders of people whose pictures are of one kind."""
    import archive_files

    place = folder / "set"
    path = archive_files.plain(place, given)
    row = Row(name, "", "")
    row.cells["inspect"] = cell(folder, lambda: inspected(path, None))
    row.cells["convert"] = cell(folder, lambda: converted(path, None, folder, given))
    if row.cells["convert"].startswith("refused"):
        row.cells["convert"] += (
            f"; `--resize`: {cell(folder, lambda: _resized(path, folder, folder / 'resized'))}"
        )

    def features() -> str:
        source = open_source(path, recogniser=recogniser(), images_per_id=2)
        return people(len(source.features), len(np.unique(source.table().labels)))

    def rows() -> str:
        data = open_training_set(path)
        read = data.read(list(range(len(data))))
        return people(len(read.images), data.classes)

    row.cells["evaluate"], row.cells["train"] = cell(folder, features), cell(folder, rows)
    return row


def pixels(number: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(number).integers(0, 256, (14, 14, 3), np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


def picture_rows(folder: Path) -> Iterator[Row]:
    merged: dict[str, Row] = {}
    kinds = [(name, lambda n, make=make: make(pixels(n))[0]) for name, make in picture_files.KINDS]
    kinds += [(name, lambda n, sides=sides: _of_size(n, sides)) for name, sides in SIZES.items()]
    for name, make in kinds:
        given = [[make(2 * person + number) for number in range(2)] for person in range(3)]
        place = folder / name
        place.mkdir()
        row = picture_row(re.sub(r"orientation [2-8]", "orientation 2 to 8", name), given, place)
        known = merged.setdefault(row.name, row)
        assert known.cells == row.cells, (name, known.cells, row.cells)
    yield from merged.values()


def _of_size(number: int, sides: tuple[int, int]) -> bytes:
    import io

    from PIL import Image

    stream = io.BytesIO()
    grid = np.random.default_rng(number).integers(0, 256, (sides[0] // 8, sides[1] // 8, 3), np.uint8)
    Image.fromarray(np.kron(grid, np.ones((8, 8, 1), np.uint8))).save(stream, "JPEG", quality=90)
    return stream.getvalue()

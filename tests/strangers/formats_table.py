"""The tables of docs/formats.md: every layout is made, and given to what the commands call.

`make formats` writes them into the page. Every cell is what came out, held against the people that were put in:
pictures byte for byte, label for label, pixels and features.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import picture_files
import torch
import vector_files
import verification_files
import weight_files
from all_layouts import LAYOUTS, SPLIT_LAYOUTS, Layout, groups, picture
from numpy.typing import NDArray

from v2f_engine.data import convert_dataset, open_dataset, open_training_set
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.inspect_file import Inspected, _read
from v2f_engine.data.verification import open_verification_set
from v2f_engine.data.writing.convert_pairs import convert_pairs
from v2f_engine.errors import V2FError
from v2f_engine.evaluate.source import open_source
from v2f_engine.models.embedder import open_embedder
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.weights import convert as convert_weights
from v2f_engine.models.weights import load_recogniser
from v2f_engine.vectors.streams import open_vectors

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
BEGIN, END = "<!-- tables: written by `make formats` -->", "<!-- end of the tables -->"
COLUMNS = ("inspect", "convert", "evaluate", "train")
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


PAIRS: list[verification_files.Pair] = [
    ((n % 5, n % 4), (n % 5, (n + 1) % 4)) if n % 2 else ((n % 5, n % 4), ((n + 1) % 5, n % 3))
    for n in range(20)
]


def verification_rows(folder: Path) -> list[Row]:
    """Types of labels with equal answers are one row."""
    merged: dict[str, Row] = {}
    for row in _verification_rows(folder):
        row.name = re.sub(
            r"(array|list) of (\?|[uif]\d)$", "arrays and lists of ?, i1 ... u8, f2, f4, f8", row.name
        )
        assert merged.setdefault(row.name, row).cells == row.cells, row.name
    return list(merged.values())


def _verification_rows(folder: Path) -> Iterator[Row]:
    pictures = [PEOPLE[person][number] for pair in PAIRS for person, number in pair]
    same = [one[0] == two[0] for one, two in PAIRS]
    dialects = {
        **{f".bin, pictures as {name}": (name, "booleans", "tuple") for name in verification_files.PICTURES},
        **{f".bin, labels as {name}": ("bytes", name, "tuple") for name in verification_files.LABELS},
        **{f".bin, {name}": ("bytes", "booleans", name) for name in verification_files.ORDERS},
    }
    for name, dialect in dialects.items():
        place = folder / name
        place.mkdir()
        (place / "x.bin").write_bytes(verification_files.pickled(pictures, same, dialect, 4))
        yield _pairs_row(name, place, place / "x.bin", None, pictures, same)
    import lzma

    (folder / "xz").mkdir()
    (folder / "xz" / "x.bin.xz").write_bytes(
        lzma.compress(verification_files.pickled(pictures, same, ("bytes", "booleans", "tuple"), 4))
    )
    yield _pairs_row(".bin.xz", folder / "xz", folder / "xz" / "x.bin.xz", None, pictures, same)
    for name, make in verification_files.LAYOUTS:
        place = folder / name
        place.mkdir()
        yield _pairs_row(f"list, {name}", place, make(place, PEOPLE, PAIRS), place / "faces", pictures, same)


def _pairs_row(
    name: str, place: Path, path: Path, images: Path | None, pictures: list[bytes], same: list[bool]
) -> Row:
    row = Row(name, "", files_of(place))

    def said(pairs: int, genuine: int) -> str:
        return f"{pairs} pairs, {genuine} of one person"

    def evaluate() -> str:
        found = open_verification_set(path, images)
        assert list(found.encoded or ()) == pictures
        assert found.same.tolist() == same
        return said(len(found.same), int(found.same.sum()))

    def bin() -> str:
        report = convert_pairs(path, place / "made.bin", images)
        made = open_verification_set(place / "made.bin")
        assert list(made.encoded or ()) == pictures
        assert made.same.tolist() == same
        return said(report.pairs, report.same)

    row.cells["inspect"] = cell(place, lambda: inspected(path, None))
    row.cells["inspect"] = re.sub(r"verification set of (.*), all decoded.*", r"\1", row.cells["inspect"])
    row.cells["convert"] = cell(place, bin)
    row.cells["evaluate"] = cell(place, evaluate)
    row.cells["train"] = cell(place, lambda: trained(path, None, PEOPLE))
    row.cells = {name: re.sub(r"(?<=^refused: )(\w+):.*", r"\1", said) for name, said in row.cells.items()}
    return row


def vector_rows(folder: Path) -> Iterator[Row]:
    from archive_files import plain

    rows = np.random.default_rng(0).normal(size=(20, 512)).astype(np.float32)
    images = plain(folder / "images of them", PEOPLE)
    labels = folder / "labels.npy"
    np.save(labels, np.repeat(np.arange(5), 4))
    for name, make, rounding in vector_files.LAYOUTS:
        place = folder / name
        place.mkdir()
        path = make(place, rows)

        def vectors(path: Path = path, rounding: float = rounding) -> str:
            np.testing.assert_allclose(open_vectors(path), rows, rtol=rounding, atol=1e-7)
            return "20 vectors of 512"

        def evaluate(path: Path = path, rounding: float = rounding) -> str:
            table = open_source(path, labels=labels, recogniser=recogniser()).table()
            np.testing.assert_allclose(np.asarray(table.features), rows, rtol=rounding, atol=1e-7)
            return "20 features of 5 people"

        def train(path: Path = path) -> str:
            data = open_training_set(images, features=path)
            return f"features of {data.feature_dim} for {people(len(data), data.classes)}"

        row = Row(name, "", files_of(place))
        row.cells = {
            "inspect": cell(place, partial(inspected, path, None)),
            "generate --vectors": cell(place, vectors),
            "evaluate": cell(place, evaluate),
            "train --features": cell(place, train),
        }
        yield row


SMALL = IResNetConfig((1, 2, 1, 1), (8, 8, 16, 16), feature_dim=24)


def recogniser_rows(folder: Path) -> Iterator[Row]:
    torch.manual_seed(4)
    state = IResNet(SMALL).eval().state_dict()
    images = np.stack([decode(data, "a picture") for data in PEOPLE[0]])
    wanted: dict[str, NDArray[np.float32]] = {}
    for name, make in weight_files.CONTAINERS:
        place = folder / name
        place.mkdir()
        path = make(place, state)

        def evaluate(path: Path = path) -> str:
            found = open_embedder(path)
            features = found(images)
            key = str(found.describe()["channels"])
            np.testing.assert_array_equal(features, wanted.setdefault(key, features))
            return f"features of {features.shape[1]}"

        def convert(path: Path = path, place: Path = place) -> str:
            convert_weights(path, place / "ours" / "x.safetensors")
            found = load_recogniser(place / "ours" / "x.safetensors").model.state_dict()
            assert all(torch.equal(found[key], value) for key, value in state.items())
            return "safetensors, equal to the bit"

        row = Row(name.replace("_", " "), "", files_of(place))
        (place / "ours").mkdir()
        row.cells = {
            "inspect": cell(place, partial(inspected, path, None)),
            "convert": cell(place, convert),
            "evaluate": cell(place, evaluate),
        }
        yield row
    plain = open_embedder(onnx_files.network(folder / "plain.onnx"))(images)
    for name, keywords in onnx_files.GRAPHS.items():
        place = folder / f"onnx {name}"
        place.mkdir()
        path = onnx_files.network(place / "x.onnx", **keywords)

        def onnx(path: Path = path) -> str:
            features = open_embedder(path)(images)
            np.testing.assert_allclose(features, plain, rtol=0, atol=5e-3)
            return f"features of {features.shape[1]}"

        row = Row(f"ONNX, {name}", "", files_of(place))
        row.cells = {
            "inspect": cell(place, partial(inspected, path, None)),
            "convert": "",
            "evaluate": cell(place, onnx),
        }
        yield row


def _table(rows: Sequence[Row], *, files: bool = True) -> str:
    tool = any(row.tool for row in rows)
    heads = ["layout", *(["written by"] if tool else []), *(["files"] if files else []), *rows[0].cells]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        lines += [[row.name, *[row.tool] * tool, *[row.files] * files, *row.cells.values()]]
    return "\n".join("| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in lines)


def _all(layouts: Sequence[Layout], folder: Path) -> list[Row]:
    rows = []
    for number, layout in enumerate(layouts):
        place = folder / str(number)
        place.mkdir(parents=True)
        rows.append(dataset_row(layout, place))
    return rows


TITLES: Mapping[str, str] = {
    "folders": "Folders",
    "zips": "Zips",
    "tars": "Tars of folders",
    "shards": "WebDataset",
    "records": "RecordIO",
    "lmdb": "LMDB",
    "parquet": "Parquet",
    "lists": "Lists of pictures",
}


def tables(folder: Path) -> str:
    """All of them, in Markdown; layouts are made below `folder`."""
    parts = []
    for family, title in TITLES.items():
        rows = _all([layout for layout in LAYOUTS if layout.family == family], folder / family)
        parts.append(f"## {title}\n\n{_table(rows)}")
    parts.append(f"## Several sets in one place\n\n{_table(_all(SPLIT_LAYOUTS, folder / 'splits'))}")
    for title, make, files in (
        ("Pictures", picture_rows, False),
        ("Pairs for verification", verification_rows, True),
        ("Vectors and features", vector_rows, True),
        ("Recognisers", recogniser_rows, True),
    ):
        place = folder / title
        place.mkdir()
        parts.append(f"## {title}\n\n{_table(list(make(place)), files=files)}")
    return "\n\n".join(parts)


def committed() -> tuple[str, str, str]:
    """(text before the tables, tables, text behind) of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    held, _, behind = rest.partition(END)
    return before, held.strip(), behind


def main() -> int:
    before, _, behind = committed()
    with tempfile.TemporaryDirectory() as folder:
        made = tables(Path(folder))
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{behind}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The same for pairs, vectors and recognisers: what came out, held against what was put in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx_files
import torch
import vector_files
import verification_files
import weight_files
from layout_rows import PEOPLE, Row, cell, files_of, inspected, people, recogniser, trained
from numpy.typing import NDArray

from v2f_engine.data import open_training_set
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.verification import open_verification_set
from v2f_engine.data.writing.convert_pairs import convert_pairs
from v2f_engine.evaluate.source import open_source
from v2f_engine.models.embedder import open_embedder
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.weights import convert as convert_weights
from v2f_engine.models.weights import load_recogniser
from v2f_engine.vectors.streams import open_vectors

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

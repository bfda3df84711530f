"""What each kind of result file says: its figures by column, its protocol, and whose row it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2f_engine.errors import DatasetError
from v2f_engine.evaluate.tables import columns
from v2f_engine.evaluate.tables.columns import Column
from v2f_engine.evaluate.tables.sizes import SUFFIX

WEIGHTS = (".safetensors", ".pth", ".pt", ".onnx", ".npy", ".ckpt")
AGAIN = "Make it again with `v2f evaluate`, or leave it out."


@dataclass(frozen=True)
class Result:
    """What one file says.

    Args:
        path, kind: the file, and the command that wrote it.
        row: name of the row unless told otherwise: of the set or recogniser measured.
        values: by column, in the column's unit.
        protocol: how, where results of two protocols must not stand in one row; empty where there is one only.
        about: by whom or against whom it was measured, for a footnote.
        people, images: of the set, where the file says so.
    """

    path: Path
    kind: str
    row: str
    values: Mapping[Column, float]
    protocol: str = ""
    about: str = ""
    people: int | None = None
    images: int | None = None


@dataclass(frozen=True)
class File:
    """A record with readers that name the file and the key."""

    path: Path
    kind: str
    record: Mapping[str, Any]

    def bad(self, key: str, expected: str, found: Any) -> DatasetError:
        return DatasetError(f"{self.path}: {key}: expected {expected}, found {found!r:.60}. {AGAIN}")

    def number(self, key: str, low: float = 0.0, high: float = 1.0, *, at: Any = None) -> float:
        place = self.record if at is None else at
        value = place.get(key) if isinstance(place, Mapping) else None
        sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not sound or not low <= float(value or 0.0) <= high:
            kind = f"a number from {low:g} to {high:g}" if high < math.inf else f"a number from {low:g}"
            raise self.bad(key, kind, value)
        return float(value or 0.0)

    def count(self, key: str) -> int:
        value = self.record.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.bad(key, "a whole number", value)
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.record.get(key)
        if not isinstance(value, dict):
            raise self.bad(key, "an object", value)
        return value

    def listed(self, key: str) -> list[Mapping[str, Any]]:
        value = self.record.get(key)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.bad(key, "a list of objects", value)
        return value

    def text(self, key: str, *, at: Mapping[str, Any] | None = None) -> str:
        value = (self.record if at is None else at).get(key, "")
        return value if isinstance(value, str) else ""

    def reader(self) -> str:
        known = self.record.get("recogniser")
        name = self.text("name", at=known) if isinstance(known, dict) else ""
        return f"read by {Path(name).name}" if name else ""

    def row(self, measured: str) -> str:
        """Of the folder `X.evaluation`, else of what was measured, else of the file."""
        folder = self.path.absolute().parent.name
        name = folder.removesuffix(SUFFIX) if folder.endswith(SUFFIX) else Path(measured).name
        for ending in WEIGHTS:
            name = name.removesuffix(ending)
        return name or self.path.stem


def _verification(file: File) -> Result:
    values: dict[Column, float] = {}
    for item in file.listed("sets"):
        name = file.text("name", at=item)
        if not name:
            raise file.bad("sets", "a name in each", item.get("name"))
        column = columns.column_of(name)
        if column in values:
            raise DatasetError(f"{file.path}: {column.name} is there twice. {AGAIN}")
        values[column] = 100 * file.number("accuracy", at=item)
    columns.add_average(values)
    failed = file.record.get("failed") or []
    lost = [Path(str(one.get("set"))).name for one in failed if isinstance(one, dict)]
    about = f"not measured: {', '.join(lost)}" if lost else ""
    recogniser = file.record["recogniser"]
    measured = file.text("name", at=recogniser) if isinstance(recogniser, dict) else ""
    return Result(file.path, file.kind, file.row(measured), values, about=about)


PAIRS = {"centres": "pairs of people by their centres", "pairs": "pairs of rows", "people": ""}
"""Pairs that a leakage counts, those that the published table counts first: where rows are people, they are they."""
IJB_TEMPLATES = {12_115: "B", 23_124: "C"}
"""Templates of the two protocols: they tell which it is where a file does not."""


def _ijb(file: File) -> Result:
    words = " ".join(file.text(key) for key in ("set", "name", "protocol")) + f" {file.path.name}"
    letters = {letter.upper() for letter in re.findall(r"ijb[ _-]?([bc])(?![a-z])", words.lower())}
    letter = IJB_TEMPLATES.get(file.count("templates")) or (letters.pop() if len(letters) == 1 else "")
    if letter not in ("B", "C"):
        raise DatasetError(
            f"{file.path} does not say whether it is of IJB-B or IJB-C ({file.count('templates'):,} templates); name "
            "the file ijbb.json or ijbc.json."
        )
    known = columns.IJBB if letter == "B" else columns.IJBC
    tpr = file.mapping("tpr")
    values = {known[power]: 100 * file.number(f"1e-{-power:02d}" if power < -4 else f"{10.0**power:g}", at=tpr)
              for power in columns.POWERS if f"{10.0**power:g}" in tpr}  # fmt: skip
    if not values:
        raise file.bad("tpr", "rates such as '0.0001'", sorted(tpr))
    curve = file.text("curve") or "exact"  # files of before the choice hold the exact curve
    return Result(
        file.path, file.kind, file.row(file.text("protocol")), values, f"ROC {curve}", file.reader()
    )


def _leakage(file: File) -> Result:
    values: dict[Column, float] = {}
    counted: set[str] = set()
    for above in file.listed("above"):
        threshold = file.number("threshold", -1.0, 1.0, at=above)
        values[columns.rows_above(threshold)] = 100 * file.number("share", at=above)
        for key, words in PAIRS.items():
            pairs = above.get(key)
            if pairs is None:
                continue
            share = 100 * file.number("share", at=pairs)
            if key == "people":
                values[columns.people_above(threshold)] = share
            elif columns.pairs_above(threshold) not in values:
                values[columns.pairs_above(threshold)] = share
                counted.add(words)
    gallery = Path(file.text("gallery_set")).name
    against = f"{file.count('synthetic'):,} rows against {file.count('gallery'):,}"
    against += f" of {gallery}" * bool(gallery)
    protocol = " and ".join(sorted(counted))
    about = "; ".join(filter(None, (against, file.reader())))
    return Result(file.path, file.kind, file.row(file.text("synthetic_set")), values, protocol, about)


def _separability(file: File) -> Result:
    people, images = file.count("identities"), file.count("images")
    values: dict[Column, float] = {}
    curve = file.record.get("curve")
    if isinstance(curve, dict):
        first, unique = curve.get("first"), curve.get("unique")
        if not isinstance(first, list) or not isinstance(unique, list) or len(first) != len(unique):
            raise file.bad("curve", "first and unique of one length", curve)
        at = dict(zip(first, unique, strict=True))
        for count in columns.UNIQUE_COUNTS:
            if count in at:
                values[columns.unique_at(count)] = file.number(
                    str(count), 0, count, at={str(count): at[count]}
                )
    scale: dict[str, tuple[float, float, float]] = {
        "unique_share": (100.0, 0.0, 1.0),
        "eer": (100.0, 0.0, 1.0),
        "fdr": (1.0, 0.0, math.inf),
        "threshold": (1.0, -1.0, 1.0),
    }
    for column in columns.SEPARABILITY_COLUMNS:
        if column.key in scale:
            factor, low, high = scale[column.key]
            values[column] = factor * file.number(column.key, low, high)
    why = file.text("threshold_from")
    about = "; ".join(filter(None, (f"threshold: {why}" if why else "", file.reader())))
    row = file.row(file.text("data"))
    return Result(file.path, file.kind, row, values, about=about, people=people, images=images)


def _consistency(file: File) -> Result:
    values = {}
    for column in columns.CONSISTENCY_COLUMNS:
        share = column.unit == "%"
        values[column] = (100 if share else 1) * file.number(column.key, 0 if share else -1.0, 1.0)
    row = file.row(file.text("data"))
    return Result(file.path, file.kind, row, values, about=file.reader(), people=file.count("identities"))


KINDS: tuple[tuple[str, frozenset[str], Callable[[File], Result]], ...] = (
    ("verification", frozenset({"sets", "recogniser"}), _verification),
    ("ijb", frozenset({"tpr", "templates"}), _ijb),
    ("leakage", frozenset({"above", "synthetic", "gallery"}), _leakage),
    ("separability", frozenset({"eer", "unique_share"}), _separability),
    ("consistency", frozenset({"pair_cosine", "own_nearest"}), _consistency),
)
"""(kind, keys that tell it, reader)."""

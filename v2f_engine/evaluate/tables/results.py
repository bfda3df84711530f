"""Result files of `v2f evaluate` as figures of the talk's tables: which column, which protocol, whose row.

A file tells its kind by its keys; of a kind that no table shows, damaged, or with a number that cannot be, it is a
named error. In a folder, files of other commands are passed over and said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from v2f_engine.data.gate.strict_json import parse
from v2f_engine.errors import ConfigError, DatasetError, V2FError
from v2f_engine.evaluate.tables import columns
from v2f_engine.evaluate.tables.columns import Column
from v2f_engine.evaluate.tables.sizes import SUFFIX, size_beside

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
class Found:
    """Results, and files that are none, each with a reason."""

    results: tuple[Result, ...] = ()
    passed_over: tuple[str, ...] = field(default=())


def read_results(paths: Sequence[Path], names: Sequence[str] = ()) -> Found:
    """The results in files and in folders of them (`SET.evaluation/`, or a folder of such folders).

    Args:
        paths: files and folders.
        names: of the rows: none (each by its set or recogniser), one for all paths together, or one for each path.

    Raises:
        ConfigError: another number of names, or an empty one.
        DatasetError: a path that is not there, a folder without results, a file of another kind, a damaged one.
    """
    if len(names) not in (0, 1, len(paths)):
        raise ConfigError(
            f"--name: {len(names)} names for {len(paths)} paths; give one for all of them, or one for each in order."
        )
    if any(not name.strip() for name in names):
        raise ConfigError("--name is empty; give the row a name, or leave it out.")
    results, passed = [], []
    for place, path in enumerate(paths):
        name = names[0 if len(names) == 1 else place] if names else None
        if path.is_dir():
            found, other = _folder(path)
            passed += other
        elif path.is_file():
            found = [read_result(path)]
        else:
            raise DatasetError(
                f"{path} is not there; expected a JSON of `v2f evaluate`, or a folder of them."
            )
        results += [_called(result, name) for result in found]
    return Found(tuple(results), tuple(passed))


def _called(result: Result, name: str | None) -> Result:
    """The result under its row's name, with the size of its set."""
    size = size_beside(result.path)
    if size is not None:
        result = replace(result, people=size[0], images=size[1])
    return result if name is None else replace(result, row=name)


def _folder(folder: Path) -> tuple[list[Result], list[str]]:
    files = [*sorted(folder.glob("*.json")), *sorted(folder.glob(f"*{SUFFIX}/*.json"))]
    results, passed = [], []
    for file in files:
        if file.name.startswith("."):  # records of who wrote what
            continue
        try:
            results.append(read_result(file))
        except OtherKind as other:
            passed.append(str(other))
    if not results:
        told = f" Passed over: {'; '.join(passed)}." if passed else ""
        raise DatasetError(
            f"{folder} holds no result; expected JSONs of `v2f evaluate verification`, `ijb`, `leakage`, "
            f"`separability` or `consistency`.{told}"
        )
    return results, passed


class OtherKind(DatasetError):
    """Sound JSON that none of the tables shows."""


def read_result(path: Path) -> Result:
    """The result in one file.

    Raises:
        DatasetError: no JSON, a kind that no table shows, a missing number or one that cannot be.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        record = parse(data, str(path))
    except V2FError as error:
        raise DatasetError(f"{error} {AGAIN}") from error
    for kind, keys, reader in KINDS:
        if isinstance(record, dict) and keys <= record.keys():
            return reader(_File(path, kind, record))
    raise OtherKind(f"{path} is no result that a table shows: {_what(record)}. {AGAIN}")


def _what(record: Any) -> str:
    if not isinstance(record, dict):
        return f"expected an object of JSON, found {type(record).__name__}"
    if {"dataset", "separability", "accuracy"} <= record.keys():
        return "it is the record of a report, whose numbers the other commands store in files of their own"
    return f"it has the keys {sorted(record)[:6]}"


@dataclass(frozen=True)
class _File:
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


def _verification(file: _File) -> Result:
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


def _ijb(file: _File) -> Result:
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


def _leakage(file: _File) -> Result:
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


def _separability(file: _File) -> Result:
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


def _consistency(file: _File) -> Result:
    values = {}
    for column in columns.CONSISTENCY_COLUMNS:
        share = column.unit == "%"
        values[column] = (100 if share else 1) * file.number(column.key, 0 if share else -1.0, 1.0)
    row = file.row(file.text("data"))
    return Result(file.path, file.kind, row, values, about=file.reader(), people=file.count("identities"))


KINDS: tuple[tuple[str, frozenset[str], Callable[[_File], Result]], ...] = (
    ("verification", frozenset({"sets", "recogniser"}), _verification),
    ("ijb", frozenset({"tpr", "templates"}), _ijb),
    ("leakage", frozenset({"above", "synthetic", "gallery"}), _leakage),
    ("separability", frozenset({"eer", "unique_share"}), _separability),
    ("consistency", frozenset({"pair_cosine", "own_nearest"}), _consistency),
)
"""(kind, keys that tell it, reader)."""

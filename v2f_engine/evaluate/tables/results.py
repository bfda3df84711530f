"""Result files of `v2f evaluate` as figures of the talk's tables: which column, which protocol, whose row.

A file tells its kind by its keys; of a kind that no table shows, damaged, or with a number that cannot be, it is a
named error. In a folder, files of other commands are passed over and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from v2f_engine.data.gate.strict_json import parse
from v2f_engine.errors import ConfigError, DatasetError, V2FError
from v2f_engine.evaluate.tables.kinds import AGAIN, KINDS, File, Result
from v2f_engine.evaluate.tables.sizes import SUFFIX, size_beside


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
            return reader(File(path, kind, record))
    raise OtherKind(f"{path} is no result that a table shows: {_what(record)}. {AGAIN}")


def _what(record: Any) -> str:
    if not isinstance(record, dict):
        return f"expected an object of JSON, found {type(record).__name__}"
    if {"dataset", "separability", "accuracy"} <= record.keys():
        return "it is the record of a report, whose numbers the other commands store in files of their own"
    return f"it has the keys {sorted(record)[:6]}"

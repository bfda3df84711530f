"""What labels the samples of tar shards: `.cls`, a field of `.json`, or an `.id` or `.txt` that is one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.lists.label_values import LABEL_NAMES, LAST_RESORT, grouping, is_number, of_texts
from v2f_engine.data.formats.tar.members import Member
from v2f_engine.errors import DatasetError

MAX_LABEL = {"json": 1 << 22}
"""Bytes of a label's member; `cls` and the others hold a number or a name."""
_SHORT = 4096


@dataclass(frozen=True)
class Labels:
    """Labels of all samples.

    Args:
        values: int64 `[N]`.
        names: of each label, where they are names.
        remarks: for the account.
    """

    values: NDArray[np.int64]
    names: list[str] | None
    remarks: tuple[str, ...] = ()


def check_size(member: Member, kind: str, where: str) -> None:
    """Raises where a member is too large to be a label."""
    most = MAX_LABEL.get(kind, _SHORT)
    if member.size > most:
        raise DatasetError(
            f"{where}: {member.name!r} has {member.size} bytes; expected a label of at most {most}."
        )


def scalars(data: bytes, where: str) -> dict[str, str]:
    """The fields of a sample's `.json` that are called like a label and hold a name or a whole number, as text.

    Raises:
        DatasetError: it is no JSON object.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: expected a JSON object, found {data[:40]!r} ({error}).") from error
    if not isinstance(found, dict):
        raise DatasetError(f"{where}: expected a JSON object, found {data[:40]!r}.")
    fields = {str(name).lower(): value for name, value in found.items()}
    return {name: _text(fields[name]) for name in LABEL_NAMES if name in fields and _text(fields[name])}


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return ""
    return str(value).strip()


def text(data: bytes, where: str) -> str:
    """A `.cls`, `.id` or `.txt` as text.

    Raises:
        DatasetError: empty, or no text.
    """
    try:
        found = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        found = ""
    if not found or "\0" in found or "\n" in found:
        raise DatasetError(f"{where} holds {data[:40]!r}; expected a label, a number from 0 or a name.")
    return found


def labels_of(kind: str, held: Sequence[str | Mapping[str, str]], where: str) -> Labels:
    """The labels of all samples.

    Args:
        kind: the type that labels.
        held: of each sample the text, or for `json` its fields that could label.
        where: for messages.

    Raises:
        DatasetError: no field that labels all, several that disagree, an `id` that differs in every sample, a `txt` of
            captions.
    """
    if kind == "json":
        return _of_fields([fields for fields in held if isinstance(fields, Mapping)], where)
    texts = [each for each in held if isinstance(each, str)]
    if kind == "txt" and not all(map(is_number, texts)):
        raise DatasetError(
            f"{where}: {len(texts)} samples have a .txt, such as {texts[0][:60]!r}, and no .cls: captions and no "
            "labels. Expected a .cls with a number or a name, or a .json with a field `label`."
        )
    if kind == "id":
        _refuse_row_numbers(texts, ".id", where)
    values, names = of_texts(texts, where)
    return Labels(values, names, () if kind == "cls" else (f"labels of .{kind}",))


def _of_fields(rows: Sequence[Mapping[str, str]], where: str) -> Labels:
    seen = {name: sum(name in row for row in rows) for name in LABEL_NAMES}
    whole = [name for name, count in seen.items() if count == len(rows)]
    some = [f"{name} in {count}" for name, count in seen.items() if 0 < count < len(rows)]
    if not whole or (some and all(name in LAST_RESORT for name in whole)):
        said = f"found {', '.join(some)} of {len(rows)}" if some else "found none of them"
        raise DatasetError(
            f"{where}: the samples have a .json and no .cls; expected a field that labels each, one of "
            f"{', '.join(LABEL_NAMES)}, {said}. Write the label of each sample into `label`."
        )
    candidates = [name for name in whole if name not in LAST_RESORT] or whole
    columns = {name: [row[name] for row in rows] for name in candidates}
    first = candidates[0]
    groups = {name: grouping(column) for name, column in columns.items()}
    unlike = [name for name in candidates if groups[name] != groups[first]]
    if unlike:
        counts = ", ".join(f"{name} with {len(set(columns[name]))} values" for name in (first, *unlike))
        raise DatasetError(
            f"{where}: several fields of .json could label the samples and disagree: {counts}. Keep the one that "
            "names the person."
        )
    if first in LAST_RESORT:
        _refuse_row_numbers(columns[first], f"the field {first!r} of .json", where)
    values, names = of_texts(columns[first], where)
    return Labels(values, names, (f"labels of the field {first!r} of .json",))


def _refuse_row_numbers(texts: Sequence[str], what: str, where: str) -> None:
    if len(texts) > 1 and len(set(texts)) == len(texts):
        raise DatasetError(
            f"{where}: {what} differs in all {len(texts)} samples: it numbers the samples and names no people. "
            "Write the label of each sample into .cls."
        )

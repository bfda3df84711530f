"""Strict reading of JSON: exact keys, exact types, no duplicates, no NaN; an error says where and what."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from v2f_engine.errors import ConfigError, DatasetError

MAX_JSON_BYTES = 1 << 30

_NAMES: Mapping[type, str] = {
    int: "a whole number",
    str: "a string",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def canonical(value: Any) -> str:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain(value: Any, where: str) -> Any:
    """`value` as JSON keeps it: numpy scalars, tuples and paths become plain; anything else is refused.

    Raises:
        ConfigError: a value that JSON cannot hold exactly (NaN, arrays, objects, keys that are not strings).
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise ConfigError(f"{where} is {value!r}; a manifest holds finite numbers only.")
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{where} has the key {key!r}; expected strings as keys.")
        return {key: plain(value[key], f"{where}.{key}") for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ConfigError(
        f"{where} is a {type(value).__name__}; a manifest holds strings, numbers, true/false, lists and "
        "objects. Store large values in a file of their own and put its sha256 here."
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")


def parse(text: bytes, where: str) -> Any:
    """The JSON value in `text`.

    Raises:
        DatasetError: not JSON, duplicate keys, NaN, too deep or too large.
    """
    if len(text) > MAX_JSON_BYTES:
        raise DatasetError(f"{where}: {len(text)} bytes of JSON; expected at most {MAX_JSON_BYTES}.")
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: expected JSON, found {error}.") from error


def fields(value: Any, expected: Mapping[str, type], where: str) -> dict[str, Any]:
    """`value` as an object with exactly the keys and types of `expected`.

    Raises:
        DatasetError: a missing, unknown or wrongly typed key.
    """
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: expected an object, found {type(value).__name__}.")
    missing = sorted(expected.keys() - value.keys())
    unknown = sorted(value.keys() - expected.keys())
    if missing or unknown:
        parts = [f"missing {missing}"] * bool(missing) + [f"unknown {unknown}"] * bool(unknown)
        raise DatasetError(f"{where}: {', '.join(parts)}; expected exactly {sorted(expected)}.")
    for key, kind in expected.items():
        found = value[key]
        if type(found) is not kind:
            raise DatasetError(f"{where}.{key}: expected {_NAMES[kind]}, found {found!r:.80}.")
        if isinstance(found, int) and found < 0:
            raise DatasetError(f"{where}.{key}: expected 0 or more, found {found}.")
    return value

"""Options that users type, checked at birth: unknown names and impossible values are named errors."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from v2f_engine.errors import ConfigError


def a_path(what: str, value: Any) -> Path:
    """`value` as a path: text or whatever stands for a path.

    Raises:
        ConfigError: another type, an empty text, or a NUL; the message names the argument.
    """
    if not isinstance(value, (str, PathLike)) or not isinstance(found := Path(value).__fspath__(), str):
        raise ConfigError(f"{what} must be a path, found {value!r:.60} ({type(value).__name__}).")
    if not str(value) or "\0" in found:
        raise ConfigError(f"{what} must be a path, found {value!r:.60}.")
    return Path(value)


def yes_or_no(what: str, value: Any) -> bool:
    """`value` as a bool: True or False (NumPy's, too), no text and no number.

    Raises:
        ConfigError: another type; the message names the argument.
    """
    if type(value).__name__ not in ("bool", "bool_"):
        raise ConfigError(f"{what} must be True or False, found {value!r:.60} ({type(value).__name__}).")
    return bool(value)


def a_function(what: str, value: Any) -> None:
    """Raises ConfigError unless `value` is None or can be called."""
    if value is not None and not callable(value):
        raise ConfigError(f"{what} must be a function or None, found {value!r:.60} ({type(value).__name__}).")


def one_of(what: str, value: str, known: Iterable[str]) -> str:
    """`value` if it is among `known`; otherwise a ConfigError that names the nearest one."""
    names = sorted(known)
    if not isinstance(value, str):
        raise ConfigError(
            f"{what} must be one of {', '.join(names)}, found {value!r:.60} ({type(value).__name__})."
        )
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(f"{what} {value!r} is not known{hint} Known: {', '.join(names)}.")


def whole_number(what: str, value: Any, minimum: int | None = None) -> int:
    """`value` as an int: any whole-number type (NumPy's, too), but no bool, text or fraction.

    Raises:
        ConfigError: another type, or below `minimum`; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{what} must be a whole number, found {value!r:.60} ({type(value).__name__}).")
    found = operator.index(value)
    if found.bit_length() > 64:
        raise ConfigError(f"{what} must fit into 64 bits, found a number of {found.bit_length()}.")
    if minimum is not None and found < minimum:
        raise ConfigError(f"{what} must be at least {minimum}, found {found}.")
    return found


def _number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{what} must be a number, found {value!r:.60} ({type(value).__name__}).")


def at_least(what: str, value: float, minimum: float) -> None:
    """Raises ConfigError unless `value >= minimum`."""
    _number(what, value)
    if not value >= minimum:
        raise ConfigError(f"{what} must be at least {minimum:g}, found {value!r}.")


def between(what: str, value: float, low: float, high: float) -> None:
    """Raises ConfigError unless `low <= value <= high`."""
    _number(what, value)
    if not low <= value <= high:
        raise ConfigError(f"{what} must lie between {low:g} and {high:g}, found {value!r}.")

"""Options that users type, checked at birth: unknown names and impossible values are named errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from v2f_engine.errors import ConfigError


def one_of(what: str, value: str, known: Iterable[str]) -> str:
    """`value` if it is among `known`; otherwise a ConfigError that names the nearest one."""
    names = sorted(known)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{what} {value!r} is not known{hint} Known: {', '.join(names)}.")


def at_least(what: str, value: float, minimum: float) -> None:
    """Raises ConfigError unless `value >= minimum`."""
    if not value >= minimum:
        raise ConfigError(f"{what} must be at least {minimum:g}, found {value!r}.")


def between(what: str, value: float, low: float, high: float) -> None:
    """Raises ConfigError unless `low <= value <= high`."""
    if not low <= value <= high:
        raise ConfigError(f"{what} must lie between {low:g} and {high:g}, found {value!r}.")

"""Any setting of a recogniser's training by its name, as text: `dropout=0.2`, `drops=18,28,35`, `milestones=none`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError
from v2f_engine.train.recogniser_settings import RecogniserTraining

BY_OPTIONS = ("out", "model", "budget", "device", "start_from")
"""Settings that have an option of their own and no short text."""


def with_values(settings: RecogniserTraining, texts: Iterable[str]) -> RecogniserTraining:
    """`settings` with values typed as `NAME=VALUE`; `none` for an empty list or what may be absent.

    Raises:
        ConfigError: no such name, or a value of another type; the message says what was expected.
    """
    hints = {
        name: hint for name, hint in get_type_hints(RecogniserTraining).items() if name not in BY_OPTIONS
    }
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ConfigError(
                f"--set: expected NAME=VALUE, such as dropout=0.4 or drops=11,19,23, found {text!r}."
            )
        found[name] = _value(name, hints[one_of("--set: name", name, hints)], value)
    if "batch" in found:
        found.setdefault("batch_per_gpu", None)
    return replace(settings, **found)


def _value(name: str, hint: Any, text: str) -> Any:
    if hint == tuple[float, ...]:
        parts = [] if text == "none" else text.split(",")
        return tuple(_one(name, (float,), part) for part in parts)
    return _one(name, get_args(hint) or (hint,), text)


def _one(name: str, kinds: tuple[Any, ...], text: str) -> Any:
    if text == "none" and type(None) in kinds:
        return None
    if kinds == (str,):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    if float in kinds and type(found) is int:
        found = float(found)
    if type(found) not in kinds:
        expected = " or ".join("none" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ConfigError(f"--set {name}: expected {expected}, found {text!r}.")
    return found

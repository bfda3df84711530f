"""Any setting of a generator's training by its name, as text: `clip=1`, `loss.ssim=0.3`, `model.dropout=0`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError
from v2f_engine.train.generator_settings import GeneratorTraining

GROUPS = {"loss": "weights", "as_published": "as_published", "model": "model"}
"""What stands before a dot -> the setting whose parts it names."""
BY_OPTIONS = ("out", "preset", "budget", "vgg", "device", "start_from", *GROUPS.values())
"""Settings that have an option of their own, or parts."""


def with_values(settings: GeneratorTraining, texts: Iterable[str]) -> GeneratorTraining:
    """`settings` with values typed as `NAME=VALUE`; `none` where a setting may be absent, commas in a list.

    Raises:
        ConfigError: no such name, or a value of another type; the message says what was expected.
    """
    plain: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ConfigError(
                f"--set: expected NAME=VALUE, such as clip=1.0 or loss.ssim=0.3, found {text!r}."
            )
        group, dot, part = name.rpartition(".")
        if dot:
            owner = GROUPS[one_of("--set: group", group, GROUPS)]
            value_of = settings.loss_weights if owner == "weights" else getattr(settings, owner)
            parts.setdefault(owner, {})[part] = _value(value_of, part, value, (), name)
        else:
            plain[name] = _value(settings, name, value, BY_OPTIONS, name)
    for owner, values in parts.items():
        value_of = settings.loss_weights if owner == "weights" else getattr(settings, owner)
        plain[owner] = replace(value_of, **values)
    if "batch" in plain:
        plain.setdefault("batch_per_gpu", None)
    return replace(settings, **plain)


def _value(owner: Any, field: str, text: str, hidden: tuple[str, ...], name: str) -> Any:
    hints = {key: hint for key, hint in get_type_hints(type(owner)).items() if key not in hidden}
    one_of("--set: name", field, hints)
    wanted = get_args(hints[field]) or (hints[field],)
    if hints[field] == tuple[str, ...]:
        return tuple(text.split(","))
    if hints[field] == tuple[int, ...]:
        wanted = (tuple,)
        text = f"[{text}]"
    try:
        found: Any = None if text == "none" else json.loads(text)
    except ValueError:
        found = text
    if Path in wanted and found is not None:
        return Path(text)
    if float in wanted and isinstance(found, int) and not isinstance(found, bool):
        return float(found)
    kinds = tuple(list if kind is tuple else kind for kind in wanted)
    if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in wanted):
        expected = " or ".join("none" if kind is type(None) else kind.__name__ for kind in wanted)
        raise ConfigError(f"--set {name}: expected {expected}, found {text!r}.")
    return tuple(found) if isinstance(found, list) else found

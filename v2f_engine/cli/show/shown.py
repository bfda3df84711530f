"""What is said of a thing: lines for people, facts for a script."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shown:
    """What something is.

    Args:
        kind: `set`, `unfinished set`, `training`, `identities`, `weights`, ...
        lines: (name, words) for people.
        facts: the same and more for a script.
        options: option -> value of the command that made it, where that can be told.
        command: that command's words.
        sheet: draws its first people as PNG, where it is a set.
    """

    kind: str
    lines: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] | None = None
    command: str = ""
    sheet: Callable[[], bytes] | None = None


def packed_lines(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The line of people who were moved apart; none for others."""
    told = provenance.get("packed")
    if not isinstance(told, Mapping):
        return []
    try:
        first, last = told["worst_cosine"]
        kept = f"step {told['step']}" if told["step"] else "as given, no step was better"
        words = f"worst cosine {first:.4f} -> {last:.4f}, {kept}, from the table {told['from'][:12]}"
    except (KeyError, TypeError, ValueError):
        words = "moved apart, by another version: what it says of that is not known here"
    return [("packed", words)]


def guard_lines(settings: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """The line of what the guard of a cone did, of a set in `folder`; none for others, nor without its file there."""
    from v2f_engine.data.layout import PERTURBATION
    from v2f_engine.errors import V2FError
    from v2f_engine.vectors.perturbation import from_manifest
    from v2f_engine.vectors.perturbation_cone import Cone

    told, held = settings.get("perturbation"), folder / PERTURBATION
    if not isinstance(told, Mapping) or not told.get("guarded") or not held.is_file():
        return []
    try:
        around = from_manifest(told, held)
    except V2FError as error:  # what is broken, and of which file, is the answer here
        return [("guard", str(error))]
    return [("guard", around.guard_told)] if isinstance(around, Cone) else []


def typed(options: Mapping[str, Any]) -> str:
    """Options as somebody would type them."""
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name}", str(one)]
    return shlex.join(words)

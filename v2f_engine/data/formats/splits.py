"""Several sets in one place (`train` beside `test`) are named, and one is asked for: never merged, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from v2f_engine.errors import DatasetError

One = TypeVar("One")


def choose(path: Path, found: Mapping[str, One], split: str | None) -> tuple[str, One]:
    """(name, set) of the set that was asked for.

    Args:
        path: for messages.
        found: name -> set; `""` is the name of a set that has none.
        split: the name asked for; None where there is one set.

    Raises:
        DatasetError: several sets and none asked for, or none of that name; the message names them.
    """
    names = ", ".join(name or "one without a name" for name in sorted(found))
    if split is None and len(found) == 1:
        return next(iter(found.items()))
    if split is None:
        first = "train" if "train" in found else next(name for name in sorted(found) if name)
        raise DatasetError(
            f"{path}: {len(found)} sets: {names}. Ask for one of them: --split {first}, or split={first!r} in Python."
        )
    if split not in found:
        raise DatasetError(f"{path}: expected a split {split!r}, found {len(found)} sets: {names}.")
    return split, found[split]


def remark(found: Mapping[str, object], name: str) -> tuple[str, ...]:
    """What the account says of the choice."""
    return (f"split {name} of {', '.join(sorted(found))}",) if len(found) > 1 else ()

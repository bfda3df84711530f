"""Rows of a training set that cannot be used: counted, named, and told in a report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from v2f_engine.errors import DatasetError

KINDS = ("record", "image", "label", "no feature", "feature", "feature dimension", "landmark")
"""What can be wrong: a damaged record, an unreadable or misshapen image, an unreadable label, a feature that
is missing, broken (or NaN, infinite, zero), or of another length, an unreadable landmark picture."""
LISTED = 1000
"""Rows that a report names; it counts them all."""


class BadRow(DatasetError):
    """A row that cannot be used.

    Args:
        kind: of `KINDS`.
        message: names the row, what was expected and what was found.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class BadRows:
    """What was found so far; each row counts once. Safe in threads."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, row: int) -> bool:
        return row in self._found

    def add(self, row: int, kind: str, reason: str) -> None:
        """Notes row `row`; the first reason stays."""
        self._found.setdefault(row, (kind, reason))

    def dump(self) -> dict[str, list[str]]:
        """JSON values that `restore` takes: a resumed run knows what was found before."""
        return {str(row): [kind, reason] for row, (kind, reason) in sorted(self._found.items())}

    def restore(self, dumped: dict[str, list[str]]) -> None:
        """Adds what `dump` gave."""
        for row, (kind, reason) in dumped.items():
            self.add(int(row), kind, reason)

    def report(self) -> dict[str, Any]:
        """JSON values: `count`, counts `by_kind`, and the first thousand `rows` with their reasons."""
        found = sorted(self._found.items())
        return {
            "count": len(found),
            "by_kind": dict(sorted(Counter(kind for _, (kind, _) in found).items())),
            "rows": [{"row": row, "kind": kind, "reason": text} for row, (kind, text) in found[:LISTED]],
        }

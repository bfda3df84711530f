"""What a set was before it was made larger: a line of its manifest for each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from v2f_engine.data.gate.strict_json import fields
from v2f_engine.data.records.pieces import is_sha256
from v2f_engine.errors import DatasetError


@dataclass(frozen=True)
class Grown:
    """A set at the moment that it began to grow.

    Args:
        identities, images, shards: how many it had.
        manifest: sha256 of its manifest, as that file was.
        at: when the growth was begun, UTC: `2026-11-28T17:00:00Z`.
        versions: of the software that had made it; those of the new part are the manifest's own.
    """

    identities: int
    images: int
    shards: int
    manifest: str
    at: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "versions": dict(self.versions)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Grown:
        """Raises DatasetError for what `to_json` does not write."""
        counts = dict.fromkeys(("identities", "images", "shards"), int)
        record = fields(value, {**counts, "manifest": str, "at": str, "versions": dict}, where)
        fields(record["versions"], dict.fromkeys(record["versions"], str), f"{where}.versions")
        if not is_sha256(record["manifest"]):
            raise DatasetError(
                f"{where}.manifest: expected 64 hexadecimal digits, found {record['manifest']!r:.80}."
            )
        return cls(**record)


def pairs_of(value: list[Any], where: str) -> tuple[tuple[int, int], ...]:
    """Pairs of whole numbers from JSON. Raises DatasetError for anything else."""
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or any(type(one) is not int for one in pair):
            raise DatasetError(f"{where}: expected pairs of whole numbers, found {pair!r:.80}.")
    return tuple((first, second) for first, second in value)

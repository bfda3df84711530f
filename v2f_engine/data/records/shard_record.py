"""What is said of one committed shard, and whether a plan has such a shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from v2f_engine.data.gate.strict_json import fields
from v2f_engine.data.records.pieces import Piece, is_sha256
from v2f_engine.data.records.plan import Plan
from v2f_engine.errors import DatasetError


@dataclass(frozen=True)
class ShardRecord:
    """A committed shard.

    Args:
        number: 0..shards-1.
        first_identity, identities: the contiguous identities it holds.
        count: images in it.
        image_bytes: sum of the encoded images' sizes.
        content: sha256 of the shard's images as first written (lmdb, recordio: the staged pack); says whether
            images made again are the same.
        pieces: everything it is made of on disk.
    """

    number: int
    first_identity: int
    identities: int
    count: int
    image_bytes: int
    content: str
    pieces: tuple[Piece, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "pieces": [piece.to_json() for piece in self.pieces]}

    @classmethod
    def from_json(cls, value: Any, where: str) -> ShardRecord:
        counts = ("number", "first_identity", "identities", "count", "image_bytes")
        record = fields(value, {**dict.fromkeys(counts, int), "content": str, "pieces": list}, where)
        if not is_sha256(record["content"]):
            raise DatasetError(
                f"{where}.content: expected 64 hexadecimal digits, found {record['content']!r:.80}."
            )
        pieces = tuple(
            Piece.from_json(piece, f"{where}.pieces[{index}]") for index, piece in enumerate(record["pieces"])
        )
        return cls(**{**record, "pieces": pieces})


def check_against_plan(record: ShardRecord, number: int, plan: Plan, where: str) -> None:
    """Raises DatasetError unless `record` can be shard `number` of `plan`."""
    if number >= plan.shards:
        raise DatasetError(f"{where}: the plan has {plan.shards} shards.")
    identities = plan.shard(number).identities
    expected = (number, identities.start, len(identities))
    found = (record.number, record.first_identity, record.identities)
    if found != expected:
        raise DatasetError(
            f"{where}: expected (number, first_identity, identities) {expected}, found {found}."
        )
    most = len(identities) * plan.images_per_id
    if record.count > most or (plan.uniform and record.count != most):
        raise DatasetError(f"{where}: expected {most} images, found {record.count}.")

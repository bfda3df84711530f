"""What a worker did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkReport:
    """The only thing that travels back from a worker: vectors and images never do.

    Args:
        worker: its name.
        shards: numbers of the shards it committed.
        images: in them.
    """

    worker: str
    shards: tuple[int, ...]
    images: int

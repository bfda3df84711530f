"""Rejection over several processes: each keeps a part of the accepted vectors, all get the same answer.

Every process is given the same candidates and the same block size. A block is screened by each against its
own part, the verdicts are united by one all-reduce of a byte per candidate, and the block is resolved by
all alike; its accepted vectors then belong to process (block number) mod size. Memory and screening divide
by the number of processes. Works with torch.distributed:  reject_similar(vectors, 0.3,
shard=Shard.of_group())
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shard:
    """One process's place.

    Args:
        rank, size: this process and how many there are.
        unite: replaces uint8 flags `[n]` (array or tensor) by their maximum over all processes, in place.
    """

    rank: int
    size: int
    unite: Callable[[Any], None]

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank must lie in [0, {self.size}), found {self.rank}")

    def owns(self, block: int) -> bool:
        """Do the accepted vectors of this block belong to this process?"""
        return block % self.size == self.rank

    @classmethod
    def of_group(cls, group: Any = None) -> Shard:
        """The place in an initialised `torch.distributed` group (None: all processes)."""
        import torch
        from torch import distributed

        def unite(flags: Any) -> None:
            distributed.all_reduce(torch.as_tensor(flags), op=distributed.ReduceOp.MAX, group=group)

        return cls(distributed.get_rank(group), distributed.get_world_size(group), unite)


def _nothing(flags: Any) -> None:
    """One process agrees with itself."""


ALONE = Shard(0, 1, _nothing)

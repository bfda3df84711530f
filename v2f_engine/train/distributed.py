"""The processes of one training: alone, or as many as torchrun started, each with a part of every batch.

Data parallel: parameters are equal on every rank, gradients are averaged by `DistributedDataParallel` (NCCL on
GPUs, gloo on CPUs). What a step computes depends on the batch of all ranks together, not on how it is divided.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from v2f_engine.config import at_least
from v2f_engine.data.writing.lock import exclusive
from v2f_engine.errors import ConfigError

TIMEOUT = timedelta(minutes=30)
"""A rank that waits so long for another gives up: longer than a validation on rank 0, which others wait for."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together, data parallel.

    Args:
        rank: 0 .. world - 1; rank 0 writes files.
        world: how many.
        device: this rank's torch device.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        at_least("world", self.world, 1)
        if not 0 <= self.rank < self.world:
            raise ConfigError(f"rank must lie in 0 .. {self.world - 1}, found {self.rank}.")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def alone_in(self, folder: Path) -> AbstractContextManager[object]:
        """Rank 0 holds the folder's lock while inside: two trainings never write into one folder.

        Raises:
            OutputFolderError: another training writes there.
        """
        return exclusive(folder / ".lock", folder) if self.first else nullcontext()

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module`, or a wrapper that averages its gradients over the ranks and starts them all equal."""
        if self.world == 1:
            return module
        where = torch.device(self.device)
        with warnings.catch_warnings():
            # torch 2.13 renames broadcast_buffers, torch 2.10 does not know the new name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                module,
                device_ids=[where] if where.type == "cuda" else None,
                broadcast_buffers=False,  # no buffer is trained
                gradient_as_bucket_view=True,
            )

    @torch.no_grad()
    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over ranks of a tensor; the same bits on every rank."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device(self.device))
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank, by rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found


def averaging(module: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
    """Around a forward and backward pass: whether gradients are averaged at its end or only added up."""
    if isinstance(module, DistributedDataParallel) and not wanted:
        return module.no_sync()
    return nullcontext()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The group that torchrun's environment describes, or this process alone; left at the end of the block.

    Args:
        device: `cpu`, or `cuda`, which becomes `cuda:LOCAL_RANK`.

    Raises:
        ConfigError: torchrun's variables are incomplete.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(device=device)
        return
    missing = [n for n in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE is set, but not {', '.join(missing)}. Start the ranks with torchrun.")
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    kind = torch.device(device).type
    if kind == "cuda":
        device = f"cuda:{int(os.environ['LOCAL_RANK'])}"
        torch.cuda.set_device(torch.device(device))
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(rank, world, device)
    finally:
        dist.destroy_process_group()

"""The classification head of a recogniser, its classes divided among ranks, a share of them sampled each step.

Partial FC (An et al. 2022): every rank holds the centres of a contiguous part of the classes and sees the
features of all ranks; the softmax's maximum and sum are the only other things exchanged. With `sample_rate`
below 1 a step compares with its own classes' centres and that share of the others. Which others, and where a
centre starts, are functions of (seed, step, class) and (seed, class): not of how the classes are divided.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from v2f_engine.config import at_least, between
from v2f_engine.randomness import Purpose, normals, uniforms
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.margin import Margin

START_DEVIATION = 0.01
HEAD_PARAMETER = 2**32 - 1
"""Number of this parameter among initial weights; no other counts so far."""
BLOCK = 4096
"""Classes that share a counter when a step's sample is drawn."""


def shard_of(classes: int, rank: int, world: int) -> tuple[int, int]:
    """[first, last) of a rank's classes; parts differ by one at most."""
    return classes * rank // world, classes * (rank + 1) // world


class ShardedHead(nn.Module):
    """Mean cross entropy over the batch of all ranks and the classes of all ranks.

    Args:
        classes: number of identities.
        dim: length of a feature.
        margin: on the true class's cosine.
        scale: s.
        group: which classes are this rank's.
        sample_rate: share of the other classes that a step compares with; 1 for all.
        seed: of the centres' start and of the samples.
        fp16: cosines are computed in fp16, as published; else in fp32.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        margin: Margin,
        scale: float = 64.0,
        group: Ranks | None = None,
        sample_rate: float = 1.0,
        seed: int = 0,
        fp16: bool = False,
    ) -> None:
        super().__init__()
        at_least("classes", classes, 2)
        between("sample_rate", sample_rate, 1e-6, 1.0)
        self.group = group or Ranks()
        at_least("classes of each rank", classes / self.group.world, 1)
        self.classes, self.scale, self.sample_rate, self.seed = classes, scale, sample_rate, seed
        self.margin, self.fp16 = margin, fp16
        self.first, self.last = shard_of(classes, self.group.rank, self.group.world)
        start = normals(seed, Purpose.INITIALISATION, HEAD_PARAMETER, np.arange(self.first, self.last), dim)
        self.weight = nn.Parameter(torch.from_numpy(start).mul_(START_DEVIATION))

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, step: int, share: float | torch.Tensor = 1.0
    ) -> torch.Tensor:
        """The loss, a scalar, the same on every rank.

        Backwards, a rank's features get the loss's gradient times the number of ranks: averaging gradients over
        ranks, as data-parallel training does, then gives the loss's own.

        Args:
            features: `[B, D]` of this rank; every rank has as many.
            labels: int64 `[B]`, 0 .. classes - 1.
            step: number of the step, which decides the sampled classes.
            share: of the margin; a tensor [] on the device where a CUDA graph reads it anew.
        """
        everyone, targets = self._gathered(_wide(features), labels)
        norms = everyone.norm(dim=1)
        self.margin.observe(norms)
        if self.group.world == 1:  # all of them: nothing to ask the device, so a graph can hold it
            mine = torch.arange(len(targets), device=targets.device)
        else:
            mine = ((targets >= self.first) & (targets < self.last)).nonzero()[:, 0]
        place = targets[mine] - self.first
        weight: torch.Tensor = self.weight
        if self.sample_rate < 1.0:
            chosen = self.sample(step, place)
            weight = weight[chosen]
            place = torch.searchsorted(chosen, place)
        with torch.autocast(everyone.device.type, torch.float16, enabled=self.fp16):
            cosine = F.linear(F.normalize(everyone), F.normalize(_wide(weight)))
        cosine = _wide(cosine)
        target = self.margin(cosine[mine, place], norms[mine], share)
        logits = self.scale * cosine.index_put((mine, place), target)
        loss: torch.Tensor = _ShardedCrossEntropy.apply(logits, mine, place, self.group.world)  # type: ignore[no-untyped-call]
        return loss

    def _gathered(self, features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.group.world == 1:
            return features, labels
        everyone: torch.Tensor = _Gather.apply(features, self.group)  # type: ignore[no-untyped-call]
        parts = [torch.empty_like(labels) for _ in range(self.group.world)]
        dist.all_gather(parts, labels.contiguous())
        return everyone, torch.cat(parts)

    def sample(self, step: int, positives: torch.Tensor) -> torch.Tensor:
        """Ascending numbers, within this shard, of `positives` and a share of the other classes."""
        keep = torch.from_numpy(self._drawn(step)).to(positives.device)
        keep[positives] = True
        return keep.nonzero()[:, 0]

    def _drawn(self, step: int) -> NDArray[np.bool_]:
        """bool `[local classes]`: a uniform of (seed, step, class) below the rate."""
        blocks = np.arange(self.first // BLOCK, -(-self.last // BLOCK))
        drawn = uniforms(self.seed, Purpose.CLASS_SAMPLE, np.full(len(blocks), step), blocks, BLOCK).reshape(
            -1
        )
        start = self.first - int(blocks[0]) * BLOCK
        return drawn[start : start + self.last - self.first] < self.sample_rate


def _wide(values: torch.Tensor) -> torch.Tensor:
    """In fp32, or in float64 where they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _Gather(torch.autograd.Function):
    """Features of all ranks, by rank; backwards this rank's part of the summed gradients, times the ranks."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, group: Ranks) -> torch.Tensor:
        ctx.group, ctx.count = group, len(features)
        parts = [torch.empty_like(features) for _ in range(group.world)]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        start = ctx.group.rank * ctx.count
        return total[start : start + ctx.count] * ctx.group.world, None


class _ShardedCrossEntropy(torch.autograd.Function):
    """Mean of -log softmax at the true class; columns are divided among ranks, rows are everyone's."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, mine: torch.Tensor, place: torch.Tensor, world: int
    ) -> torch.Tensor:
        top = logits.max(1).values if logits.shape[1] else logits.new_full((len(logits),), -torch.inf)
        if world > 1:
            dist.all_reduce(top, dist.ReduceOp.MAX)
        shares = (logits - top[:, None]).exp_()
        total = shares.sum(1)
        true = torch.zeros_like(top)
        true[mine] = logits[mine, place] - top[mine]
        if world > 1:
            both = torch.stack([total, true])
            dist.all_reduce(both)
            total, true = both
        shares.div_(total[:, None])
        ctx.save_for_backward(shares, mine, place)
        return (total.log() - true).mean()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        shares, mine, place = ctx.saved_tensors
        grad = shares.clone()
        grad[mine, place] -= 1.0
        return grad.mul_(grads[0] / len(grad)), None, None, None

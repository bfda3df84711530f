"""A generator's step as CUDA graphs: at 32 images a GPU, launching the step's kernels takes longer than running them.

One graph for each shape of step (mask schedule, discriminator running or not), captured when it first comes up,
on static inputs; they share one memory pool. Inside are both passes, clipping and both optimisers; learning
rates live on the device. Outside: reading batches, the averaged weights, the log. Nothing random is inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from v2f_engine.data.training_set import TrainingSet
from v2f_engine.errors import ConfigError
from v2f_engine.models.iresnet import IResNet
from v2f_engine.ranges import stage
from v2f_engine.runtime.cuda_graph import require_cuda
from v2f_engine.train.batches import Part, named
from v2f_engine.train.distributed import Group
from v2f_engine.train.generator_settings import GeneratorTraining
from v2f_engine.train.generator_step import GeneratorTrainer, Terms

WARM_UP = 3
"""Steps on copies of the weights before a capture: libraries choose algorithms, optimisers make their slots."""


@dataclass
class Captured:
    """A graph, the inputs it reads and the terms it writes."""

    graph: torch.cuda.CUDAGraph
    parts: list[Part]
    terms: Terms


class GraphedTrainer(GeneratorTrainer):
    """As `GeneratorTrainer`, one GPU, no dropout, no crops.

    Raises:
        BackendUnavailable: no GPU.
        ConfigError: several ranks.
    """

    def __init__(
        self, data: TrainingSet, recogniser: IResNet, settings: GeneratorTraining, group: Group | None = None
    ) -> None:
        if group is not None and group.world > 1:
            raise ConfigError(
                "A step as one CUDA graph runs on one rank; use stepping='eager' or 'compiled'."
            )
        require_cuda(group.device if group is not None else settings.device)
        super().__init__(data, recogniser, settings, group)
        self._graphs: dict[tuple[int, bool, float], Captured] = {}
        self._pool: Any = None

    def step(self, number: int, progress: float) -> tuple[Terms, str]:
        parts = self.batches(number)
        with_critic, factor = self.set_rates(progress)
        key = (parts[0].n_dropped, with_critic, factor)
        if key not in self._graphs:
            self._graphs[key] = self._capture([part.to(self.device) for part in parts], with_critic, factor)
        captured = self._graphs[key]
        for static, part in zip(captured.parts, parts, strict=True):
            for target, source in zip(static.tensors, part.tensors, strict=True):
                target.copy_(source, non_blocking=True)
        with stage("v2f replay"):
            captured.graph.replay()
        self.average(number)
        return {name: value.clone() for name, value in captured.terms.items()}, named(parts)

    def _capture(self, parts: list[Part], with_critic: bool, factor: float) -> Captured:
        """Captures a step; weights and optimiser slots are as before afterwards."""
        before = self._remembered()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with stage("v2f capture"), torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.update(parts, with_critic, factor)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=side):
                terms = self.update(parts, with_critic, factor)
        torch.cuda.current_stream().wait_stream(side)
        self._pool = graph.pool()
        self._recall(before)
        return Captured(graph, parts, terms)

    def _tensors(self) -> list[torch.Tensor]:
        """Everything a step changes: parameters and the optimisers' slots."""
        own = [p for module in (self.model, self.critic) for p in module.parameters()]
        slots = [
            value
            for optimizer in self.optimizers().values()
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
        return [*own, *slots]

    @torch.no_grad()
    def _remembered(self) -> dict[int, torch.Tensor]:
        return {id(tensor): tensor.detach().clone() for tensor in self._tensors()}

    @torch.no_grad()
    def _recall(self, before: dict[int, torch.Tensor]) -> None:
        """In place, because graphs hold the addresses; slots that the warm-up made go back to zero."""
        for tensor in self._tensors():
            if id(tensor) in before:
                tensor.copy_(before[id(tensor)])
            else:
                tensor.zero_()

"""A generator's step as CUDA graphs: at 32 images a GPU, launching the step's kernels takes longer than running them.

One graph for each shape of step (mask schedule, discriminator running or not), captured when it first comes up,
on static inputs; they share one memory pool. Inside are both passes, clipping and both optimisers; learning
rates live on the device. Outside: reading batches, the averaged weights, the log. Nothing random is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.errors import ConfigError
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.vec2face import Vec2FaceOutput
from v2f_engine.ranges import stage
from v2f_engine.runtime.cuda_graph import require_cuda
from v2f_engine.train.batches import Part, named
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator_settings import GeneratorTraining
from v2f_engine.train.generator_step import GeneratorTrainer, Terms
from v2f_engine.train.halved import cast_where_used, halved

WARM_UP = 3
"""Updates before a capture: libraries choose algorithms, optimisers make their slots. They are taken back."""


class Recorder(Protocol):
    """Runs work a few times, then records it."""

    def record(self, work: Callable[[], Terms]) -> tuple[Callable[[], object], Terms]:
        """(replays the work on the tensors it used, the terms that each replay overwrites)."""


class CudaRecorder:
    """Records CUDA graphs that share one memory pool.

    Args:
        device: a GPU; need not be the current one.

    Raises:
        BackendUnavailable: it is none, or torch sees none.
    """

    def __init__(self, device: str) -> None:
        self.device = require_cuda(device, "stepping='eager'")
        self._pool: Any = None

    def record(self, work: Callable[[], Terms]) -> tuple[Callable[[], object], Terms]:
        with torch.cuda.device(self.device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    work()
                graph = torch.cuda.CUDAGraph()
                # thread_local: the thread that reads ahead pins memory at any time, which the default mode forbids
                # every thread of the process while one captures.
                with torch.cuda.graph(graph, pool=self._pool, stream=side, capture_error_mode="thread_local"):
                    terms = work()
            torch.cuda.current_stream().wait_stream(side)
        self._pool = graph.pool()
        return graph.replay, terms


def open_recorder(device: str) -> Recorder:
    """The recorder of a device. Raises BackendUnavailable where it is no GPU."""
    return CudaRecorder(device)


def recorder_of(group: Ranks) -> Recorder:
    """The recorder of a process that trains alone.

    Raises:
        BackendUnavailable: its device is no GPU.
        ConfigError: several ranks.
    """
    if group.world > 1:
        raise ConfigError("A step as one CUDA graph runs on one rank; use stepping='eager'.")
    return open_recorder(group.device)


def slots_of(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """What optimisers keep of their parameters, by name."""
    return {
        f"{name}/{index}/{slot}": value
        for name, optimizer in optimizers.items()
        for index, state in enumerate(optimizer.state.values())
        for slot, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def recorded(
    recorder: Recorder, work: Callable[[], Terms], changed: Callable[[], dict[str, torch.Tensor]]
) -> tuple[Callable[[], object], Terms]:
    """What `Recorder.record` gives; what the work changes is as before afterwards.

    Args:
        changed: by name, everything that the work changes; asked before and after it.
    """
    before = {name: tensor.detach().clone() for name, tensor in changed().items()}
    with stage("v2f capture"):
        made = recorder.record(work)
    with torch.no_grad():
        for name, tensor in changed().items():
            # In place, because graphs hold the addresses; slots that the warm-up made go back to zero.
            if name in before:
                tensor.copy_(before[name])
            else:
                tensor.zero_()
    return made


@dataclass
class Captured:
    """A recorded step: how to replay it, the inputs it reads and the terms it writes."""

    replay: Callable[[], object]
    parts: list[Part]
    terms: Terms


class GraphedTrainer(GeneratorTrainer):
    """As `GeneratorTrainer`, one GPU, no dropout, no crops.

    Raises:
        BackendUnavailable: no GPU.
        ConfigError: several ranks, or settings without stepping='graph', whose optimisers cannot be captured.
    """

    def __init__(
        self, data: TrainingSet, recogniser: IResNet, settings: GeneratorTraining, group: Ranks | None = None
    ) -> None:
        if settings.stepping != "graph":
            raise ConfigError(
                f"GraphedTrainer expects stepping='graph', found {settings.stepping!r}: the rates of its"
                " optimisers have to live on the device."
            )
        self.recorder = recorder_of(group or Ranks(device=settings.device))
        super().__init__(data, recogniser, settings, group)
        self._graphs: dict[tuple[int, bool, float], Captured] = {}
        self._cast = cast_where_used(self.model) if self.settings.bf16 else []
        for optimizer in self.optimizers().values():
            # Restored slots are other tensors than those whose addresses the graphs hold.
            optimizer.register_load_state_dict_post_hook(lambda _: self._graphs.clear())

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
            captured.replay()
        self.average(number)
        return {name: value.clone() for name, value in captured.terms.items()}, named(parts)

    def _forward(self, part: Part) -> Vec2FaceOutput:
        """As the eager one, its weights cast in one call."""
        if not self._cast:
            return super()._forward(part)
        inputs = (part.features, part.noise, part.n_masked, part.n_dropped)
        with self._autocast():
            copies = halved(self.model, self._cast, torch.bfloat16)
            output: Vec2FaceOutput = torch.func.functional_call(
                self.model, copies, inputs, {"dropout_seed": part.dropout_seed}
            )
        return output

    def _capture(self, parts: list[Part], with_critic: bool, factor: float) -> Captured:
        """Captures a step; weights and optimiser slots are as before afterwards."""
        replay, terms = recorded(
            self.recorder, lambda: self.update(parts, with_critic, factor), lambda: self.changed()
        )
        return Captured(replay, parts, terms)

    def changed(self) -> dict[str, torch.Tensor]:
        """Everything an update changes, by name: parameters and the optimisers' slots."""
        own = {
            f"{name}/{key}": parameter
            for name, module in (("generator", self.model), ("critic", self.critic))
            for key, parameter in module.named_parameters()
        }
        return {**own, **slots_of(self.optimizers())}

"""A recogniser's step as one CUDA graph: forward, margin head, backward, clipping and both optimisers.

Learning rates and the margin's share live on the device; images and labels are copied into the graph's own. Outside:
reading, augmentation, validation, the log. Captured anew after optimiser slots were restored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.errors import ConfigError
from v2f_engine.ranges import stage
from v2f_engine.train import graphed
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.halved import cast_where_used, halved
from v2f_engine.train.recogniser_settings import RecogniserTraining
from v2f_engine.train.recogniser_step import Batch, RecogniserTrainer, Terms


@dataclass
class Captured:
    """A recorded step: how to replay it, the inputs it reads and the terms it writes."""

    replay: Callable[[], object]
    images: torch.Tensor
    labels: torch.Tensor
    share: torch.Tensor
    terms: Terms


class GraphedRecogniserTrainer(RecogniserTrainer):
    """As `RecogniserTrainer`, one GPU; without dropout, sampled classes and fp16's scaler, which settings refuse.

    Raises:
        BackendUnavailable: no GPU.
        ConfigError: several ranks, or settings without stepping='graph'.
    """

    def __init__(self, data: TrainingSet, settings: RecogniserTraining, group: Ranks | None = None) -> None:
        if settings.stepping != "graph":
            raise ConfigError(
                f"GraphedRecogniserTrainer expects stepping='graph', found {settings.stepping!r}: the rates of its"
                " optimisers have to live on the device."
            )
        self.recorder = graphed.recorder_of(group or Ranks(device=settings.device))
        super().__init__(data, settings, group)
        self._graph: Captured | None = None
        # `fc` computes in fp32, with its own weights.
        names = cast_where_used(self.model) if self.settings.precision is not None else []
        self._cast = [name for name in names if not name.startswith("fc.")]
        for optimizer in (self.optimizer, self.head_optimizer):
            # Restored slots are other tensors than those whose addresses the graph holds.
            optimizer.register_load_state_dict_post_hook(lambda _: self._forget())

    def _forget(self) -> None:
        self._graph = None

    def step(self, batch: Batch, number: int, progress: float) -> Terms:
        images, labels, _ = batch
        share = self.set_rates(number, progress)
        if self._graph is None:
            self._graph = self._capture(images, labels)
        captured = self._graph
        captured.images.copy_(images, non_blocking=True)
        captured.labels.copy_(labels, non_blocking=True)
        captured.share.fill_(share)
        with stage("v2f replay"):
            captured.replay()
        return {name: value.detach().clone() for name, value in captured.terms.items()}

    def _features(self, images: torch.Tensor, number: int) -> torch.Tensor:
        """As the eager ones, the network's weights cast in one call."""
        if not self._cast:
            return super()._features(images, number)
        copies = halved(self.model, self._cast, torch.bfloat16)
        features: torch.Tensor = torch.func.functional_call(self.model, copies, (images,))
        return features

    def _capture(self, images: torch.Tensor, labels: torch.Tensor) -> Captured:
        """Captures a step on copies of a batch; weights, statistics and optimiser slots are as before afterwards."""
        own = images.to(self.device, memory_format=torch.channels_last, copy=True)
        targets = labels.to(self.device, copy=True)
        share = torch.ones((), dtype=torch.float64, device=self.device)
        replay, terms = graphed.recorded(
            self.recorder, lambda: self.update(own, targets, 0, share), self.changed
        )
        return Captured(replay, own, targets, share, terms)

    def changed(self) -> dict[str, torch.Tensor]:
        """Everything an update changes, by name: parameters, running statistics and the optimisers' slots."""
        own = {
            f"{name}/{key}": tensor
            for name, module in (("recogniser", self.model), ("head", self.head))
            for listed in (module.named_parameters(), module.named_buffers())
            for key, tensor in listed
        }
        optimizers = {"optimizer": self.optimizer, "head_optimizer": self.head_optimizer}
        return {**own, **graphed.slots_of(optimizers)}

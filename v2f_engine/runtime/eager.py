"""The plain runner: the frozen network called op by op, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.backends import Choice
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.ops import reached
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import LoadedModel
from v2f_engine.ranges import stage
from v2f_engine.runtime import Inputs
from v2f_engine.runtime.shared_cores import SharedCores


def frozen_model(loaded: LoadedModel, choice: Choice) -> Vec2Face:
    """A copy of the generator with its constants folded, on the choice's device and bound to its ops."""
    with stage("prepare network"):
        frozen = freeze(loaded.model, device=choice.device, dtype=choice.dtype)
        bind_ops(frozen, choice)
    return frozen


def open_eager(loaded: LoadedModel, choice: Choice, n_dropped: int, batch_size: int) -> EagerRunner:
    """The plain runner of a loaded generator."""
    return EagerRunner(frozen_model(loaded, choice), choice, n_dropped=n_dropped, batch_size=batch_size)


class EagerRunner:
    """Runs a frozen `Vec2Face` without a graph.

    Args:
        model: frozen and bound to its ops (`models.fold.freeze`, `models.bind_ops`).
        choice: the device, precision and backends it was bound to.
        n_dropped: rows that never enter the encoder, fixed by the mask schedule.
        batch_size: rows of every call; shorter inputs are padded by repeating their last row.
    """

    def __init__(self, model: Vec2Face, choice: Choice, *, n_dropped: int, batch_size: int) -> None:
        self.model = model
        self.choice = choice
        self.n_dropped = n_dropped
        self.batch_size = batch_size
        self.device = torch.device(choice.device)
        self._cores = SharedCores.of_this_process(self.device)

    def _to_device(self, rows: NDArray[Any]) -> torch.Tensor:
        missing = self.batch_size - len(rows)
        if missing:
            rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device, non_blocking=True)

    @torch.inference_mode()
    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        with stage("copy to device"):
            rows = [self._to_device(part) for part in (vectors, noise, n_masked)]
        with stage("decode"):
            made = self._cores.run(
                lambda: self.model.decode(rows[0].to(self.choice.dtype), rows[1], rows[2], self.n_dropped)
            )
        with stage("copy to host"):
            images: NDArray[np.uint8] = made[: len(vectors)].cpu().numpy()
        return images

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        """Images of each batch, one call after the other."""
        for inputs in batches:
            yield self(*inputs)

    def describe(self) -> dict[str, Any]:
        # A GPU's table is told whole, as ever: to tell less would stop datasets begun before.
        only = reached(self.model) if self.device.type == "cpu" else None
        return {"runner": "eager", "batch_size": self.batch_size, **self.choice.describe(only)}

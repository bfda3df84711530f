"""The plain runner: the frozen network called op by op, on a CPU or a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.backends import Choice
from v2f_engine.models.vec2face import Vec2Face


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

    def _to_device(self, rows: NDArray[Any]) -> torch.Tensor:
        missing = self.batch_size - len(rows)
        if missing:
            rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device, non_blocking=True)

    @torch.inference_mode()
    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        dtype = self.choice.dtype
        made = self.model.decode(
            self._to_device(vectors).to(dtype),
            self._to_device(noise),
            self._to_device(n_masked),
            self.n_dropped,
        )
        images: NDArray[np.uint8] = made[: len(vectors)].cpu().numpy()
        return images

    def describe(self) -> dict[str, Any]:
        return {"runner": "eager", "batch_size": self.batch_size, **self.choice.describe()}

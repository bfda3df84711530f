"""What `--runner onnx` would run where its file is not written yet: for a plan that must write nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import backends, disk
from v2f_engine.config import one_of
from v2f_engine.export import graph
from v2f_engine.export.onnx import PRECISIONS, cache_of, refuse_pose
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.models.weights import LoadedModel
from v2f_engine.runtime import Inputs, open_runner
from v2f_engine.runtime.onnx import onnxruntime, provider_for


class UnexportedOnnx:
    """The network itself, op by op, in the place of its ONNX file: pictures and times are alike, not the same.

    To everyone it is an exported file's runner: it holds no network that could be steered or truncated.

    Args:
        loaded: the weights.
        precision: of the file to come.
        masks: the schedule it would be exported for.
        device: `cpu`, or `cuda:N`.
        batch_size: rows of every call.

    Raises:
        As the export and the runner would: ConfigError, MissingDependency, BackendUnavailable, OutputFolderError.
    """

    def __init__(
        self, loaded: LoadedModel, precision: str, masks: MaskSchedule, device: str, batch_size: int
    ) -> None:
        one_of("precision", precision, PRECISIONS)
        refuse_pose(loaded)
        graph.require_exporter()
        ort, self.path = onnxruntime(), cache_of(loaded, precision, masks)
        self.provider, _ = provider_for(ort, device, precision, self.path)
        disk.refuse_unwritable(self.path.parent)
        computes = precision if device.startswith("cuda") else "fp32"
        self._network = open_runner(
            "eager", loaded, backends.choose(device, computes), masks.n_dropped, batch_size
        )
        self.batch_size, self.n_dropped = batch_size, masks.n_dropped
        self.version, self.precision = str(ort.__version__), precision

    @property
    def first(self) -> str:
        """What the run does before its first image, for people."""
        return f"exported first to {self.path}; the network itself stands for it here"

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        return self._network(vectors, noise, n_masked)

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        """Images of each batch, in order."""
        return self._network.stream(batches)

    def describe(self) -> dict[str, Any]:
        return {
            "runner": "onnx",
            "batch_size": self.batch_size,
            "precision": self.precision,
            "provider": self.provider,
            "onnxruntime": self.version,
            "file": "not exported yet",
        }

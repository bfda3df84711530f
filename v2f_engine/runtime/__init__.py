"""Runners: a whole frozen generator as one call, `(vectors, noise, n_masked) -> uint8 images`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Runner(Protocol):
    """A frozen generator on one device.

    A runner always computes `batch_size` rows, padding the last call: which GEMM kernel a library picks
    depends on the number of rows, so a fixed number is what makes an image's bytes independent of how
    many others were asked for (a 768 -> 3072 Linear on a CPU gives other bits at batch 1 than at 64).
    """

    batch_size: int
    n_dropped: int

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """uint8 `[B, 112, 112, 3]` of vectors `[B, 512]`, noise `[B, 49]`, counts `[B]`; B <= batch_size."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides the bytes of an image: runner, device, precision, backends, batch size."""
        ...

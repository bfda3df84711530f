"""What an export costs in fidelity: grey levels against the fp32 eager runner, and whether the faces are still
the same people.

Identity is the cosine between a recogniser's features of the same face from both. A mean loss above
`MAX_COSINE_LOSS` is refused unless forced.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine import backends
from v2f_engine.config import at_least
from v2f_engine.errors import AccuracyLoss
from v2f_engine.models.embedder import Reader
from v2f_engine.models.features import extract_features
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import LoadedModel, LoadedRecogniser
from v2f_engine.runtime import Inputs
from v2f_engine.runtime.artefact import Sidecar
from v2f_engine.runtime.eager import frozen_model
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.sampling import sample_identities

MAX_COSINE_LOSS = 0.005
BATCH = 16
"""Images of one call: 16 of 112x112x128 fp32 activations are 103 MB."""

Bytes = NDArray[np.uint8]
Part = Callable[..., Bytes]
"""An exported part: its inputs -> uint8 images."""


@dataclass(frozen=True)
class Parity:
    """An export against the fp32 eager runner, on the same generated faces.

    Args:
        images: how many.
        max_grey, rms_grey: difference in grey levels over all pixels and channels.
        within_one: share of values at most one level off.
        mean_cosine, min_cosine: of recogniser features of the same face from both.
        spread: standard deviation of the reference images in grey levels; faces have 40 and more.
        recogniser: whose features.
        measured_with: what ran the export.
        images_per_second: of the last call; a first impression, `bench/generation/export.py` measures.
    """

    images: int
    max_grey: int
    rms_grey: float
    within_one: float
    mean_cosine: float
    min_cosine: float
    spread: float
    recogniser: str
    measured_with: str
    images_per_second: float = 0.0

    def describe(self) -> dict[str, Any]:
        """Plain values, for sidecars."""
        return asdict(self)

    def require(self, what: str, force: bool) -> None:
        """Raises AccuracyLoss where more than `MAX_COSINE_LOSS` of mean cosine is lost, unless forced."""
        lost = 1.0 - self.mean_cosine
        if lost <= MAX_COSINE_LOSS or force:
            return
        raise AccuracyLoss(
            f"{what} loses {lost:.4f} in mean identity cosine over {self.images} faces (limit {MAX_COSINE_LOSS};"
            f" worst face {self.min_cosine:.3f}; {self.rms_grey:.2f} grey levels RMS). Use a wider precision, or"
            " force it (--force). Nothing was kept."
        )


@dataclass(frozen=True)
class Judge:
    """The fp32 eager runner's answer on a fixed set of faces, and a recogniser.

    Args:
        inputs: of the whole generator.
        grids: float32 `[B, z, 7, 7]`, what the image decoder gets for them.
        images: what the fp32 eager runner makes of them.
        features: of those, float32 `[B, 512]`.
        recogniser: what extracted them.
    """

    inputs: Inputs
    grids: NDArray[np.float32]
    images: Bytes
    features: NDArray[np.float32]
    recogniser: LoadedRecogniser | Reader

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        recogniser: LoadedRecogniser | Reader,
        masks: MaskSchedule,
        *,
        images: int = 32,
        seed: int = 0,
    ) -> Judge:
        """Draws one image of each of `images` identities, from the model's own statistics, and makes them."""
        inputs = draw_inputs(loaded, masks, images, seed)
        made, grids = exact_images(loaded, inputs, masks)
        return cls(inputs, grids, made, extract_features(recogniser.model, made), recogniser)

    def rows(self, part: str) -> tuple[NDArray[Any], ...]:
        """The inputs of a part."""
        return (self.grids,) if part == "decoder" else self.inputs

    def measure(self, call: Part, part: str, measured_with: str) -> Parity:
        """Runs an exported part on the same faces and compares. The last call, when all is warm, is the rate."""
        rows, made, rate = self.rows(part), [], 0.0
        for start in range(0, len(self.images), BATCH):
            clock = time.perf_counter()
            made.append(call(*(r[start : start + BATCH] for r in rows)))
            rate = len(made[-1]) / (time.perf_counter() - clock)
        return self.compare(np.concatenate(made), measured_with, rate)

    def compare(self, made: Bytes, measured_with: str, rate: float = 0.0) -> Parity:
        """Images of the same faces against the fp32 eager runner's."""
        off = np.abs(made.astype(np.int16) - self.images)
        cosine = cosines(extract_features(self.recogniser.model, made), self.features)
        return Parity(
            len(made),
            int(off.max()),
            float(np.sqrt(np.mean(off.astype(np.float64) ** 2))),
            float(np.mean(off <= 1)),
            float(cosine.mean()),
            float(cosine.min()),
            float(self.images.std()),
            f"{self.recogniser.name} {self.recogniser.sha256[:12]}",
            measured_with,
            rate,
        )


def draw_inputs(loaded: LoadedModel, masks: MaskSchedule, images: int, seed: int) -> Inputs:
    """Inputs of the generator for one image of each of `images` identities."""
    at_least("check images", images, 2)
    table = sample_identities(images, max_cosine=None, seed=seed, source=loaded.statistics)
    identity = np.arange(images, dtype=np.int64)
    image = np.zeros(images, np.int64)
    vectors = Perturbation().draw(table.vectors, identity, image, seed=seed).vectors
    return (vectors, *masks.draw(seed, identity, image))


def exact_images(
    loaded: LoadedModel, inputs: Inputs, masks: MaskSchedule
) -> tuple[Bytes, NDArray[np.float32]]:
    """(images, grids) of the fp32 eager runner on the CPU."""
    return eager_images(frozen_model(loaded, backends.choose("cpu", "fp32")), inputs, masks.n_dropped)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row, float64 `[N]`."""
    wide = a.astype(np.float64), b.astype(np.float64)
    made: NDArray[np.float64] = (wide[0] * wide[1]).sum(1) / (
        np.linalg.norm(wide[0], axis=1) * np.linalg.norm(wide[1], axis=1)
    )
    return made


@torch.inference_mode()
def eager_images(frozen: Vec2Face, inputs: Inputs, n_dropped: int) -> tuple[Bytes, NDArray[np.float32]]:
    """(uint8 images, float32 grids) of a frozen model bound to its ops, op by op."""
    images, grids = [], []
    for start in range(0, len(inputs[0]), BATCH):
        vectors, noise, n_masked = (torch.from_numpy(part[start : start + BATCH]) for part in inputs)
        grid = frozen.grid(vectors, noise, n_masked, n_dropped)[0]
        grids.append(grid.float().contiguous().numpy())
        images.append(frozen.im_decoder.bytes(grid).numpy())
    return np.concatenate(images), np.concatenate(grids)


def eager_part(loaded: LoadedModel, sidecar: Sidecar) -> Part:
    """The same part and precision op by op in torch, for types that onnxruntime has no kernels for."""
    frozen = frozen_model(loaded, backends.choose("cpu", sidecar.precision))

    @torch.inference_mode()
    def call(*rows: NDArray[Any]) -> Bytes:
        if sidecar.part == "decoder":
            grid = torch.from_numpy(rows[0]).to(frozen.im_decoder.conv_in.weight.dtype)
            made: Bytes = frozen.im_decoder.bytes(grid).numpy()
            return made
        return eager_images(frozen, rows, sidecar.n_dropped)[0]  # type: ignore[arg-type]

    return call

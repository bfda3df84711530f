"""The engine: a frozen generator on one device, yielding batches of images."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.config import at_least, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule
from v2f_engine.pipeline import serving
from v2f_engine.pipeline.ahead import made_ahead
from v2f_engine.pipeline.empty import again_if_empty
from v2f_engine.pipeline.rebatch import rebatched
from v2f_engine.randomness import Purpose, normals
from v2f_engine.ranges import stage
from v2f_engine.runtime import Inputs, Runner, open_runner, runner_for
from v2f_engine.runtime.micro_batch import MicroBatches
from v2f_engine.vectors.gate import check_vectors
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.sampling import Identities

if TYPE_CHECKING:
    from v2f_engine.attributes.control import AttributeControl, Control
    from v2f_engine.models.weights import LoadedModel
    from v2f_engine.pipeline.posed import PoseCondition, Posed
    from v2f_engine.runtime.artefact import ServedModel
    from v2f_engine.runtime.batch_invariance import BatchInvariance

COMPUTE_BATCH = {"cpu": 16, "cuda": 256}
"""Rows of every decoding call. CPU: 16 images of 112x112x128 fp32 activations are 103 MB, past any cache
already. GPU: 256 fills 132 SMs 47 times over at the last level (12,544 rows an image, 128x128 tiles)."""


@dataclass(frozen=True)
class Drawn:
    """What is known of a batch before its images are there.

    Args:
        identity, image: int64 `[B]`.
        attributes: name -> float32 `[B]`.
        rows: what the runner is given.
    """

    identity: NDArray[np.int64]
    image: NDArray[np.int64]
    attributes: dict[str, NDArray[np.float32]]
    rows: Inputs


class Engine:
    """A frozen generator on one device, with its kernels chosen once.

    Build it with `Engine.load`. `engine.choice` says which backend runs each op and why.
    """

    def __init__(self, loaded: LoadedModel | ServedModel, runner: Runner, masks: MaskSchedule) -> None:
        self.loaded = loaded
        self.runner = runner
        self.masks = masks
        self.micro = MicroBatches(runner)

    @classmethod
    def load(
        cls,
        model: str | Path = "mini",
        *,
        device: str = "auto",
        precision: str = "auto",
        masks: str | MaskSchedule = "generate",
        compute_batch: int | None = None,
        runner: str = "auto",
        fetch: bool = False,
    ) -> Engine:
        """Loads, freezes and binds a model.

        Args:
            model: `"mini"` (embedded), `"vec2face"`, `"vec2face-plus"`, a path to weights, or a file of `v2f
                export`: `model.onnx`, `engine.plan`.
            device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`.
            precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
            masks: a name in `MASK_SCHEDULES` or a schedule.
            compute_batch: rows of every decoding call; recorded, since it decides the last bits.
            runner: a name in `runtime.RUNNERS`; `"auto"` is `cuda_graph` on a GPU and `eager` on a CPU.
            fetch: allow huggingface_hub to download published weights that are not here.

        Raises:
            ModelNotFound: an unknown name, or weights that are not here.
            CheckpointError: weights that are broken or do not fit.
            ArtefactError: an exported file that is damaged, foreign, or of another version or GPU.
            ConfigError: a device, precision, schedule or runner that does not exist.
            BackendUnavailable: a device or runner that this machine lacks, with the reason.
        """
        with stage("import"):
            from v2f_engine import backends
            from v2f_engine.models.weights import load_generator

        schedule = _schedule(masks)
        one_of("precision", precision, backends.PRECISIONS)
        served, largest = None, None
        if serving.is_artefact(model):
            served, runner, largest = serving.file_runner(model, runner, precision)
        choice = backends.choose(device, "auto" if served or runner == "onnx" else precision)
        name = runner_for(runner, choice.device)
        batch = COMPUTE_BATCH[choice.device.split(":")[0]] if compute_batch is None else compute_batch
        if compute_batch is None and largest is not None:
            batch = min(batch, largest)
        at_least("compute_batch", batch, 1)
        if served is None and name == "onnx":
            served = serving.exported_for(model, precision, schedule, choice.device, fetch)
        with stage("load weights"):
            loaded = served or load_generator(model, fetch=fetch)
        return cls(loaded, open_runner(name, loaded, choice, schedule.n_dropped, batch), schedule)

    def images(
        self,
        identities: Identities | NDArray[np.float32],
        images_per_id: int,
        *,
        seed: int = 0,
        perturbation: Perturbation | None = None,
        batch_size: int = 64,
        select: range | None = None,
        control: Control | Posed | None = None,
    ) -> Iterator[ImageBatch]:
        """Images of identities, in order of (identity, image).

        Args:
            identities: a table from `sample_identities`, or float32 vectors `[N, 512]`.
            images_per_id: how many of each.
            seed: 64-bit seed of perturbation and masks.
            perturbation: noise around the identity's vector; default sigma 0.3/0.5/0.7 at 40/40/20 %.
            batch_size: images a batch that is yielded; changes nothing else.
            select: identities to make, e.g. one shard's; all by default.
            control: attributes to steer to, from `Engine.control`.

        Yields:
            `ImageBatch` with attributes `sigma`, `cosine_to_centre`, `n_masked` and `failed` (1 where the image
            came out constant twice, as a NaN anywhere in the network makes it); steered ones also with the
            value and goal of every attribute, `identity_cosine`, `verdict` and `iterations`.

        Raises:
            VectorError: vectors of another shape, not finite, or of zero norm.
            OutOfMemory: see `runtime.micro_batch`.
        """
        vectors = identities.vectors if isinstance(identities, Identities) else check_vectors(identities)
        at_least("images_per_id", images_per_id, 1)
        at_least("batch_size", batch_size, 1)
        chosen = range(len(vectors)) if select is None else select
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < len(vectors):
            raise ConfigError(f"select {chosen} reaches outside the {len(vectors)} identities given.")
        perturbation = perturbation or Perturbation()
        keys = identities.keys if isinstance(identities, Identities) else np.arange(len(vectors))
        if control is None:
            computed = self._computed(vectors, keys, chosen, images_per_id, seed, perturbation)
            return rebatched(computed, batch_size)
        from v2f_engine.pipeline.steered import controlled

        made = controlled(self, control, vectors, keys, chosen, images_per_id, seed, perturbation)
        return rebatched(made, batch_size)

    def control(self, asked: AttributeControl | PoseCondition) -> Control | Posed:
        """Steering (`attributes.control.AttributeControl`) or a pose network's condition, ready for this engine.

        Raises:
            ConfigError: a goal without an attribute, or a runner without gradients.
            ModelNotFound, CheckpointError: of the networks that judge.
        """
        from v2f_engine.pipeline.steered import control_of

        return control_of(self, asked)

    def _computed(
        self,
        vectors: NDArray[np.float32],
        keys: NDArray[np.int64],
        chosen: range,
        images_per_id: int,
        seed: int,
        perturbation: Perturbation,
    ) -> Generator[ImageBatch]:
        """Batches as the runner makes them, from draws made ahead; what is still being made waits in `flying`."""
        flying: deque[Drawn] = deque()

        def draws() -> Generator[Drawn]:
            total = len(chosen) * images_per_id
            for start in range(0, total, self.runner.batch_size):
                position = np.arange(start, min(total, start + self.runner.batch_size), dtype=np.int64)
                identity = position // images_per_id * chosen.step + chosen.start
                image = position % images_per_id
                with stage("perturb"):
                    perturbed = perturbation.draw(vectors[identity], keys[identity], image, seed=seed)
                with stage("mask"):
                    noise, n_masked = self.masks.draw(seed, keys[identity], image)
                attributes = {
                    "sigma": perturbed.sigma,
                    "cosine_to_centre": perturbed.cosine,
                    "n_masked": n_masked.astype(np.float32),
                }
                yield Drawn(identity, image, attributes, (perturbed.vectors, noise, n_masked))

        def inputs() -> Generator[Inputs]:
            with closing(made_ahead(draws())) as ahead:
                for drawn in ahead:
                    flying.append(drawn)
                    yield drawn.rows

        with closing(inputs()) as rows, closing(self.micro.stream(rows)) as made:
            for images in made:
                drawn = flying.popleft()
                sound, failed = again_if_empty(images, partial(self.micro.call, drawn.rows))
                yield ImageBatch(sound, drawn.identity, drawn.image, {**drawn.attributes, "failed": failed})

    def self_test(self, seed: int = 0) -> BatchInvariance:
        """Makes one batch with other numbers of rows a call: are this machine's kernels batch-invariant?

        Raises:
            OutOfMemory: the runner is a fixed engine, whose rows cannot be changed.
        """
        from v2f_engine.runtime.batch_invariance import measure

        return measure(self.runner, self.test_inputs(seed))

    def test_inputs(self, seed: int) -> Inputs:
        """One batch of rows that `self_test` makes."""
        image = np.arange(self.runner.batch_size, dtype=np.int64)
        centres = normals(seed, Purpose.PERTURBATION, image, image, 512)
        return (centres, *self.masks.draw(seed, image, image))

    def describe(self) -> dict[str, Any]:
        """Everything about this engine that decides an image's bytes, for manifests."""
        masks = self.masks
        return {
            "model": {"name": self.loaded.name, "sha256": self.loaded.sha256},
            "masks": {"min": masks.minimum, "mean": masks.mean, "std": masks.std, "max": masks.maximum},
            "runner": self.runner.describe(),
        }


def _schedule(masks: str | MaskSchedule) -> MaskSchedule:
    return (
        masks if isinstance(masks, MaskSchedule) else MASK_SCHEDULES[one_of("masks", masks, MASK_SCHEDULES)]
    )

"""Attribute control in generation: vectors steered, image by image, before the batch leaves the engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from v2f_engine.attributes.control import AttributeControl, Control
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import ConfigError
from v2f_engine.models.weights import LoadedModel
from v2f_engine.pipeline.posed import PoseCondition, Posed, posed
from v2f_engine.vectors.perturbation import Perturbation

if TYPE_CHECKING:
    from v2f_engine.models.vec2face import Vec2Face
    from v2f_engine.pipeline.engine import Engine

ROUNDS = 16
"""Samples queued at a time, as a multiple of the slots: idle slots at the end of a queue are then few."""
REFINING = 2**32 - 1
"""Image number whose masks refine an identity; no image has it."""
REFERENCES = 8
"""Unsteered images of an identity whose mean feature is its reference; numbered down from `REFINING`."""


def control_of(engine: Engine, asked: AttributeControl | PoseCondition) -> Control | Posed:
    """`asked`, made ready for an engine.

    Raises:
        ConfigError: an engine whose runner cannot say what device and precision to use.
        ModelNotFound, CheckpointError: of the judges.
    """
    if isinstance(asked, PoseCondition):
        return Posed(asked, engine)
    choice = getattr(engine.runner, "choice", None)
    if choice is None or not isinstance(engine.loaded, LoadedModel):
        raise ConfigError(
            f"attribute control needs gradients; runner {engine.runner.describe().get('runner')!r} has none."
            " Use runner='eager' or 'cuda_graph'."
        )
    return Control(asked, engine.loaded, _twin(engine), choice, engine.masks.n_dropped)


def controlled(
    engine: Engine,
    control: Control | Posed,
    vectors: NDArray[np.float32],
    keys: NDArray[np.int64],
    chosen: range,
    images_per_id: int,
    seed: int,
    perturbation: Perturbation,
) -> Iterator[ImageBatch]:
    """Batches under either kind of control."""
    if isinstance(control, Posed):
        return posed(engine, control, vectors, keys, chosen, images_per_id, seed, perturbation)
    return steered(engine, control, vectors, keys, chosen, images_per_id, seed, perturbation)


def _twin(engine: Engine) -> Vec2Face:
    """The runner's network with its own ops and the same tensors: on a CPU, forms with a quick backward."""
    from v2f_engine.models import bind_ops
    from v2f_engine.models.cpu_forms import quicken

    source: Vec2Face = engine.runner.model  # type: ignore[attr-defined]
    shared = {id(tensor): tensor for tensor in chain(source.parameters(), source.buffers())}
    twin = copy.deepcopy(source, shared)
    choice = engine.runner.choice  # type: ignore[attr-defined]
    bind_ops(twin, choice)
    if choice.device == "cpu":
        quicken(twin)
    return twin


def references(
    engine: Engine,
    control: Control,
    centres: NDArray[np.float32],
    identities: NDArray[np.int64],
    seed: int,
    perturbation: Perturbation,
) -> NDArray[np.float32]:
    """What each identity's images are compared with, `[I, D]`: its vector, or the mean feature of its images.

    Args:
        centres: `[I, 512]`.
        identities: int64 `[I]`, their numbers.
    """
    if control.reference == "vector":
        return centres
    row = np.repeat(np.arange(len(identities)), REFERENCES)
    image = REFINING - 1 - np.tile(np.arange(REFERENCES, dtype=np.int64), len(identities))
    features = []
    for start in range(0, len(row), engine.runner.batch_size):
        part = slice(start, start + engine.runner.batch_size)
        identity = identities[row[part]]
        perturbed = perturbation.draw(centres[row[part]], identity, image[part], seed=seed)
        noise, n_masked = engine.masks.draw(seed, identity, image[part])
        features.append(control.features(engine.runner(perturbed.vectors, noise, n_masked)))
    means = np.concatenate(features).reshape(len(identities), REFERENCES, -1).mean(1)
    return np.asarray(means, np.float32)


def steered(
    engine: Engine,
    control: Control,
    vectors: NDArray[np.float32],
    keys: NDArray[np.int64],
    chosen: range,
    images_per_id: int,
    seed: int,
    perturbation: Perturbation,
) -> Iterator[ImageBatch]:
    """Batches of steered images of the `chosen` identities, in order of (identity, image)."""
    identities = np.arange(chosen.start, chosen.stop, chosen.step, dtype=np.int64)
    centres = vectors[identities]
    if not len(identities):
        return
    kept = references(engine, control, centres, keys[identities], seed, perturbation)
    if control.asked.refines:
        noise, n_masked = engine.masks.draw(seed, keys[identities], np.full_like(identities, REFINING))
        centres = control.refine(centres, noise, n_masked, keys[identities], kept, seed).vectors
    total = len(chosen) * images_per_id
    queue = control.asked.steering(control.choice.device).slots * ROUNDS
    step = queue if control.asked.steers_images else engine.runner.batch_size
    for start in range(0, total, step):
        position = np.arange(start, min(total, start + step), dtype=np.int64)
        row, image = position // images_per_id, position % images_per_id
        identity = identities[row]
        perturbed = perturbation.draw(centres[row], keys[identity], image, seed=seed)
        noise, n_masked = engine.masks.draw(seed, keys[identity], image)
        told = {
            "sigma": perturbed.sigma,
            "cosine_to_centre": perturbed.cosine,
            "n_masked": n_masked.astype(np.float32),
        }
        if control.asked.steers_images:
            made, measured = control.images(
                perturbed.vectors, noise, n_masked, keys[identity], image, kept[row], seed
            )
            yield ImageBatch(made.images, identity, image, told | measured)
        else:
            yield ImageBatch(engine.runner(perturbed.vectors, noise, n_masked), identity, image, told)

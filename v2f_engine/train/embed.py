"""Packs a trained generator, its recogniser and sampler statistics into a model folder with a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.models.registry import CARD, write_card
from v2f_engine.models.stripe_response import FACES, stripe_response
from v2f_engine.models.weights import load_generator, load_recogniser, save_weights
from v2f_engine.scores import genuine_impostor, threshold_at_fmr
from v2f_engine.vectors.statistics import fit_statistics, save_statistics

LICENCE = "CC0-1.0"
FMR = 1e-3
"""Two vectors are one person where the extractor would take one impostor pair in so many for genuine."""
IMPOSTORS = 2_000_000


@dataclass(frozen=True)
class Spread:
    """How features of one person scatter: what perturbation has to imitate.

    Args:
        norm: mean length of an image's feature.
        centre_norm: mean length of a person's mean feature.
        cosine_p5, cosine_mean, cosine_p95: cosine of an image's feature and its person's centre.
    """

    norm: float
    centre_norm: float
    cosine_p5: float
    cosine_mean: float
    cosine_p95: float


def centres_of(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean feature of every label: float32 `[classes, D]`."""
    count = np.bincount(labels)
    sums = np.zeros((len(count), features.shape[1]), np.float64)
    np.add.at(sums, labels, features)
    return (sums / count[:, None]).astype(np.float32)


def spread_of(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Spread:
    """Measures the within-person spread of features `[N, D]`."""
    centres = centres_of(features, labels)
    norm, centre_norm = np.linalg.norm(features, axis=1), np.linalg.norm(centres, axis=1)
    cosine = np.einsum("nd,nd->n", features, centres[labels]) / (norm * centre_norm[labels])
    low, high = np.quantile(cosine, (0.05, 0.95))
    return Spread(*(round(float(v), 4) for v in (norm.mean(), centre_norm.mean(), low, cosine.mean(), high)))


def identity_vectors(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """A person's vector `[classes, D]`: its centre at the mean length of an image's feature.

    Averaging shortens (20.9 from 24.4 here), and a generator has only seen vectors of images' length.
    """
    centres = centres_of(features, labels)
    length = np.linalg.norm(features, axis=1).mean() / np.linalg.norm(centres, axis=1).mean()
    return np.asarray(centres * np.float32(length))


def embed(
    folder: Path, generator: Path, recogniser: Path, data: MemorySet, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes `generator`, `recogniser` (fp16) and `statistics.safetensors`, then `card.json` last.

    Args:
        folder: e.g. `v2f_engine/assets/mini`.
        generator, recogniser: `.safetensors` of the trainings.
        data: images' features and labels that the statistics are fitted on.
        about: what the card says besides hashes.

    Returns:
        the within-person spread, the sampler's effective dimension and the extractor's stripe response on up to
        `stripe_response.FACES` images from all over `data`; the card also holds them.
    """
    assert data.features is not None
    folder.mkdir(parents=True, exist_ok=True)
    made, reader = load_generator(generator), load_recogniser(recogniser)
    spread = spread_of(data.features, data.labels)
    statistics = fit_statistics(
        [(0, identity_vectors(data.features, data.labels))], origin=f"{data.classes} rendered people, centres"
    )
    _, impostor = genuine_impostor(data.features, data.labels, impostors=IMPOSTORS)
    some = np.linspace(0, len(data) - 1, min(FACES, len(data))).round().astype(np.int64)
    measured = {
        "spread": vars(spread),
        "effective_dimension": round(statistics.effective_dimension, 2),
        "max_cosine": round(threshold_at_fmr(impostor, FMR), 3),
        "stripes": stripe_response(reader.model, data.images[some]).to_json(),
    }
    save_weights(
        folder / "generator.safetensors",
        {"model": made.model},
        {"kind": "vec2face", "config": made.config.to_json(), "training": made.head.get("training", {})},
        precision="fp16",
    )
    save_weights(
        folder / "recogniser.safetensors",
        {"model": reader.model},
        {"kind": "iresnet", "config": reader.config.to_json(), "training": reader.head.get("training", {})},
        precision="fp16",
    )
    save_statistics(folder / "statistics.safetensors", statistics)
    write_card(folder, LICENCE, {**about, "features": measured})
    return measured


def embed_pose(folder: Path, pose: Path, about: Mapping[str, Any]) -> None:
    """Adds `pose.safetensors` of `v2f train pose` (fp16: generator with LoRA, pose network) and notes it on the card.

    Args:
        folder: that `embed` wrote.
        pose: the training's weights.
        about: what the card says of them, under `pose_model`.
    """
    made = load_generator(pose)
    assert made.pose is not None
    training = made.head.get("training", {})
    save_weights(
        folder / "pose.safetensors",
        {"model": made.model, "pose": made.pose},
        {
            "kind": "vec2face",
            "config": made.config.to_json(),
            "training": training,
            "landmarks": made.landmark_heights,
        },
        precision="fp16",
    )
    card = json.loads((folder / CARD).read_text())
    write_card(folder, str(card["licence"]), {**card, "pose_model": {**about, "training": training}})

"""Shares of what is seen of people, generated beside rendered: glasses, hats, hanging hair, beards, faces turned far.

Rendered people say what each image shows; a linear estimator learns it from them, and generated images are counted by
it. Its features are smoothed by a Gaussian of 2 pixels first, which leaves 0.7 % of a comb of 4 pixels, and nothing of
the fine detail that generated images may lack. Error: four folds by person; a fold's threshold is the one of best
balanced accuracy on the others' held-out scores. Each share is corrected for that error by Rogan and Gladen:
(seen + specificity - 1) / (sensitivity + specificity - 1); where the balanced accuracy is below 0.65, or fewer than
12 people have or lack the trait, none is stated. The 95 % are of resampled people, rendered and generated.
What cannot be known is whether the error is the same on generated images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]

SIGMA, TURNS = 2.0, 9
FOLDS, RIDGE = 4, 3000.0
"""The ridge is of standardised features; from 300 to 3,000 held-out accuracy of 4,000 images changed by 0.02."""
CHANCE, FEWEST = 0.65, 12
RESAMPLES = 400
CHUNK = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def described(images: NDArray[np.uint8]) -> Float32:
    """Gradients by direction in cells of 8 pixels, and colours in them: float32 `[N, 2352]` of `[N, 112, 112, 3]`."""
    return np.concatenate([_described(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)])


def _described(images: NDArray[np.uint8]) -> Float32:
    smooth = np.stack([cv2.GaussianBlur(image.astype(np.float32), (0, 0), SIGMA) for image in images])
    half = _cells(smooth, 2)
    grey = half @ _LUMA
    down, across = np.gradient(grey, axis=(1, 2))
    size = np.hypot(across, down)
    turn = np.mod(np.arctan2(down, across), np.pi) / np.pi * TURNS
    near = np.floor(turn)
    share = turn - near
    by_turn = [
        _cells(size * ((near % TURNS == k) * (1 - share) + ((near + 1) % TURNS == k) * share), 4)
        for k in range(TURNS)
    ]
    gradients = np.stack(by_turn, axis=-1)
    energy = np.pad((gradients**2).sum(axis=-1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    side = gradients.shape[1]
    around = sum(energy[:, y : y + side, x : x + side] for y in range(3) for x in range(3)) / 9
    gradients /= np.sqrt(around + 1.0)[..., None]
    colour = _cells(half, 4)
    colour -= colour.mean(axis=(1, 2), keepdims=True)
    colour /= colour.std(axis=(1, 2, 3), keepdims=True) + 1.0
    flat = [part.reshape(len(images), -1) for part in (gradients, colour)]
    return np.concatenate(flat, axis=1).astype(np.float32)


def _cells(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Means of squares of `side` pixels: `[N, H, W, ...]` to `[N, H / side, W / side, ...]`."""
    n, height, width, *rest = values.shape
    return np.asarray(values.reshape(n, height // side, side, width // side, side, *rest).mean(axis=(2, 4)))


@dataclass(frozen=True)
class Counter:
    """Estimators of several traits at once, each fitted on all folds of people but one.

    Args:
        names: of the traits.
        models: a fold each: mean and deviation of the features, weights `[D, traits]`, offsets and thresholds.
        seen: bool `[N, traits]`, held-out verdicts on the rendered images.
        truth: bool `[N, traits]`.
        people: int64 `[N]`, 0 .. persons - 1.
    """

    names: tuple[str, ...]
    models: list[tuple[Float32, Float32, Float32, Float32, Float32]]
    seen: Bools
    truth: Bools
    people: NDArray[np.int64]

    @classmethod
    def fit(cls, features: Float32, traits: Mapping[str, Bools], people: NDArray[np.int64]) -> Counter:
        """From `described` `[N, D]`, what each image shows `[N]` by name, and whose it is `[N]`."""
        truth = np.stack(list(traits.values()), axis=1)
        wanted = np.where(truth, 1, -1).astype(np.float32)
        _, number = np.unique(people, return_inverse=True)
        scores = np.zeros(wanted.shape, np.float32)
        fitted = []
        for fold in range(FOLDS):
            learn = number % FOLDS != fold
            mean, deviation = features[learn].mean(axis=0), features[learn].std(axis=0) + 1e-3
            offset = wanted[learn].mean(axis=0)
            weights = _ridge((features[learn] - mean) / deviation, wanted[learn] - offset)
            scores[~learn] = (features[~learn] - mean) / deviation @ weights + offset
            fitted.append((mean, deviation, weights, offset))
        thresholds = [
            np.array(
                [_best(s, t) for s, t in zip(scores[others].T, truth[others].T, strict=True)], np.float32
            )
            for others in (number % FOLDS != fold for fold in range(FOLDS))
        ]
        seen = scores > np.stack(thresholds)[number % FOLDS]
        models = [(*parts, threshold) for parts, threshold in zip(fitted, thresholds, strict=True)]
        return cls(tuple(traits), models, seen, truth, number.astype(np.int64))

    def __call__(self, features: Float32) -> Float32:
        """Share of the folds that see each trait: float32 `[N, traits]`."""
        votes = [
            ((features - mean) / deviation @ weights + offset) > threshold
            for mean, deviation, weights, offset, threshold in self.models
        ]
        return np.asarray(np.mean(votes, axis=0), np.float32)


def _ridge(features: Float32, wanted: Float32) -> Float32:
    """By the smaller of both Gram matrices."""
    n, d = features.shape
    gram = features @ features.T if n < d else features.T @ features
    gram[np.diag_indices_from(gram)] += RIDGE
    if n < d:
        return np.asarray(features.T @ np.linalg.solve(gram, wanted))
    return np.asarray(np.linalg.solve(gram, features.T @ wanted))


def _best(scores: Float32, truth: Bools) -> float:
    """The threshold of best balanced accuracy; none sees anything where all or no rows are true."""
    order = np.argsort(scores)
    sorted_truth = truth[order]
    if sorted_truth.all() or not sorted_truth.any():
        return float("inf")
    missed = np.cumsum(sorted_truth) / sorted_truth.sum()
    spared = np.cumsum(~sorted_truth) / (~sorted_truth).sum()
    return float(scores[order][(spared - missed).argmax()])


def corrected(seen: Any, sensitivity: Any, specificity: Any) -> Any:
    """Rogan and Gladen's estimate of a share, within 0 to 1."""
    return np.clip((seen + specificity - 1) / (sensitivity + specificity - 1), 0, 1)


def shares(counter: Counter, made: Float32, people: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """By trait: the error, what is seen of generated images and the share it stands for, and rendered people's.

    Args:
        made: `described` `[M, D]` of generated images.
        people: int64 `[M]`, whose each is.
    """
    votes, rng = counter(made), np.random.Generator(np.random.Philox(key=0))
    _, number = np.unique(people, return_inverse=True)
    persons, ours = int(number.max()) + 1, int(counter.people.max()) + 1
    drawn = [rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) for n in (persons, ours)]
    weights = [np.concatenate([np.ones((1, rows.shape[1])), rows]) for rows in drawn]  # the set itself first
    images = weights[0] @ np.bincount(number, minlength=persons)
    found: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(counter.names):
        truth, verdict = counter.truth[:, place], counter.seen[:, place]

        def count(rows: Bools) -> NDArray[np.float64]:
            return np.asarray(weights[1] @ np.bincount(counter.people[rows], minlength=ours))

        with_it, without = (len(np.unique(counter.people[rows])) for rows in (truth, ~truth))
        about: dict[str, Any] = {
            "rendered": float(truth.mean()),
            "people_with": with_it,
            "people_without": without,
        }
        found[name] = about
        if min(with_it, without) < FEWEST:
            about["refused"] = f"fewer than {FEWEST} rendered people have or lack it"
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            sensitivity, specificity = (
                count(truth & verdict) / count(truth),
                count(~truth & ~verdict) / count(~truth),
            )
            seen = weights[0] @ np.bincount(number, votes[:, place], persons) / images
            estimate = corrected(seen, sensitivity, specificity)
        balanced = float(sensitivity[0] + specificity[0]) / 2
        about |= {
            "sensitivity": float(sensitivity[0]),
            "specificity": float(specificity[0]),
            "balanced_accuracy": balanced,
            "seen": float(seen[0]),
        }
        if balanced < CHANCE:
            about["refused"] = f"balanced accuracy {balanced:.2f} on held-out people is near chance"
            continue
        about["generated"] = float(estimate[0])
        about["generated_95"] = [float(edge) for edge in np.nanquantile(estimate[1:], (0.025, 0.975))]
    return found


def print_shares(found: Mapping[str, Mapping[str, Any]]) -> None:
    for name, about in found.items():
        start = f"  {name:22} rendered {100 * about['rendered']:5.1f} %, generated "
        if "refused" in about:
            print(f"{start}not stated: {about['refused']}")
            continue
        low, high = (100 * edge for edge in about["generated_95"])
        print(
            f"{start}{100 * about['generated']:5.1f} % ({low:.1f} to {high:.1f}); seen {100 * about['seen']:.1f} %, "
            f"balanced accuracy on held-out people {100 * about['balanced_accuracy']:.1f} % "
            f"(sensitivity {100 * about['sensitivity']:.1f}, specificity {100 * about['specificity']:.1f})"
        )

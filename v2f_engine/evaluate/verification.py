"""Face verification as the field reports it: mirrored features summed, ten folds, the threshold of nine.

Protocol of the published trainers: the feature of a face is that of the image plus that of its mirror image,
scaled to norm 1; a pair's distance is squared Euclidean; thresholds 0, 0.01, ... 3.99; ten folds in the order of
the file, unshuffled; the threshold that is best on nine folds (the lowest of equals) judges the tenth.

TAR at FAR 1e-3 has two thresholds of thousandths, both from nine folds: the largest that accepts at most that share
of impostors, and the published one (`calculate_val` of insightface and SOTA-FR), which is interpolated linearly between
that and the next, and 0 where no threshold reaches the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least
from v2f_engine.data.gate.resize import record_of
from v2f_engine.errors import DatasetError, V2FError, VectorError
from v2f_engine.models.feature_health import judge_features
from v2f_engine.scores import equal_error_rate

if TYPE_CHECKING:
    from torch import nn

    from v2f_engine.data.verification import VerificationSet

FOLDS = 10
THRESHOLDS = np.arange(0, 4, 0.01)
FINE = np.arange(0, 4, 0.001)
FAR = 1e-3


@dataclass(frozen=True)
class Verification:
    """One verification set through one recogniser; rates are shares in [0, 1].

    Args:
        name, pairs: of the set.
        accuracy, deviation: mean and standard deviation over folds.
        folds: accuracy of each.
        threshold: mean over folds of the squared distance chosen.
        eer: over all pairs.
        val, far: share of genuine pairs accepted on held-out folds, and of impostors, at the threshold where
            the other folds accept at most 1e-3 of impostors.
        val_interpolated, val_interpolated_deviation, far_interpolated: the same at the interpolated threshold, as
            published: mean and standard deviation over folds, and mean.
        genuine, impostor: cosines of the pairs, float32.
        resized: images that were not 112x112, by size.
    """

    name: str
    pairs: int
    accuracy: float
    deviation: float
    folds: tuple[float, ...]
    threshold: float
    eer: float
    val: float
    far: float
    val_interpolated: float
    val_interpolated_deviation: float
    far_interpolated: float
    genuine: NDArray[np.float32] = field(repr=False)
    impostor: NDArray[np.float32] = field(repr=False)
    resized: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every number, without the two lists of cosines."""
        hidden = ("genuine", "impostor", "resized")
        shown = {key: value for key, value in asdict(self).items() if key not in hidden}
        return {**shown, **record_of(self.resized)}


def verify_pairs(
    features: NDArray[np.floating[Any]],
    same: NDArray[np.bool_],
    *,
    name: str = "pairs",
    folds: int = FOLDS,
    sizes: Sequence[int] | None = None,
) -> Verification:
    """The ten-fold protocol on features.

    Args:
        features: `[2N, D]`, mirrored features already summed; pair i is rows 2i and 2i + 1.
        same: bool `[N]`.
        name: for tables.
        folds: 10 as published.
        sizes: pairs in each fold, where the set states its folds; instead of `folds` equal ones.

    Raises:
        VectorError: features that do not fit, are not finite, have no direction or all the same, or labels of one
            kind only.
        ConfigError: fewer than two folds.
    """
    folds = len(sizes) if sizes is not None else folds
    check_labels(same, folds, name)
    count = len(same)
    if sizes is not None and sum(sizes) != count:
        raise VectorError(f"{name}: folds of {sum(sizes)} pairs for {count} pairs.")
    if features.ndim != 2 or len(features) != 2 * count:
        raise VectorError(
            f"{name}: expected features [{2 * count}, D] for {count} pairs, found {list(features.shape)}."
        )
    judge_features(features).check(name)
    rows = features.astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distance = ((unit[0::2] - unit[1::2]) ** 2).sum(axis=1)
    edges = fold_edges(count, folds) if sizes is None else _edges(sizes)
    accuracies, chosen, strict, published = [], [], [], []
    for start, stop in edges:
        test = np.zeros(count, np.bool_)
        test[start:stop] = True
        hits = np.array([((distance[~test] < t) == same[~test]).mean() for t in THRESHOLDS])
        best = float(THRESHOLDS[int(np.argmax(hits))])
        chosen.append(best)
        accuracies.append(float(((distance[test] < best) == same[test]).mean()))
        strict.append(_accepted(distance[test], same[test], _threshold_at_far(distance[~test & ~same])))
        published.append(
            _accepted(distance[test], same[test], interpolated_threshold(distance[~test & ~same]))
        )
    cosine = (1 - distance / 2).astype(np.float32)
    (val, far), (val_interpolated, far_interpolated) = np.transpose(strict), np.transpose(published)
    return Verification(
        name=name,
        pairs=count,
        accuracy=float(np.mean(accuracies)),
        deviation=float(np.std(accuracies)),
        folds=tuple(accuracies),
        threshold=float(np.mean(chosen)),
        eer=equal_error_rate(cosine[same], cosine[~same])[0],
        val=float(np.nanmean(val)),
        far=float(np.nanmean(far)),
        val_interpolated=float(np.nanmean(val_interpolated)),
        val_interpolated_deviation=float(np.nanstd(val_interpolated)),
        far_interpolated=float(np.nanmean(far_interpolated)),
        genuine=cosine[same],
        impostor=cosine[~same],
    )


def check_labels(same: NDArray[np.bool_], folds: int, name: str) -> None:
    """Whether there is something to measure, before any image is read.

    Raises:
        VectorError: fewer pairs than folds, or labels of one kind only. ConfigError: fewer than two folds.
    """
    at_least("folds", folds, 2)
    if len(same) < folds:
        raise VectorError(f"{name}: {len(same)} pairs; {folds} folds need at least {folds}.")
    if same.all() or not same.any():
        raise VectorError(f"{name}: all pairs are {'one person' if same.all() else 'two people'}.")


def fold_edges(count: int, folds: int) -> list[tuple[int, int]]:
    """(first, last + 1) of each fold, in order, as scikit-learn's KFold without shuffling cuts them."""
    sizes = np.full(folds, count // folds)
    sizes[: count % folds] += 1
    return _edges(sizes)


def _edges(sizes: Sequence[int] | NDArray[np.int64]) -> list[tuple[int, int]]:
    stops = np.cumsum(sizes)
    return [(int(stop - size), int(stop)) for stop, size in zip(stops, sizes, strict=True)]


def _accepted(
    distance: NDArray[np.float64], same: NDArray[np.bool_], threshold: float
) -> tuple[float, float]:
    """Shares of one fold's genuine pairs and impostors below a threshold; NaN of a kind that the fold lacks."""
    below = distance < threshold
    return (
        float(below[same].mean()) if same.any() else np.nan,
        float(below[~same].mean()) if not same.all() else np.nan,
    )


def _shares(impostor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the impostor distances below each of the fine thresholds, float64 `[4000]`, ascending."""
    return np.searchsorted(np.sort(impostor), FINE, side="left") / max(1, len(impostor))


def _threshold_at_far(impostor: NDArray[np.float64]) -> float:
    """The largest of the fine thresholds that accepts at most a share FAR of the impostor distances."""
    return float(FINE[np.flatnonzero(_shares(impostor) <= FAR)[-1]])


def interpolated_threshold(impostor: NDArray[np.float64], far: float = FAR) -> float:
    """Squared distance at which the impostors' share is `far` by straight lines between the fine thresholds.

    As the published `interp1d(shares, thresholds, kind="slinear")(far)` gives it, also where many thresholds
    have one share: the line goes from the last threshold whose share is at most `far` to the next one. 0, which accepts
    nobody, where no threshold reaches the rate.
    """
    share = _shares(impostor)
    if share[-1] < far:
        return 0.0
    low = int(np.flatnonzero(share <= far)[-1])
    if low == len(FINE) - 1:
        return float(FINE[low])
    part = (far - share[low]) / (share[low + 1] - share[low])
    return float(FINE[low] + part * (FINE[low + 1] - FINE[low]))


def measure_verification(
    pairs: VerificationSet,
    recogniser: nn.Module,
    *,
    bf16: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """One set through one recogniser.

    Args:
        pairs: from `data.verification.open_verification_set`.
        recogniser: in eval mode.
        bf16: as in `models.features.extract_features`.
        progress: called with (images done, images in all).

    Raises:
        DatasetError: a broken image. VectorError: as in `verify_pairs`.
    """
    from v2f_engine.models.features import extract_features

    check_labels(pairs.same, FOLDS if pairs.folds is None else len(pairs.folds), pairs.name)
    parts, done = [], 0
    for images in pairs.batches():
        parts.append(extract_features(recogniser, images, flip_sum=True, bf16=bf16))
        done += len(images)
        if progress is not None:
            progress(done, len(pairs))
    measured = verify_pairs(np.concatenate(parts), pairs.same, name=pairs.name, sizes=pairs.folds)
    return replace(measured, resized=pairs.resized.counts)


@dataclass(frozen=True)
class Unmeasured:
    """A set that could not be measured, and why."""

    path: Path
    error: V2FError


def measure_each(
    paths: Sequence[Path],
    measure: Callable[[Path], Verification],
    store: Callable[[list[Verification], list[Unmeasured]], None],
) -> tuple[list[Verification], list[Unmeasured]]:
    """Measures sets one after the other; a broken one does not cost the others.

    Args:
        measure: opens and measures a set.
        store: called after each with what there is so far.
    """
    measured: list[Verification] = []
    failed: list[Unmeasured] = []
    for path in paths:
        try:
            measured.append(measure(path))
        except (DatasetError, VectorError) as error:
            failed.append(Unmeasured(path, error))
        store(measured, failed)
    return measured, failed

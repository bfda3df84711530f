"""How much the images of one identity are one person, and how much they differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError
from v2f_engine.evaluate.features import FeatureTable


@dataclass(frozen=True)
class Consistency:
    """Within-identity measurements; cosines, and shares in [0, 1].

    Args:
        identities: with two images or more; the others do not enter.
        pair_cosine: mean over identities of the mean cosine of an identity's image pairs.
        pair_cosine_p05, pair_cosine_p95: quantiles of that over identities.
        rest_cosine: mean cosine of an image with the mean of its identity's other images.
        own_nearest: share of images nearest to their own identity's centre, taken without the image itself.
        per_identity: mean pair cosine of each, float32 `[identities]`, in ascending order of their numbers.
        members: int64 `[identities]`, which of the table's identities these are.
        rest_sums, own_sums: float64 `[identities]`: of each one's images, the sum of `rest_cosine` and the number of
            those nearest to their own centre.
        counts: float64 `[identities]`, images of each.
    """

    identities: int
    pair_cosine: float
    pair_cosine_p05: float
    pair_cosine_p95: float
    rest_cosine: float
    own_nearest: float
    per_identity: NDArray[np.float32] = field(repr=False)
    members: NDArray[np.int64] = field(repr=False)
    rest_sums: NDArray[np.float64] = field(repr=False)
    own_sums: NDArray[np.float64] = field(repr=False)
    counts: NDArray[np.float64] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Every number, without what belongs to one identity each."""
        return {key: value for key, value in asdict(self).items() if not isinstance(value, np.ndarray)}


def measure_consistency(table: FeatureTable) -> Consistency:
    """Consistency of all identities with two images or more.

    Raises:
        VectorError: there is none.
    """
    units, groups = table.units, table.groups
    sums = np.stack([units[group].sum(axis=0, dtype=np.float64) for group in groups])
    unit_sums = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    pairs, rest, own, members = [], [], [], []
    for place, group in enumerate(groups):
        n = len(group)
        if n < 2:
            continue
        members.append(place)
        rows = units[group].astype(np.float64)
        total = float(sums[place] @ sums[place])
        pairs.append((total - float((rows * rows).sum())) / (n * (n - 1)))
        others = sums[place] - rows
        others /= np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-12)
        to_rest = (rows * others).sum(axis=1)
        to_centres = rows @ unit_sums.T
        to_centres[:, place] = -np.inf
        rest.append(to_rest)
        own.append(to_rest > to_centres.max(axis=1))
    if not pairs:
        raise VectorError("Consistency needs an identity with two images or more, found none.")
    return Consistency(
        identities=len(pairs),
        pair_cosine=float(np.mean(pairs)),
        pair_cosine_p05=float(np.quantile(pairs, 0.05)),
        pair_cosine_p95=float(np.quantile(pairs, 0.95)),
        rest_cosine=float(np.concatenate(rest).mean()),
        own_nearest=float(np.concatenate(own).mean()),
        per_identity=np.asarray(pairs, np.float32),
        members=np.array(members),
        rest_sums=np.array([part.sum() for part in rest]),
        own_sums=np.array([part.sum() for part in own], np.float64),
        counts=np.array([len(part) for part in rest], np.float64),
    )

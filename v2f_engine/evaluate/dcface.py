"""DCFace's three numbers of a training set: unique people, consistent people, diverse people (U, C, D).

Kim et al., CVPR 2023, equations 11 to 14. A distance is 1 - cosine, and r = 0.3 in the recogniser of the paper
(IR-101 trained on WebFace4M); with another recogniser give the distance of its own operating point.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least, between
from v2f_engine.errors import VectorError
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.models.feature_health import judge_features
from v2f_engine.vectors.rejection import reject_similar

RADIUS = 0.3
NEIGHBOURS = 3
REAL_ROWS = 10_000
"""Real images whose recall is measured: a share is then known to 0.5 %."""


@dataclass(frozen=True)
class Uniqueness:
    """Shares in [0, 1].

    Args:
        radius: distance within which two are one.
        unique: U, identities left when each claims all later ones within the radius of its centre.
        consistent: C, mean over identities of the share of images within the radius of their centre.
        diverse: D, mean over identities of the share of real images that lie in the manifold of the identity's
            images; None without real images.
        per_identity: float64 `[identities]`, the shares whose mean is C, in ascending order of their numbers.
    """

    radius: float
    unique: float
    consistent: float
    diverse: float | None = None
    per_identity: NDArray[np.float64] | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Every number, without the list of shares."""
        return {key: value for key, value in asdict(self).items() if key != "per_identity"}


def measure_uniqueness(table: FeatureTable, *, radius: float = RADIUS) -> Uniqueness:
    """U and C of a dataset.

    Raises:
        ConfigError: a radius outside (0, 2).
    """
    between("radius", radius, 1e-6, 2.0)
    centres = table.centres
    units = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    rows = table.units
    inside = [
        float((1 - rows[group] @ unit < radius).mean())
        for group, unit in zip(table.groups, units, strict=True)
    ]
    kept = reject_similar(units.astype(np.float32), 1 - radius)
    return Uniqueness(radius, len(kept) / len(centres), float(np.mean(inside)), per_identity=np.array(inside))


def measure_diversity(
    generated: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    real: NDArray[np.floating[Any]],
    *,
    neighbours: int = NEIGHBOURS,
) -> float:
    """D: class-conditional improved recall (Kynkaanniemi et al. 2019), a share in [0, 1].

    Args:
        generated: `[N, D]` features of the style of images; the paper uses Inception's, any embedding will do as
            long as both sets come from it.
        labels: int64 `[N]`; identities of `neighbours` images or fewer do not enter.
        real: `[M, D]`; at most 10,000 rows are used, evenly spread.
        neighbours: an image's ball reaches to its k-th nearest image of the same identity.

    Raises:
        VectorError: features of two lengths, those of a collapsed recogniser, or no identity with enough images.
        ConfigError: neighbours below 1.
    """
    at_least("neighbours", neighbours, 1)
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1] or not len(real):
        raise VectorError(
            f"Diversity compares features of one length: found {list(generated.shape)} and {list(real.shape)}."
        )
    judge_features(generated).check("generated")
    judge_features(real).check("real")
    chosen = np.unique(np.linspace(0, len(real) - 1, min(REAL_ROWS, len(real))).astype(np.int64))
    others = real[chosen].astype(np.float64)
    length = (others**2).sum(axis=1)
    recalls = []
    for label in np.unique(labels):
        rows = generated[labels == label].astype(np.float64)
        if len(rows) <= neighbours:
            continue
        own = (rows**2).sum(axis=1)
        among = own[:, None] + own - 2 * rows @ rows.T
        np.fill_diagonal(among, -np.inf)  # an image is no neighbour of its own
        reach = np.partition(among, neighbours, axis=1)[:, neighbours]
        to_real = own[:, None] + length - 2 * rows @ others.T
        recalls.append(float((to_real <= reach[:, None]).any(axis=0).mean()))
    if not recalls:
        raise VectorError(f"Diversity needs an identity with more than {neighbours} images, found none.")
    return float(np.mean(recalls))

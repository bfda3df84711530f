"""How well a recogniser tells the identities of a dataset apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import between
from v2f_engine.errors import ConfigError
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.models.registry import EMBEDDED, MAX_COSINE, locate
from v2f_engine.scores import (
    TELLING,
    equal_error_rate,
    impostor_count,
    impostor_pairs,
    require_pairs,
    scores_of,
    threshold_at_fmr,
)
from v2f_engine.vectors.calibration import Calibration, calibrate_threshold
from v2f_engine.vectors.separability import PUBLISHED_THRESHOLD, separability_curve

if TYPE_CHECKING:
    from v2f_engine.evaluate.source import FeatureSource

IMPOSTORS = 2_000_000
"""Impostor pairs drawn: an error rate of 1 % is then known to +-0.007 % (one standard error)."""
PUBLISHED_LIMITS = {"arcface-r100-glint360k": PUBLISHED_THRESHOLD}
"""Recogniser -> cosine above which the published measure of separability takes two of its centres for one person."""


@dataclass(frozen=True)
class Separability:
    """Measurements of one dataset by one recogniser; all rates are shares in [0, 1], scores are cosines.

    Args:
        identities, images: how many.
        eer, eer_threshold: error rate where false matches equal false non-matches, and the cosine of it.
        fmr100, fmr1000: share of genuine pairs missed at the lowest threshold where at most 1 % (0.1 %) of
            impostor pairs match; None for fewer than 100 (1,000) impostor pairs.
        fdr: Fisher discriminant ratio, `(mean difference)^2 / (sum of variances)`.
        threshold: the cosine at which the next three are taken.
        false_match_rate, false_non_match_rate: of image pairs at `threshold`.
        unique_share: identities whose centre is above `threshold` with no earlier identity's centre.
        genuine_mean, genuine_std, impostor_mean, impostor_std: of the cosines.
        impostor_pairs_in_all: pairs of two identities that there are; `impostor` holds distinct ones of them.
        genuine, impostor: the cosines themselves, float32; all genuine pairs, and all or a sample of impostor pairs.
        impostor_rows: int64 `[P, 2]`, whose cosines `impostor` holds.
        repeated: bool `[identities]`, the identities that are not unique.
    """

    identities: int
    images: int
    eer: float
    eer_threshold: float
    fmr100: float | None
    fmr1000: float | None
    fdr: float
    threshold: float
    false_match_rate: float
    false_non_match_rate: float
    unique_share: float
    genuine_mean: float
    genuine_std: float
    impostor_mean: float
    impostor_std: float
    impostor_pairs_in_all: int
    genuine: NDArray[np.float32]
    impostor: NDArray[np.float32]
    impostor_rows: NDArray[np.int64] = field(repr=False)
    repeated: NDArray[np.bool_] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Every number, without the lists but with the lengths of those of cosines."""
        numbers = {key: value for key, value in asdict(self).items() if not isinstance(value, np.ndarray)}
        return {**numbers, "genuine_pairs": len(self.genuine), "impostor_pairs": len(self.impostor)}


def calibrate(table: FeatureTable, fmr: float = 1e-5) -> Calibration:
    """The cosine that image pairs of different identities reach at a rate of at most `fmr`, from all pairs.

    Raises:
        ConfigError: fewer than `10 / fmr` pairs of different identities.
    """
    return calibrate_threshold(table.features, table.labels, fmr=fmr)


def calibrate_source(known: FeatureSource, fmr: float) -> Calibration:
    """As `calibrate`, on whatever was read of known people; features without labels are a person each."""
    if known.labels is None:
        return calibrate_threshold(known.features, fmr=fmr)
    return calibrate(known.table(), fmr)


def stated_limit(recogniser: str | None, data: Path) -> tuple[float, str]:
    """(cosine, where it comes from): at which the recogniser that read the data takes two for one person.

    A limit is of one recogniser: `mini`'s says nothing of another's features.

    Args:
        recogniser: a name or a path; None where nobody says who read the features.
        data: for the message.

    Raises:
        ConfigError: nobody says so.
    """
    if recogniser is None:
        raise ConfigError(
            f"{data}: nobody says which recogniser read these features (no record of `v2f features` beside them), and "
            f"a threshold is of one recogniser. Give --threshold ({PUBLISHED_THRESHOLD:g} as published for "
            "arcface-r100-glint360k), --reference with features of known people by the same recogniser, or its name: "
            "--recogniser."
        )
    if recogniser in PUBLISHED_LIMITS:
        return PUBLISHED_LIMITS[recogniser], f"as published for {recogniser}"
    if recogniser in EMBEDDED["recogniser"]:
        return locate(recogniser, "recogniser").max_cosine, f"the limit of {recogniser}"
    return MAX_COSINE, f"the engine's {MAX_COSINE:g}: {recogniser} states no limit of its own"


def check_pairs(labels: NDArray[np.int64], fmr: float, name: str) -> None:
    """Whether the images of known people suffice to calibrate a rate on, before they are read through a network.

    Args:
        labels: int64 `[N]`, the person of each image.
        fmr: false-match rate, in (0, 1).
        name: of the set, for the message.

    Raises:
        ConfigError: too few pairs of different people; the message gives the lowest rate that they tell.
    """
    pairs = impostor_count(labels)
    try:
        require_pairs(pairs, fmr)
    except ConfigError as error:
        lowest = next((rate for rate in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1) if pairs * rate >= TELLING), None)
        told = "no rate can be told" if lowest is None else f"--fmr {lowest:g} is the lowest it can tell"
        raise ConfigError(
            f"--reference {name}: {error} With these people {told}; or give --threshold."
        ) from error


def measure_separability(
    table: FeatureTable, *, threshold: float, impostors: int = IMPOSTORS, seed: int = 0
) -> Separability:
    """Everything about one dataset at one threshold.

    Args:
        table: features and labels, at least one identity with two images.
        threshold: cosine above which two are the same person; from `calibrate` on a dataset of known people.
        impostors, seed: pairs drawn for the impostor distribution; all pairs where there are no more.

    Raises:
        ConfigError: threshold outside [-1, 1), or no identity with two images.
    """
    between("threshold", threshold, -1.0, 1.0)
    pairs = impostor_pairs(table.labels, impostors, seed)
    genuine, impostor = scores_of(table.features, table.labels, pairs)
    eer, eer_threshold = equal_error_rate(genuine, impostor)
    spread = float(genuine.var(dtype=np.float64) + impostor.var(dtype=np.float64))
    difference = float(genuine.mean(dtype=np.float64) - impostor.mean(dtype=np.float64))
    centres = table.centres
    curve = separability_curve(centres, threshold=threshold)
    return Separability(
        identities=len(centres),
        images=len(table),
        eer=eer,
        eer_threshold=eer_threshold,
        fmr100=_missed(genuine, impostor, 0.01),
        fmr1000=_missed(genuine, impostor, 0.001),
        fdr=difference**2 / spread if spread else float("inf"),
        threshold=float(threshold),
        false_match_rate=float((impostor > threshold).mean()),
        false_non_match_rate=float((genuine <= threshold).mean()),
        unique_share=curve.share,
        genuine_mean=float(genuine.mean(dtype=np.float64)),
        genuine_std=float(genuine.std(dtype=np.float64)),
        impostor_mean=float(impostor.mean(dtype=np.float64)),
        impostor_std=float(impostor.std(dtype=np.float64)),
        impostor_pairs_in_all=impostor_count(table.labels),
        genuine=genuine,
        impostor=impostor,
        impostor_rows=pairs,
        repeated=curve.repeated,
    )


def _missed(genuine: NDArray[np.float32], impostor: NDArray[np.float32], fmr: float) -> float | None:
    """Share of genuine pairs below the threshold of `fmr`; None where so few impostor pairs cannot tell it."""
    return float((genuine < threshold_at_fmr(impostor, fmr)).mean()) if len(impostor) * fmr >= 1 else None

"""Cosine thresholds from a false-match rate, measured on known people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2f_engine.errors import ConfigError
from v2f_engine.models.feature_health import judge_features
from v2f_engine.scores import ScoreHistogram, impostor_count, require_pairs
from v2f_engine.vectors.gate import check_vectors, from_any
from v2f_engine.vectors.streams import open_vectors

MATRIX_BLOCK = 2048


@dataclass(frozen=True)
class Calibration:
    """A cosine threshold with a known false-match rate.

    Args:
        threshold: pairs of different identities reach it at a rate of at most `fmr`.
        fmr: the rate asked for.
        measured: rate of pairs at or above the threshold, at most `fmr`.
        pairs: pairs of different identities compared.
        origin: what was measured, for people.
    """

    threshold: float
    fmr: float
    measured: float
    pairs: int
    origin: str = ""

    def describe(self) -> dict[str, Any]:
        """JSON values for the provenance of what was made at this threshold."""
        return asdict(self)


def calibrate_threshold(
    features: ArrayLike, labels: ArrayLike | None = None, *, fmr: float = 1e-4, origin: str = ""
) -> Calibration:
    """The smallest cosine (to 2e-6) that pairs of different identities reach at a rate of at most `fmr`.

    Args:
        features: `[N, D]`, one centre per identity, or images with `labels`.
        labels: integers `[N]`, identity of each row; without them every row is its own identity.
        fmr: false-match rate in (0, 1).
        origin: a name to keep with the result.

    Raises:
        VectorError: bad rows, or features of a collapsed recogniser.
        ConfigError: fmr out of range, fewer than 10 / fmr pairs of different identities, too few to tell, or
            labels that do not fit.
    """
    rows = check_vectors(features, "features", allow_duplicates=True, dimension=None)
    who = np.arange(len(rows)) if labels is None else np.asarray(labels)
    if who.shape != (len(rows),) or who.dtype.kind not in "iu":
        raise ConfigError(f"labels must be integers [{len(rows)}], found {who.dtype} {list(who.shape)}.")
    judge_features(rows).check("features")
    require_pairs(impostor_count(who), fmr)
    scores = ScoreHistogram()
    units = (rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)
    for start in range(0, len(units), MATRIX_BLOCK):
        block, own = units[start : start + MATRIX_BLOCK], who[start : start + MATRIX_BLOCK]
        for other in range(0, start + 1, MATRIX_BLOCK):
            different = own[:, None] != who[None, other : other + MATRIX_BLOCK]
            if other == start:
                different &= np.tri(len(block), k=-1, dtype=bool)
            scores.add((block @ units[other : other + MATRIX_BLOCK].T)[different])
    threshold, measured = scores.threshold_at_fmr(fmr)
    return Calibration(threshold, fmr, measured, scores.count, origin)


def limit_of(
    max_cosine: float | None,
    fmr: float | None,
    calibration: Calibration | str | Path | NDArray[Any] | None,
) -> tuple[float | None, Calibration | None]:
    """(threshold, where it comes from) of a request made either as a cosine or as a false-match rate.

    Args:
        max_cosine: the cosine, used unless `fmr` or a finished calibration is given.
        fmr: the rate.
        calibration: what the rate is measured on: centres of known people (`.npy` or array `[M, D]`), or a
            finished `Calibration`, whose rate must be `fmr` if both are given.

    Raises:
        ConfigError: a rate without features, features without a rate, or two different rates.
        VectorError: a file or rows that do not pass the gate.
    """
    if calibration is None:
        if fmr is not None:
            raise ConfigError(
                f"A false-match rate ({fmr:g}) needs features of known people to calibrate on. Give "
                "calibration (--calibration centres.npy), or max_cosine instead."
            )
        return max_cosine, None
    if not isinstance(calibration, Calibration):
        if fmr is None:
            raise ConfigError("calibration was given without a false-match rate. Give fmr (--fmr 1e-4).")
        if not isinstance(calibration, (str, Path)):
            rows = from_any(calibration, "calibration")
            origin = f"array {list(rows.shape)}"
        else:
            rows, origin = open_vectors(calibration, dimension=None), Path(calibration).name
        calibration = calibrate_threshold(rows, fmr=fmr, origin=origin)
    if fmr is not None and fmr != calibration.fmr:
        raise ConfigError(
            f"fmr is {fmr:g} but the calibration is for {calibration.fmr:g}. Leave fmr out, or calibrate again."
        )
    return calibration.threshold, calibration

"""Keeping sampled identities away from real people: leakage prevented, not only measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.backends import function
from v2f_engine.config import between
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.vectors.calibration import Calibration
from v2f_engine.vectors.gate import refuse_rows
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.rejection import reject_similar
from v2f_engine.vectors.streams import FloatRows, parts_of, stream

Float32 = NDArray[np.float32]

GALLERY_BLOCK = 65_536
"""Gallery rows held at a time: 128 MiB of float32."""


@dataclass(frozen=True)
class Exclusion:
    """A gallery of real people that no identity may resemble.

    Args:
        parts: (name, array `[G, D]`), files memory-mapped; every row was checked when this was made.
        cosine: candidates that reach it with any gallery row are skipped.
        rows: gallery rows in all.
        sha256: hash of the gallery as float32.
        nearest: a backend of `nearest_cosine`.
    """

    parts: Sequence[tuple[str, FloatRows]]
    cosine: float
    rows: int
    sha256: str
    nearest: Callable[..., Any]

    @classmethod
    def of(
        cls,
        gallery: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None,
        cosine: float | None,
        max_cosine: float | None,
        dimension: int,
        backend: str = "auto",
    ) -> Exclusion | None:
        """The exclusion for a gallery, or None without one. Reads the gallery once to check and hash it.

        Raises:
            VectorError: files or rows that do not pass the gate.
            ConfigError: a threshold without a gallery, or a gallery without any threshold.
        """
        if gallery is None:
            if cosine is not None:
                raise ConfigError("exclude_cosine was given without a gallery. Give exclude as well.")
            return None
        threshold = max_cosine if cosine is None else cosine
        if threshold is None:
            raise ConfigError("exclude needs a threshold when max_cosine is None. Give exclude_cosine.")
        between("exclude_cosine", threshold, -1, 1)
        parts = parts_of(gallery, dimension=dimension)
        digest, rows = hashlib.sha256(), 0
        for _, block in stream(parts, block=GALLERY_BLOCK):
            if block.shape[1] != dimension:
                raise VectorError(f"exclude: expected shape [G, {dimension}], found [G, {block.shape[1]}].")
            digest.update(np.ascontiguousarray(block, "<f4").data)
            rows += len(block)
        return cls(parts, float(threshold), rows, digest.hexdigest(), function("nearest_cosine", backend))

    def passing(self, candidates: Float32) -> NDArray[np.int64]:
        """Indices of the candidates `[N, D]` below the threshold with all gallery rows; reads them once."""
        alive = np.arange(len(candidates))
        for _, array in self.parts:
            for start in range(0, len(array), GALLERY_BLOCK):
                if not alive.size:
                    return alive
                block = np.asarray(array[start : start + GALLERY_BLOCK], np.float32)
                alive = alive[self.nearest(candidates[alive], block)[0] < self.cosine]
        return alive

    def describe(self) -> dict[str, Any]:
        """JSON values for the table's provenance."""
        return {"cosine": self.cosine, "rows": self.rows, "sha256": self.sha256}


def hold_apart(
    table: Identities,
    near: Exclusion | None,
    max_cosine: float | None,
    calibration: Calibration | None = None,
) -> Identities:
    """Given identities, held to what sampled ones are held to: the same table, with a provenance that says so.

    Args:
        near: real people whom none may resemble.
        max_cosine: no two are as similar; None does not look.
        calibration: where that comes from, for provenance.

    Raises:
        VectorError: identities that resemble a real person or an earlier identity; their rows.
    """
    about: dict[str, Any] = {}
    if near is not None:
        lost = np.ones(len(table), bool)
        lost[near.passing(table.vectors)] = False
        fault = f"resemble one of {near.rows:,} excluded people (cosine {near.cosine:.4g} or more)"
        refuse_rows(lost, "identities", fault)
        about["exclude"] = near.describe()
    if max_cosine is not None:
        lost = np.ones(len(table), bool)
        lost[reject_similar(table.vectors, max_cosine)] = False
        refuse_rows(lost, "identities", f"are like an earlier identity (cosine {max_cosine:.4g} or more)")
        about["max_cosine"] = max_cosine
    if calibration is not None:
        about["calibration"] = calibration.describe()
    return replace(table, provenance={**table.provenance, "held_apart": about}) if about else table

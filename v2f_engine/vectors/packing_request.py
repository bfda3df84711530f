"""Which tables can be packed, in the measure of which source, and away from whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least, between, whole_number
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.machine import Machine, device_of
from v2f_engine.vectors.exclusion import Exclusion
from v2f_engine.vectors.gate import check_vectors, refuse_duplicates, refuse_rows
from v2f_engine.vectors.growth import source_of
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.neighbours import UNIT, codes_of
from v2f_engine.vectors.sources import StatisticsSource, VectorSource, find_source
from v2f_engine.vectors.statistics import Statistics

Gallery = str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None

REFUSED: Mapping[str, str] = {
    "mix": "its people are of groups, each typical of its own group's statistics, and packing measures by one. Pack a "
    "table of a source without groups",
    "faces": "it was proven on its faces, which packing would change: pack what `v2f ids sample` made",
    "rescaled": "its source was rescaled, and its statistics are of another length: pack the table first",
    "rescaled_to": "its vectors were rescaled, and the statistics are of another length: pack the table first",
}
"""Part of a provenance -> why such a table is not packed, and what to do."""


@dataclass(frozen=True)
class Asked:
    """What a packing keeps to.

    Args:
        source: of the vectors.
        shield: real people, or None.
    """

    source: VectorSource
    shield: Exclusion | None

    @property
    def dimension(self) -> float:
        """Effective dimension of the source's directions: of isotropic ones with such cosines."""
        if isinstance(self.source, StatisticsSource):
            return self.source.statistics.cosine_dimension
        return float(self.source.dimension)


def bounded(steps: int, pull: float, max_drift: float, block: int, device: str) -> str:
    """The device that computes, `cpu` or `cuda:N`, after a look at everything that bounds a packing.

    Raises:
        ConfigError: out of range, or a device nobody knows.
        BackendUnavailable: a GPU that is not there.
    """
    whole_number("steps", steps, 1)
    between("pull", pull, 0, 1)
    at_least("max_drift", max_drift, 0)
    whole_number("block", block, 1)
    return device_of(device, Machine.look())[1]


def asked_of(table: Identities, source: str | Path | Statistics | VectorSource, exclude: Gallery) -> Asked:
    """The source and the excluded people of a table.

    Raises:
        VectorError, ConfigError: as `packing.packing`.
    """
    at_least("identities", len(table), 2)
    check_vectors(table.vectors, "identities", dimension=None)
    for name, why in REFUSED.items():
        if name in table.provenance:
            raise VectorError(f"The table cannot be packed: {why}.")
    refuse_duplicates(codes_of(table.vectors), f"directions of the identities, to {1 / UNIT:g}")
    found = _source(table, source)
    if found.dimension != table.shape[1]:
        raise ConfigError(
            f"source: {found.name!r} draws vectors of {found.dimension} entries, the table's have {table.shape[1]}."
        )
    return Asked(found, _shield(table, exclude))


def _source(table: Identities, source: str | Path | Statistics | VectorSource) -> VectorSource:
    if table.provenance.get("source_sha256"):
        return source_of(table, source)
    if isinstance(source, str) and source == "auto":
        raise ConfigError(
            "source: the table does not say what its vectors were drawn from, so nobody knows what is typical of them. "
            "Name the source (source, --source): gaussian, mini, or a file of `v2f ids fit`."
        )
    return find_source(source)


def _shield(table: Identities, exclude: Gallery) -> Exclusion | None:
    """The people whom no identity may resemble; those of the table have to be named again, and are compared by hash."""
    told = table.provenance
    held = told.get("held_apart") or {}
    before = told.get("exclude") or held.get("exclude")
    if before is None and exclude is None:
        return None
    if before is not None and exclude is None:
        raise ConfigError(
            f"The table was kept apart from {before['rows']:,} real people (sha256 {before['sha256'][:12]}), who are "
            "not in it, and packing moves identities: name the same files again (exclude, --exclude)."
        )
    limit = before["cosine"] if before is not None else told.get("max_cosine")
    if limit is None:
        raise ConfigError(
            "exclude: the table says no cosine that real people are kept apart by. Sample it with the exclusion."
        )
    shield = Exclusion.of(exclude, limit, None, table.shape[1])
    assert shield is not None
    if before is not None and shield.describe() != dict(before):
        raise ConfigError(
            f"exclude: the table was kept apart from {before['rows']:,} real people with sha256 "
            f"{before['sha256'][:12]}, found {shield.rows:,} with {shield.sha256[:12]}. Give the same files in the "
            "same order."
        )
    lost = np.ones(len(table), bool)
    lost[shield.passing(table.vectors)] = False
    refuse_rows(
        lost, "identities", f"resemble one of {shield.rows:,} excluded people (cosine {limit:.4g} or more)"
    )
    return shield

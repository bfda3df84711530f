"""Identity vectors: candidates from a stream, rejected when too similar to one kept or to a real person.

The table is a function of (source, seed, max_cosine, exclusion) alone, in the order of the candidates: the
first n identities of a larger table are the table of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from v2f_kernels.reject_similar import OP, Kept

from v2f_engine.config import at_least, between
from v2f_engine.errors import SaturationError
from v2f_engine.vectors.exclusion import Exclusion
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.pilot import FEWEST_ROWS, MOST_ROWS
from v2f_engine.vectors.planner import budget_for, plan_identities
from v2f_engine.vectors.separability import pick_backend
from v2f_engine.vectors.sources import Source, find_source
from v2f_engine.vectors.statistics import Statistics

BLOCK = 16_384
"""Candidates drawn at a time: 32 MiB. It never changes the table."""
PLANNED_FROM = 2000
"""Below this many identities the run is shorter than a pilot; the bound during the run suffices."""

Progress = Callable[[int, int, int], None]

__all__ = ["Identities", "sample_identities"]


def sample_identities(
    n: int,
    *,
    max_cosine: float | None = 0.3,
    seed: int = 0,
    source: str | Path | Statistics | Source = "gaussian",
    exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
    exclude_cosine: float | None = None,
    max_candidates: int | None = None,
    backend: str = "auto",
    block: int = BLOCK,
    progress: Progress | None = None,
) -> Identities:
    """Samples `n` identity vectors that are pairwise less similar than `max_cosine`.

    Args:
        n: how many, at least 1.
        max_cosine: keep a candidate if its cosine with every kept one is below this; None keeps all.
        seed: 64-bit seed of the candidate stream.
        source: `"gaussian"`, `"mini"`, a statistics file, or fitted `Statistics`.
        exclude: features of real people (`.npy` files or arrays `[G, 512]`, of any size, streamed):
            candidates similar to any of them are skipped before rejection.
        exclude_cosine: threshold for that; `max_cosine` by default.
        max_candidates: draw no more than this; default 20 per identity, at least 100,000.
        backend: rejection backend; speed only.
        block: candidates per step; memory only.
        progress: called as progress(kept, n, candidates drawn) after each block.

    Returns:
        `Identities`, a function of (source, seed, max_cosine, exclude, exclude_cosine); the first rows do not
        depend on n.

    Raises:
        SaturationError: `n` cannot be had within `max_candidates`: predicted before the run from a pilot, or
            during the run as soon as the acceptance rate proves it. The message has the numbers.
        ConfigError, VectorError, ModelNotFound: options, exclusion files or sources that cannot be used.
    """
    at_least("number of identities", n, 1)
    at_least("block", block, 1)
    between("max_cosine", 1.0 if max_cosine is None else max_cosine, -1, 1)
    chosen = find_source(source)
    request = _Request(n, budget_for(n, max_candidates), max_cosine, chosen.name)
    shield = Exclusion.of(exclude, exclude_cosine, max_cosine, chosen.dimension, backend)
    if max_cosine is not None and n >= PLANNED_FROM:
        options = {"max_candidates": request.budget, "pilot_rows": min(max(FEWEST_ROWS, n // 8), MOST_ROWS)}
        plan = plan_identities(n, chosen, max_cosine, seed=seed, backend=backend, **options)
        plan.refuse_if_saturated()
    reject = _keep_all if max_cosine is None else partial(pick_backend(OP, backend)[1], max_cosine=max_cosine)
    kept, numbers, drawn, rate = Kept(chosen.dimension, capacity=n + block), [], 0, 1.0
    while len(kept) < n:
        missing, before = n - len(kept), len(kept)
        # As many as are missing at the last block's rate and a tenth more, so that little is drawn in vain.
        count = min(block, max(1024, int(1.1 * missing / max(rate, 0.01))), request.budget - drawn)
        if count < 1:
            raise request.refused(before, drawn, rate)
        rows = chosen.candidates(seed, drawn, count)
        passed = np.arange(count) if shield is None else shield.passing(rows)
        numbers.append(drawn + passed[reject(rows[passed], kept=kept)])
        drawn += count
        rate = (len(kept) - before) / count
        if progress is not None:
            progress(min(len(kept), n), n, drawn)
        request.stop_if_hopeless(len(kept), drawn, len(kept) - before, count)
    candidate = np.concatenate(numbers)[:n].astype(np.int64)
    provenance = {
        "source": chosen.name,
        "source_sha256": chosen.sha256,
        "seed": seed,
        "max_cosine": max_cosine,
        "exclude": None if shield is None else shield.describe(),
        "candidates_drawn": int(candidate[-1]) + 1,
    }
    return Identities(kept.vectors[:n], candidate, provenance)


def _keep_all(rows: NDArray[np.float32], *, kept: Kept) -> NDArray[np.int64]:
    kept.append(rows, np.linalg.norm(rows.astype(np.float64), axis=1))
    return np.arange(len(rows))


@dataclass(frozen=True)
class _Request:
    n: int
    budget: int
    max_cosine: float | None
    source: str

    def stop_if_hopeless(self, kept: int, drawn: int, accepted: int, count: int) -> None:
        """Acceptance only falls: three standard deviations above the last block's rate bound the rest."""
        at_most = min(1.0, (accepted + 3 * math.sqrt(accepted + 1) + 3) / count)
        if count >= 1024 and kept < self.n and drawn + (self.n - kept) / at_most > self.budget:
            raise self.refused(kept, drawn, accepted / count)

    def refused(self, kept: int, drawn: int, rate: float) -> SaturationError:
        return SaturationError(
            f"{self.n:,} identities with every cosine below {self.max_cosine} are not to be had from "
            f"{self.source!r} within {self.budget:,} candidates: {kept:,} were kept of {drawn:,} drawn; "
            f"the last block kept a share of {rate:.2g}. Ask for fewer identities, raise max_cosine or "
            "max_candidates, exclude less, or use a source of higher dimension."
        )

"""`prove` up to its first piece, and what it would then do: the run's own checks, engine and judge, and some faces."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.config import at_least
from v2f_engine.data.writing.room import span
from v2f_engine.models.embedder import open_reader
from v2f_engine.options import EngineOptions, IdentityOptions, ImageOptions
from v2f_engine.pipeline.engine import Engine
from v2f_engine.pipeline.foreseen import FIRST, SAMPLED_S, planned
from v2f_engine.pipeline.generation import origin
from v2f_engine.pipeline.proof import (
    FACES,
    PIECE,
    FaceFeatures,
    ProofOptions,
    candidates,
    refuse_unfinished,
)
from v2f_engine.vectors.calibration import Calibration
from v2f_engine.vectors.gate import check_vectors
from v2f_engine.vectors.planner import IdentityPlan
from v2f_engine.vectors.proof import MOST_MADE, keyed_by_candidate, predicted

PROBE_S = 6.0
"""Faces are made and looked at for as long, in batches of the judge's; the first of them is not timed."""


@dataclass(frozen=True)
class ProofForecast:
    """What a proof would do.

    Args:
        identities, images_per_id, max_cosine: asked for.
        made: identities that are expected to be made into images, `most` at most.
        most: as many may be made.
        kept: identities whose features an earlier run left; 0 where too many would have to be drawn to tell.
        seen: identities that the probe made.
        plan: prediction from their features.
        images_per_second: of making and looking, measured.
        seconds: expected, vectors included.
        device, precision, runner, judge: who works.
        people: where vectors come from.
        memory: bytes that this process used at most until now.
    """

    identities: int
    images_per_id: int
    max_cosine: float
    made: int
    most: int
    kept: int
    seen: int
    plan: IdentityPlan
    images_per_second: float
    seconds: float
    device: str
    precision: str
    runner: str
    judge: str
    people: str
    memory: int

    def lines(self) -> list[tuple[str, str]]:
        """(name, words) for people."""
        images = self.made * self.images_per_id
        kept = (
            f"features of {self.kept:,} identities are kept" if self.kept else "no features of an earlier run"
        )
        likely = (
            f"about {self.made:,} made into images" if self.plan.feasible
            else f"not to be met: the {self.most:,} that may be made give about {self.plan.kept_at_budget:,.0f}"
        )  # fmt: skip
        return [
            (
                "identities",
                f"{self.identities:,} from {self.people}, every two faces below cosine {self.max_cosine:.4g}",
            ),
            (
                "expected",
                f"{likely}; two are alike with probability {self.plan.pilot.p:.3g}, told from {self.seen:,} faces",
            ),
            ("work", kept),
            (
                "time",
                f"{span(self.seconds)}: {images:,} images at {self.images_per_second:,.1f} images/s, measured here",
            ),
            ("memory", f"{disk.in_words(self.memory)} until now, networks and probe included"),
            ("engine", f"{self.device}, {self.precision}, runner {self.runner}; judged by {self.judge}"),
        ]


def foresee_proof(
    generator: EngineOptions,
    identities: IdentityOptions,
    images: ImageOptions,
    proof: ProofOptions,
    work: Path | None = None,
) -> ProofForecast:
    """What `proof.run` would do; nothing is written.

    Raises:
        Whatever the run itself would end with before its first piece.
    """
    refuse_unfinished(images.perturbation)
    engine = Engine.open(generator, exporting=False)
    judge = open_reader(proof.recogniser, fetch=generator.fetch)
    asked, limit = identities.for_model(engine.people), proof.limit
    assert asked.n_ids is not None, "a proof samples"
    n, each = asked.n_ids, images.images_per_id
    at_least("number of identities", n, 2)
    most = MOST_MADE * n if proof.max_made is None else proof.max_made
    at_least("max_made", most, n)
    vectors = planned(asked, images.seed)
    if vectors is not None:
        vectors.refuse_if_saturated()
    whole = vectors is None or vectors.seconds < SAMPLED_S
    stream = candidates(asked, images.seed, proof.backend)
    table = keyed_by_candidate(
        stream.take(n if whole else min(n, FIRST), max_candidates=max(100_000, 20 * most))
    )
    faces = FaceFeatures(engine, judge, images, work)
    kept = 0
    if whole:
        parts = [table.part(slice(start, start + PIECE)) for start in range(0, n, PIECE)]
        kept = sum(len(part) for part in parts if faces.is_kept(part))
    looked = 0
    spent: list[tuple[float, int]] = []
    found: list[NDArray[np.float32]] = []
    count, started = math.ceil(FACES / each), time.perf_counter()
    while looked < len(table) and (not spent or time.perf_counter() - started < PROBE_S):
        part = table.part(slice(looked, looked + count))
        began = time.perf_counter()
        found.append(replace(faces, work=None)(part))
        spent.append((time.perf_counter() - began, len(part) * each))
        looked += len(part)
    timed = spent[1:] or spent
    rate = sum(made for _, made in timed) / sum(seconds for seconds, _ in timed)
    cosine = limit.threshold if isinstance(limit, Calibration) else limit
    name = f"{engine.loaded.name} through {judge.name}"
    features = check_vectors(np.concatenate(found), name, dimension=None, allow_duplicates=True)
    plan = predicted(n, features, cosine, most, name, proof.backend)
    made = most if not plan.feasible else max(n, min(most, math.ceil(min(plan.candidates, most))))
    told = engine.runner.describe()
    first = getattr(engine.runner, "first", "")
    return ProofForecast(
        n, each, cosine, made, most, kept, looked, plan, rate,
        max(0, made - kept) * each / rate + (0.0 if vectors is None else vectors.seconds),
        str(told.get("device", told.get("provider", "unknown"))), str(told["precision"]),
        ", ".join([str(told["runner"]), *([first] if first else [])]), judge.name,
        origin(table, engine.people), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )  # fmt: skip

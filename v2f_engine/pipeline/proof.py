"""Proof on the faces, wired: sampler, generator and recogniser around `vectors.proof`."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least
from v2f_engine.errors import VectorError
from v2f_engine.pipeline.engine import Engine
from v2f_engine.vectors.files import read_tensors, write_tensors
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.proof import ROUNDS, Proof, prove_identities
from v2f_engine.vectors.sampling import IdentityStream
from v2f_engine.vectors.separability import Calibration

if TYPE_CHECKING:
    from v2f_engine.models.weights import LoadedRecogniser

Float32 = NDArray[np.float32]

PIECE = 256
"""Identities whose features are kept together on disk: what an interrupted run loses at most."""
FACES = 64
"""Images of every call of the recogniser, padded at the end, so that a feature's last bits do not depend on
which images were looked at together."""
FORMAT = "v2f-proof-features/1"


@dataclass
class FaceFeatures:
    """Makes images of identities and looks at them: the `features_of` of a proof.

    Args:
        engine: the generator.
        recogniser: the judge.
        images_per_id: images of each identity; its feature is the mean of their unit features.
        seed, perturbation: as the dataset will be generated with; then its first images are those seen here.
        work: folder for finished pieces, so that an interrupted run goes on; None keeps nothing.
        progress: called as progress(images done, images of this and earlier rounds) after each piece.
        bf16: see `models.features.extract_features`.
    """

    engine: Engine
    recogniser: LoadedRecogniser
    images_per_id: int = 1
    seed: int = 0
    perturbation: Perturbation = field(default_factory=Perturbation)
    work: Path | None = None
    progress: Callable[[int, int], None] | None = None
    bf16: bool = False

    def __post_init__(self) -> None:
        at_least("images_per_id", self.images_per_id, 1)
        self._done = 0

    def describe(self) -> dict[str, Any]:
        """JSON values: everything that decides a feature but the vector."""
        return {
            "recogniser": {"name": self.recogniser.name, "sha256": self.recogniser.sha256, "bf16": self.bf16},
            "images_per_id": self.images_per_id,
            "seed": self.seed,
            "perturbation": self.perturbation.describe(),
            **self.engine.describe(),
        }

    def __call__(self, identities: Identities) -> Float32:
        """float32 `[N, D]`, a feature of each identity."""
        total, parts = self._done + len(identities) * self.images_per_id, []
        for start in range(0, len(identities), PIECE):
            part = identities.part(slice(start, start + PIECE))
            parts.append(self._piece(part))
            self._done += len(part) * self.images_per_id
            if self.progress is not None:
                self.progress(self._done, total)
        return np.concatenate(parts)

    def _piece(self, part: Identities) -> Float32:
        if self.work is None:
            return self._look(part)
        digest = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode())
        digest.update(part.candidate.tobytes() + part.vectors.tobytes())
        path = self.work / f"{part.candidate[0]:010d}-{digest.hexdigest()[:16]}.safetensors"
        if path.is_file():
            try:
                found: Float32 = read_tensors(path, FORMAT)[0]["features"]
                if found.shape[:1] == (len(part),) and found.dtype == np.float32:
                    return found
            except (VectorError, KeyError):  # a damaged piece is made again
                pass
        features = self._look(part)
        self.work.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {"features": features}, {"format": FORMAT})
        return features

    def _look(self, part: Identities) -> Float32:
        made = self.engine.images(
            part, self.images_per_id, seed=self.seed, perturbation=self.perturbation, batch_size=FACES
        )
        sums: NDArray[np.float64] | None = None
        for batch in made:
            features = _padded_features(self.recogniser, batch.images, self.bf16).astype(np.float64)
            if sums is None:
                sums = np.zeros((len(part), features.shape[1]))
            np.add.at(sums, batch.identity, features / np.linalg.norm(features, axis=1, keepdims=True))
        assert sums is not None
        return np.asarray(sums / self.images_per_id, np.float32)


def _padded_features(recogniser: LoadedRecogniser, images: NDArray[np.uint8], bf16: bool) -> Float32:
    from v2f_engine.models.features import extract_features

    missing = FACES - len(images)
    padded = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images
    return extract_features(recogniser.model, padded, batch=FACES, bf16=bf16)[: len(images)]


def prove(
    n_ids: int,
    *,
    model: str | Path = "mini",
    recogniser: str | Path = "mini",
    source: str | Path = "auto",
    max_cosine: float | None = None,
    image_cosine: float | Calibration | None = None,
    images_per_id: int = 1,
    perturbation: Perturbation | None = None,
    seed: int = 0,
    exclude: list[str | Path] | str | Path | None = None,
    max_rounds: int = ROUNDS,
    max_made: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    masks: str = "generate",
    compute_batch: int | None = None,
    runner: str = "auto",
    backend: str = "auto",
    fetch: bool = False,
    work: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Identities that stay apart on their faces: the first images that `generate` will make of them.

    Args:
        n_ids: how many.
        model, device, precision, masks, compute_batch, runner, fetch: see `Engine.load`.
        recogniser: the judge of faces, a name or a path.
        source: where vectors come from; `auto` is the model's own statistics.
        max_cosine: threshold between vectors; the model's own by default.
        image_cosine: threshold between faces, as a cosine or as `calibrate_threshold` found it for this
            recogniser; by default the limit on the recogniser's card (a false-match rate of 1e-4).
        images_per_id: images looked at of each identity.
        perturbation, seed: as the dataset will be generated with. `generate(identities=proof.require())`
            with the same seed, perturbation, masks, model and runner makes exactly the images seen here first.
        exclude: features of real people that no vector may resemble.
        max_rounds, max_made: bounds on the work.
        work: folder for finished pieces; a repeated call goes on from them. Removed when the table is had.
        progress: called with (images done, images known to be needed).

    Returns:
        a `Proof`: report, and a table from `require()`.

    Raises:
        SaturationError: not enough separable vectors. Errors of `Engine.load` and of the recogniser.
    """
    from v2f_engine.models.weights import load_recogniser

    engine = Engine.load(
        model,
        device=device,
        precision=precision,
        masks=masks,
        compute_batch=compute_batch,
        runner=runner,
        fetch=fetch,
    )
    judge = load_recogniser(recogniser, fetch=fetch)
    limit = judge_limit(recogniser) if image_cosine is None else image_cosine
    calibration = limit if isinstance(limit, Calibration) else None
    faces = FaceFeatures(
        engine,
        judge,
        images_per_id,
        seed,
        perturbation or Perturbation(),
        None if work is None else Path(work),
        progress,
    )
    stream = IdentityStream(
        source=engine.loaded.statistics if source == "auto" else source,
        seed=seed,
        max_cosine=engine.loaded.max_cosine if max_cosine is None else max_cosine,
        exclude=exclude,
        backend=backend,
    )
    proof = prove_identities(
        n_ids,
        stream,
        faces,
        max_cosine=limit.threshold if isinstance(limit, Calibration) else limit,
        calibration=calibration,
        about=faces.describe(),
        max_rounds=max_rounds,
        max_made=max_made,
        backend=backend,
        name=f"{engine.loaded.name} through {judge.name}",
    )
    if work is not None and proof.table is not None:
        shutil.rmtree(work, ignore_errors=True)
    return proof


def judge_limit(recogniser: str | Path) -> float:
    """Cosine at which two faces are one person to a recogniser: what its card says, else 0.3."""
    from v2f_engine.models.registry import locate

    return locate(recogniser, "recogniser").max_cosine

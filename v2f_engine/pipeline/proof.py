"""Proof on the faces, wired: sampler, generator and recogniser around `vectors.proof`."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.options import EngineOptions, IdentityOptions, ImageOptions
from v2f_engine.pipeline.engine import Engine
from v2f_engine.vectors.calibration import Calibration
from v2f_engine.vectors.files import read_tensors, write_tensors
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.perturbation_contract import Around
from v2f_engine.vectors.proof import ROUNDS, Proof, prove_identities
from v2f_engine.vectors.sampling import IdentityStream

if TYPE_CHECKING:
    from v2f_engine.models.embedder import Reader

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
        images: which of each identity, as the dataset will be generated with; then its first images are those
            seen here. A feature is the mean of their unit features.
        work: folder for finished pieces, so that an interrupted run goes on; None keeps nothing.
        progress: called as progress(images done, images of this and earlier rounds) after each piece.
        bf16: see `models.features.extract_features`.
    """

    engine: Engine
    recogniser: Reader
    images: ImageOptions = field(default_factory=lambda: ImageOptions(1))
    work: Path | None = None
    progress: Callable[[int, int], None] | None = None
    bf16: bool = False

    def __post_init__(self) -> None:
        self._done = 0

    def describe(self) -> dict[str, Any]:
        """JSON values: everything that decides a feature but the vector."""
        return {
            "recogniser": {"name": self.recogniser.name, "sha256": self.recogniser.sha256, "bf16": self.bf16},
            "images_per_id": self.images.images_per_id,
            "seed": self.images.seed,
            "perturbation": self.images.perturbation.describe(),
            **self.engine.describe(),
        }

    def __call__(self, identities: Identities) -> Float32:
        """float32 `[N, D]`, a feature of each identity."""
        each = self.images.images_per_id
        total, parts = self._done + len(identities) * each, []
        for start in range(0, len(identities), PIECE):
            part = identities.part(slice(start, start + PIECE))
            parts.append(self._piece(part))
            self._done += len(part) * each
            if self.progress is not None:
                self.progress(self._done, total)
        return np.concatenate(parts)

    def is_kept(self, part: Identities) -> bool:
        """Whether an earlier run left the features of these identities, one piece, in `work`."""
        path = self._path(part)
        return path is not None and path.is_file()

    def _path(self, part: Identities) -> Path | None:
        if self.work is None:
            return None
        digest = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode())
        digest.update(part.candidate.tobytes() + part.vectors.tobytes())
        return self.work / f"{part.candidate[0]:010d}-{digest.hexdigest()[:16]}.safetensors"

    def _piece(self, part: Identities) -> Float32:
        path = self._path(part)
        if path is None:
            return self._look(part)
        if path.is_file():
            try:
                found: Float32 = read_tensors(path, FORMAT)[0]["features"]
                if found.shape[:1] == (len(part),) and found.dtype == np.float32:
                    return found
            except (VectorError, KeyError):  # a damaged piece is made again
                pass
        features = self._look(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {"features": features}, {"format": FORMAT})
        return features

    def _look(self, part: Identities) -> Float32:
        sums: NDArray[np.float64] | None = None
        for batch in self.engine.batches(part, self.images, batch_size=FACES):
            features = _padded_features(self.recogniser, batch.images, self.bf16).astype(np.float64)
            if sums is None:
                sums = np.zeros((len(part), features.shape[1]))
            np.add.at(sums, batch.identity, features / np.linalg.norm(features, axis=1, keepdims=True))
        assert sums is not None
        return np.asarray(sums / self.images.images_per_id, np.float32)


def _padded_features(recogniser: Reader, images: NDArray[np.uint8], bf16: bool) -> Float32:
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
    perturbation: Around | None = None,
    seed: int = 0,
    exclude: Sequence[str | Path] | str | Path | None = None,
    rescale: bool = False,
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
        model, device, precision, masks, compute_batch, runner, fetch: see `options.EngineOptions`.
        recogniser: the judge of faces, a name or a path.
        source, max_cosine, exclude, rescale: of the vectors, see `options.IdentityOptions`.
        image_cosine: threshold between faces, as a cosine or as `calibrate_threshold` found it for this
            recogniser; by default the recogniser's own limit (`mini`: a false-match rate of 1e-3 on its card).
        images_per_id: images looked at of each identity.
        perturbation, seed: as the dataset will be generated with. `generate(identities=proof.require())`
            with the same seed, perturbation, masks, model and runner makes exactly the images seen here first.
        max_rounds, max_made: bounds on the work.
        work: folder for finished pieces; a repeated call goes on from them. Removed when there is a table.
        progress: called with (images done, images known to be needed).

    Returns:
        a `Proof`: report, and a table from `require()`.

    Raises:
        SaturationError: not enough separable vectors. Errors of `Engine.load` and of the recogniser.
    """
    folder = None if work is None else Path(work)
    found = run(
        EngineOptions(model, device, precision, masks, compute_batch, runner, fetch),
        IdentityOptions(n_ids, None, source, max_cosine, exclude=exclude, rescale=rescale),
        ImageOptions(images_per_id, seed, perturbation or Perturbation()),
        ProofOptions(recogniser, image_cosine, max_rounds, max_made, backend),
        folder,
        progress,
    )
    if folder is not None and found.table is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return found


@dataclass(frozen=True)
class ProofOptions:
    """Who judges the faces, and how far a proof may go; fields as in `prove`."""

    recogniser: str | Path = "mini"
    image_cosine: float | Calibration | None = None
    max_rounds: int = ROUNDS
    max_made: int | None = None
    backend: str = "auto"

    @property
    def limit(self) -> float | Calibration:
        """The threshold between faces."""
        return judge_limit(self.recogniser) if self.image_cosine is None else self.image_cosine


def run(
    generator: EngineOptions,
    identities: IdentityOptions,
    images: ImageOptions,
    proof: ProofOptions,
    work: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """`prove`, of options that are together already; leaves the pieces in `work` to whoever keeps the proof."""
    from v2f_engine.models.embedder import open_reader

    refuse_unfinished(images.perturbation)
    engine = Engine.open(generator)
    judge = open_reader(proof.recogniser, fetch=generator.fetch)
    asked, limit = identities.for_model(engine.people), proof.limit
    assert asked.n_ids is not None, "a proof samples"
    faces = FaceFeatures(engine, judge, images, work, progress)
    return prove_identities(
        asked.n_ids,
        candidates(asked, images.seed, proof.backend),
        faces,
        max_cosine=limit.threshold if isinstance(limit, Calibration) else limit,
        calibration=limit if isinstance(limit, Calibration) else None,
        about=faces.describe(),
        max_rounds=proof.max_rounds,
        max_made=proof.max_made,
        backend=proof.backend,
        name=f"{engine.loaded.name} through {judge.name}",
    )


def refuse_unfinished(noise: Around) -> None:
    """Refuses a perturbation that depends on the finished table, which a proof is only making.

    Raises:
        ConfigError: with the way to what it would have guarded.
    """
    if noise.needs_table:
        raise ConfigError(
            f"the perturbation {noise.words} depends on each identity's nearest other one in the finished table, and a "
            "proof drops identities until it has one: the images that are looked at would not be those of the set. A "
            "table whose vectors all stay below a cosine c is guarded as well by cone:L,unguarded with L = sqrt((1 + "
            "c) / 2), which needs no table: 0.864 for the 0.491 of mini."
        )


def candidates(asked: IdentityOptions, seed: int, backend: str) -> IdentityStream:
    """The identities that a proof takes from, in the order in which it takes them."""
    return IdentityStream(
        source=asked.source, seed=seed, max_cosine=asked.max_cosine, exclude=asked.exclude, backend=backend
    )


def judge_limit(recogniser: str | Path) -> float:
    """Cosine at which two faces are one person to a recogniser: what its card says, else 0.3."""
    from v2f_engine.models.registry import locate

    return locate(recogniser, "recogniser").max_cosine

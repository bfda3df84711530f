"""Watching a generator learn, on people it is not trained on: measurements, sample grids, TensorBoard, curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from v2f_engine.config import at_least
from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.errors import DatasetError, VectorError
from v2f_engine.models.features import to_network
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.scores import equal_error_rate, genuine_impostor
from v2f_engine.train.curves import VALIDATION
from v2f_engine.train.events import EventFile
from v2f_engine.train.losses import ssim
from v2f_engine.train.picture import to_bytes, write_grid
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.statistics import fit_statistics

RECONSTRUCTED = 64
"""Held-out images that are drawn again."""
SAMPLED, EACH = 32, 4
"""Sampled identities, and images of each: 124 thousand impostor pairs' worth of rates would be overkill here."""
FITTED = 4096
"""Features that identities are sampled after."""
IMPOSTORS = 20_000
PEOPLE = 8
SEED = 7


class Watcher:
    """Measures a generator on held-out people and on people who do not exist.

    Args:
        held_out: images with features, of people that are not trained on.
        recogniser: made the features; eval mode.
        device: of the generator.
        bf16: autocast, as in training.

    Raises:
        DatasetError: no features, or fewer than two people.
    """

    def __init__(
        self, held_out: TrainingSet, recogniser: torch.nn.Module, device: torch.device, bf16: bool
    ) -> None:
        at_least("held-out images", len(held_out), 2)
        if held_out.feature_dim is None:
            raise DatasetError("Held-out people need features: the recogniser's, as in training.")
        self.recogniser, self.device, self.bf16 = recogniser, device, bf16
        self.schedule = MASK_SCHEDULES["generate"]
        chosen = np.unique(np.linspace(0, len(held_out) - 1, RECONSTRUCTED).astype(np.int64))
        self.read = held_out.read(chosen)
        self.shown = [held_out.read(np.flatnonzero(held_out.labels == person)) for person in _few(held_out)]
        self.vectors, self.people = self._sample(held_out)

    def _sample(self, held_out: TrainingSet) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Perturbed vectors `[SAMPLED * EACH, D]` of sampled identities, and whose each is."""
        rows = np.unique(np.linspace(0, len(held_out) - 1, FITTED).astype(np.int64))
        features = held_out.read(rows).features
        assert features is not None
        try:
            statistics = fit_statistics([(0, features)], origin="held-out features")
        except VectorError:  # a handful of images has no covariance: vectors of their length instead
            norm = float(np.linalg.norm(features, axis=1).mean())
            centres = sample_identities(SAMPLED, max_cosine=None, seed=SEED, source="gaussian").vectors
            centres = centres * np.float32(norm) / np.linalg.norm(centres, axis=1, keepdims=True)
        else:
            centres = sample_identities(SAMPLED, max_cosine=None, seed=SEED, source=statistics).vectors
        people = np.repeat(np.arange(SAMPLED), EACH)
        images = np.tile(np.arange(EACH), SAMPLED)
        drawn = Perturbation().draw(
            np.ascontiguousarray(centres[people], np.float32), people, images, seed=SEED
        )
        return drawn.vectors, people

    @torch.no_grad()
    def generate(self, model: Vec2Face, vectors: NDArray[np.float32], identity: int = 0) -> torch.Tensor:
        """Images `[B, 3, 112, 112]` in [-1, 1], clipped; masks are a function of (identity, place)."""
        parts = []
        for start in range(0, len(vectors), 32):
            rows = vectors[start : start + 32]
            place = np.arange(start, start + len(rows))
            noise, n_masked = self.schedule.draw(SEED, np.full(len(rows), identity), place)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                made = model(
                    torch.from_numpy(rows).to(self.device),
                    torch.from_numpy(noise).to(self.device),
                    torch.from_numpy(n_masked).to(self.device),
                    self.schedule.n_dropped,
                ).images
            parts.append(made.float().clamp(-1, 1))
        return torch.cat(parts)

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Of generated images, `[B, D]`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            parts = [self.recogniser(part).float() for part in torch.split(images, 64)]
        return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)

    def measure(self, model: Vec2Face) -> dict[str, float]:
        """Numbers of one validation.

        Returns:
            `psnr` (dB) and `ssim` of held-out images against what their features become, `identity_cosine`
            of their features and the generated images', and of sampled identities: `eer` (share in [0, 1]),
            `genuine` and `impostor` (mean cosines of images of one and of two identities).
        """
        assert self.read.features is not None
        made = self.generate(model, self.read.features)
        real = to_network(torch.from_numpy(self.read.images)).to(self.device)
        seen = self.features(made)
        cosine = F.cosine_similarity(torch.from_numpy(seen), torch.from_numpy(self.read.features))
        drawn = self.features(self.generate(model, self.vectors, 1))
        genuine, impostor = genuine_impostor(drawn, self.people, impostors=IMPOSTORS)
        return {
            "psnr": float(10 * torch.log10(4.0 / F.mse_loss(made, real))),
            "ssim": float(ssim((made + 1) / 2, (real + 1) / 2)),
            "identity_cosine": float(cosine.mean()),
            "eer": equal_error_rate(genuine, impostor)[0],
            "genuine": float(genuine.mean()),
            "impostor": float(impostor.mean()),
        }

    def picture(self, model: Vec2Face, path: Path) -> None:
        """One row a person: two images, what they become, six perturbations of the person's centre."""
        rows = []
        for number, person in enumerate(self.shown):
            assert person.features is not None
            centre = person.features.mean(0)
            centre *= np.linalg.norm(person.features, axis=1).mean() / np.linalg.norm(centre)
            around = Perturbation((0.3, 0.5, 0.7), (1 / 3,) * 3).draw(
                np.repeat(centre[None].astype(np.float32), 6, 0), np.full(6, number), np.arange(6), seed=SEED
            )
            two = person.features[np.arange(2) % len(person)]
            made = to_bytes(self.generate(model, np.concatenate([two, around.vectors]), 2 + number))
            rows.append(np.concatenate([person.images[np.arange(2) % len(person)], made]))
        write_grid(path, rows)


def _few(held_out: TrainingSet) -> list[int]:
    """Some people, spread over all."""
    count = min(PEOPLE, held_out.classes)
    return sorted({int(person) for person in np.linspace(0, held_out.classes - 1, count)})


class Diary:
    """Where a training records what it does: event files for TensorBoard and `validation.jsonl`.

    Args:
        folder: of the training; events go to its `events`.
        step: where the run begins or resumes.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.events = EventFile(folder / "events", step)

    def line(self, step: int, line: Mapping[str, Any]) -> None:
        """A line of the log."""
        scalars = {
            name if name == "images_per_second" else f"loss/{name}": float(value)
            for name, value in line.items()
            if name != "step"
        }
        self.events.scalars(step, scalars)

    def validation(self, step: int, measured: Mapping[str, float], picture: Path) -> None:
        """A validation and its sample grid."""
        with open(self.folder / VALIDATION, "a") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 5) for k, v in measured.items()}}) + "\n")
        self.events.scalars(step, {f"held_out/{name}": value for name, value in measured.items()})
        self.events.picture(step, "samples", picture.read_bytes())

    def close(self) -> None:
        self.events.close()

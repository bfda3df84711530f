"""Batches ahead of time: a thread reads, decodes and draws masks for the next steps while this one computes.

What a step sees is a function of (seed, step, place in the batch of all ranks): not of the number of ranks, of
how a rank's share is divided, of threads, or of where a run was resumed. One switch is an exception, since the
published code has it so: `one_ratio` draws a ratio for each part of each rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.errors import DatasetError
from v2f_engine.models.discriminator import SIDE
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.randomness import Purpose, uniforms
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator_settings import GeneratorTraining
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.read_ahead import ReadAhead

SHOWN = 8


@dataclass
class Part:
    """What one rank computes at a time.

    Args:
        images: uint8 `[B, 112, 112, 3]`.
        features: float32 `[B, D]`.
        noise: float32 `[B, 49]`, its order decides which rows are masked.
        n_masked: int64 `[B]`.
        n_dropped: rows that never enter the encoder.
        crop: rows and columns that both images are moved by before a frozen network sees them, whole numbers unless
            the settings ask for fractions.
        window: first row and column of what the discriminator sees.
        dropout_seed: of this part, or None without dropout.
        keys: what the rows are called.
    """

    images: torch.Tensor
    features: torch.Tensor
    noise: torch.Tensor
    n_masked: torch.Tensor
    n_dropped: int
    crop: tuple[float, float]
    window: tuple[int, int]
    dropout_seed: int | None
    keys: list[str]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.images, self.features, self.noise, self.n_masked

    def to(self, device: torch.device) -> Part:
        """On `device`; copies from pinned memory do not wait."""
        if device.type == "cpu":
            return self
        images, features, noise, n_masked = (t.to(device, non_blocking=True) for t in self.tensors)
        return Part(
            images,
            features,
            noise,
            n_masked,
            self.n_dropped,
            self.crop,
            self.window,
            self.dropout_seed,
            self.keys,
        )

    def pinned(self) -> Part:
        images, features, noise, n_masked = (t.pin_memory() for t in self.tensors)
        return Part(
            images,
            features,
            noise,
            n_masked,
            self.n_dropped,
            self.crop,
            self.window,
            self.dropout_seed,
            self.keys,
        )


def named(parts: list[Part]) -> str:
    """The keys of a step's first rows, for messages."""
    keys = [key for part in parts for key in part.keys]
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


class Batches:
    """A rank's parts of every step.

    Args:
        data: images with features.
        settings: of the training.
        group: which share is this rank's.

    Raises:
        DatasetError: data without features, with features of another width, or without rows. Fewer rows than a
            batch has are no error: rows then come up more than once in a step.
    """

    def __init__(self, data: TrainingSet, settings: GeneratorTraining, group: Ranks) -> None:
        if data.feature_dim is None:
            raise DatasetError(
                "A generator learns from features: give the training set them (`v2f features`, or an LMDB whose"
                " records hold them)."
            )
        if data.feature_dim != settings.model.vector_dim:
            raise DatasetError(
                f"The features have {data.feature_dim} numbers, the generator expects"
                f" {settings.model.vector_dim}. Extract them with the recogniser it is to be trained for."
            )
        if not len(data):
            raise DatasetError("The training set holds no rows.")
        settings.ends(len(data))  # refuses a set without a whole batch where epochs have only those
        self.data, self.settings, self.group = data, settings, group
        self.size = settings.part(group.world)
        self._pin = torch.device(group.device).type == "cuda"
        self._ahead = ReadAhead(self._read, "batches")

    def __call__(self, step: int) -> list[Part]:
        """The parts of a step, in host memory; the steps after it begin to be read.

        Raises:
            DatasetError: a row cannot be used, and the set refuses such rows.
        """
        return self._ahead(step)

    def close(self) -> None:
        """Stops reading ahead."""
        self._ahead.close()

    def _read(self, step: int) -> list[Part]:
        parts = [self._part(step, number) for number in range(self.settings.accumulate)]
        return [part.pinned() for part in parts] if self._pin else parts

    def _part(self, step: int, number: int) -> Part:
        s = self.settings
        first = (self.group.rank * s.accumulate + number) * self.size
        place = np.arange(first, first + self.size)
        whole = s.as_published.whole_epochs
        rows = rows_of_step(s.seed, step, s.batch, len(self.data), whole_batches=whole)[place]
        read = self.data.read(rows)
        assert read.features is not None
        schedule = MASK_SCHEDULES[s.masks[step % len(s.masks)]]
        noise, n_masked = schedule.draw(s.seed, np.full(self.size, step), place)
        if s.as_published.one_ratio:
            part = np.full(1, self.group.rank * s.accumulate + number)
            n_masked[:] = schedule.draw(s.seed, np.full(1, step), part)[1]
        top, left, row, column = uniforms(s.seed, Purpose.AUGMENT, step, 0, 4)[0].tolist()
        places = SIDE - s.critic_side + 1
        room = 2 * s.shift
        crop = (top * room, left * room) if s.subpixel else (int(top * (room + 1)), int(left * (room + 1)))
        parts_a_step = self.group.world * s.accumulate
        return Part(
            torch.from_numpy(read.images),
            torch.from_numpy(np.ascontiguousarray(read.features)),
            torch.from_numpy(noise),
            torch.from_numpy(n_masked),
            schedule.n_dropped,
            crop,
            (int(row * places), int(column * places)),
            step * parts_a_step + self.group.rank * s.accumulate + number if s.model.dropout else None,
            read.keys,
        )

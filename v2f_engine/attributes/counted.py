"""The loop of the published forms (`attributes.forms`): iterations that count, fresh masks at each, a last step
unchecked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.attributes.steering import SteeredBatch, Steerer, SteeringSettings
from v2f_engine.config import at_least, one_of
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.randomness import Purpose, bits

Floats = NDArray[np.float32]
Masks = Callable[[NDArray[np.int64], int], tuple[Floats, NDArray[np.int64]]]
"""(rows of the batch, step from 1) -> noise `[B, 49]`, n_masked `[B]`."""


@dataclass(frozen=True)
class CountedSettings(SteeringSettings):
    """Of a loop that counts.

    Args:
        counted: iterations that have to count; one more picture is then returned as it comes.
        free: iterations that may pass without count; every further one counts, so `counted + free + 1` pictures are the
            most there are.
        counts: `met` or `kept`, of `targets.Judged`.
    """

    counted: int = 1
    free: int = 200
    counts: str = "met"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("counted", self.counted, 1)
        at_least("free", self.free, 0)
        one_of("counts", self.counts, ("met", "kept"))

    def describe(self) -> dict[str, Any]:
        told = {**super().describe(), "counted": self.counted, "free": self.free, "counts": self.counts}
        del told["iterations"]  # decides nothing here
        return told


def fresh_masks(masks: MaskSchedule, seed: int, keys: NDArray[np.int64], image: NDArray[np.int64]) -> Masks:
    """Masks of each step after the first, by (seed, identity, image, step)."""

    def draw(rows: NDArray[np.int64], step: int) -> tuple[Floats, NDArray[np.int64]]:
        low, high = (int(word) for word in bits(seed, Purpose.STEERING_STEP, step, 0, 2)[0])
        return masks.draw(high << 32 | low, keys[rows], image[rows])

    return draw


class CountedSteerer(Steerer):
    """A loop that ends after enough pictures within the thresholds, and returns the one after."""

    settings: CountedSettings

    def __call__(self, *arrays: Any, masks: Masks | None = None, **how: Any) -> SteeredBatch:
        """As `Steerer`; `masks` are those of each step after the first, the image's own where None."""
        self._masks, self._age = masks, np.zeros(self.settings.slots, np.int64)
        return super().__call__(*arrays, **how)

    def filled(self, at: torch.Tensor, rows: Mapping[str, torch.Tensor]) -> None:
        super().filled(at, rows)
        self.slots.tally[at] = 0
        self._age[at.cpu().numpy()] = 0

    def before(self, holds: NDArray[np.int64]) -> None:
        """Draws the masks of this step for the slots that hold a sample."""
        state = self.slots
        for age in np.unique(self._age[holds >= 0]) if self._masks is not None else ():
            slots = np.flatnonzero((self._age == age) & (holds >= 0))
            if age:
                assert self._masks is not None
                noise, n_masked = self._masks(holds[slots], int(age))
                at = torch.from_numpy(slots).to(self.device)
                state.noise[at] = torch.from_numpy(noise).to(self.device)
                state.n_masked[at] = torch.from_numpy(n_masked).to(self.device)
        self._age += 1

    @torch.no_grad()
    def iterate(self) -> None:
        """One iteration of every active slot: judge, keep, and step unless it was the last. Static shapes, in place."""
        state, settings = self.slots, self.settings
        levels, gradient, judged = self.gradient()
        loss = judged.loss.detach()
        sound = torch.isfinite(loss) & torch.isfinite(gradient).all(1)
        seen, first = state.active & sound, state.active & (state.count == 0)
        last = state.tally >= settings.counted
        passed = state.count - state.tally  # steps that did not count
        counts = (judged.met if settings.counts == "met" else judged.kept) | (passed >= settings.free)
        self.keep(seen, first, levels, judged, loss)
        state.spoilt.logical_or_(state.active & ~sound)
        state.count.add_(state.active.to(torch.int32))
        state.tally.add_((state.active & ~last & counts).to(torch.int32))
        state.active.logical_and_(~last & sound)
        self._step(gradient)

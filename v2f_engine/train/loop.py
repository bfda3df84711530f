"""What every training shares: a budget of steps or minutes, progress, a log, a stop on NaN."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from v2f_engine.errors import ConfigError, NonFiniteLoss


@dataclass(frozen=True)
class Budget:
    """When a training ends: after `steps`, or after `minutes` of wall time, whichever is given.

    A budget of minutes makes the learning-rate schedule follow the clock; only a budget of steps is
    reproducible bit for bit.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("Give either steps or minutes as the budget of a training.")


@dataclass
class Loop:
    """Progress of one training.

    Args:
        budget: its end.
        folder: `log.jsonl` is appended there.
        batch: images a step, for the rate.
        every: steps between two lines of the log.
        step: where a resumed run begins.
    """

    budget: Budget
    folder: Path
    batch: int
    every: int = 50
    step: int = 0
    _started: float = field(default_factory=time.monotonic)
    _sums: dict[str, torch.Tensor] = field(default_factory=dict)
    _since: int = 0
    _last: float = field(default_factory=time.monotonic)
    say: Callable[[str], object] = field(default=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def progress(self) -> float:
        """Share of the budget used, 0..1."""
        if self.budget.steps is not None:
            return min(1.0, self.step / self.budget.steps)
        assert self.budget.minutes is not None
        return min(1.0, (time.monotonic() - self._started) / 60 / self.budget.minutes)

    @property
    def done(self) -> bool:
        return self.progress >= 1.0

    def record(self, terms: Mapping[str, torch.Tensor], keys: str) -> None:
        """Ends a step: adds its loss terms to the running means; checks and writes them every `every` steps.

        Sums stay on the device, so no step waits for it.

        Raises:
            NonFiniteLoss: a term is NaN or infinite; `keys` says which batch was being seen.
        """
        for name, value in terms.items():
            detached = value.detach()
            self._sums[name] = self._sums[name] + detached if name in self._sums else detached
        self.step += 1
        self._since += 1
        if self.step % self.every and not self.done:
            return
        means = {name: float(total) / self._since for name, total in self._sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise NonFiniteLoss(
                    f"Loss term {name!r} is {mean} at step {self.step}, within the last {self._since} steps; "
                    f"the last batch was {keys}. The last checkpoint is intact; lower the learning rate or "
                    "look at those images."
                )
        now = time.monotonic()
        rate = self._since * self.batch / max(1e-9, now - self._last)
        share = max(self.progress, 1e-9)
        left = (now - self._started) * (1 - share) / share
        line = {
            "step": self.step,
            "images_per_second": round(rate, 1),
            **{k: round(v, 5) for k, v in means.items()},
        }
        with open(self.folder / "log.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        terms_text = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        self.say(
            f"step {self.step:>6}  {share:5.1%}  {rate:6.1f} images/s  {left / 60:5.1f} min left  "
            f"{terms_text}"
        )
        self._sums, self._since, self._last = {}, 0, now

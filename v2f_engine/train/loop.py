"""What every training shares: a budget of steps or minutes, progress, a log, a stop on NaN."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from v2f_engine.atomic import write_atomically
from v2f_engine.errors import ConfigError, DatasetError, NonFiniteLoss
from v2f_engine.train.distributed import Ranks

LOG = "log.jsonl"


@dataclass(frozen=True)
class Budget:
    """When a training ends: after `steps`, `epochs` of its data, or `minutes` of wall time, whichever is given.

    A budget of minutes makes the learning-rate schedule follow the clock; the others are reproducible bit for
    bit.
    """

    steps: int | None = None
    minutes: float | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.minutes, self.epochs) if value is not None]
        if len(given) != 1:
            raise ConfigError("Give either steps or minutes (or epochs) as the budget of a training.")
        if not given[0] > 0:
            raise ConfigError(f"The budget of a training must be above zero, found {given[0]!r}.")

    def on(self, rows: int, batch: int) -> Budget:
        """Epochs as steps, on a set of `rows` images at `batch` a step; others as they are."""
        return self.of_epochs(rows / batch)

    def on_whole_batches(self, rows: int, batch: int, advice: str) -> Budget:
        """`on`, where an epoch has whole batches only and what is left over is not seen in it.

        Args:
            advice: what to do about a set that is smaller than a batch.

        Raises:
            DatasetError: such a set.
        """
        if rows < batch:
            raise DatasetError(
                f"A published epoch has whole batches only, and the set holds {rows} rows for a batch of {batch}:"
                f" nothing would be learned. {advice}"
            )
        return self.of_epochs(rows // batch)

    def of_epochs(self, steps: float) -> Budget:
        """Epochs of so many steps each as steps; others as they are."""
        return self if self.epochs is None else Budget(steps=max(1, round(self.epochs * steps)))


@dataclass
class Loop:
    """Progress of one training.

    Args:
        budget: its end, in steps or minutes.
        folder: `log.jsonl` is appended there, by rank 0.
        batch: images a step, of all ranks, for the rate.
        every: steps between two lines of the log.
        step: where a resumed run begins.
        group: the ranks of this training.
        say: gets the lines of progress; rank 0's stderr by default.
        heard: functions called with (step, line of the log) on rank 0.
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
    group: Ranks = field(default_factory=Ranks)
    heard: list[Callable[[int, Mapping[str, Any]], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.budget.epochs is not None:
            raise ConfigError("A loop counts steps or minutes: turn epochs into steps with Budget.on.")
        if self.budget.minutes is not None and self.group.world > 1:
            raise ConfigError(
                "Several ranks cannot train by the clock, each has its own: give steps or epochs."
            )

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

        Sums stay on the device, so no step waits for it. Every rank calls this.

        Raises:
            NonFiniteLoss: a term is NaN or infinite; `keys` says which batch was being seen.
        """
        for name, value in terms.items():
            detached = value.detach().float()
            self._sums[name] = self._sums[name] + detached if name in self._sums else detached
        self.step += 1
        self._since += 1
        if self.step % self.every and not self.done:
            return
        means = self._means(keys)
        now = time.monotonic()
        rate = self._since * self.batch / max(1e-9, now - self._last)
        share = max(self.progress, 1e-9)
        left = (now - self._started) * (1 - share) / share
        self._sums, self._since, self._last = {}, 0, now
        if not self.group.first:
            return
        line = {
            "step": self.step,
            "images_per_second": round(rate, 1),
            **{k: round(v, 5) for k, v in means.items()},
        }
        with open(self.folder / LOG, "a") as log:
            log.write(json.dumps(line) + "\n")
        for hear in self.heard:
            hear(self.step, line)
        terms_text = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        self.say(
            f"step {self.step:>6}  {share:5.1%}  {rate:6.1f} images/s  {left / 60:5.1f} min left  "
            f"{terms_text}"
        )

    def _means(self, keys: str) -> dict[str, float]:
        """The mean of every term since the last line, over all ranks; the one point where a step waits."""
        own = torch.stack(list(self._sums.values())) / self._since
        values = self.group.mean(own).tolist()
        means = dict(zip(self._sums, values, strict=True))
        if all(math.isfinite(mean) for mean in values):
            return means
        for rank, (mine, seen) in enumerate(self.group.gather((own.tolist(), keys))):
            for name, mean in zip(self._sums, mine, strict=True):
                if not math.isfinite(mean):
                    where = f" on rank {rank}" if self.group.world > 1 else ""
                    raise NonFiniteLoss(
                        f"Loss term {name!r} is {mean}{where} at step {self.step}, within the last"
                        f" {self._since} steps; the last batch was {seen}. The last checkpoint is intact;"
                        " lower the learning rate or look at those images."
                    )
        return means

    def state(self, keys: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(running sums, step and time used), for a checkpoint; every rank calls this.

        The sums become the mean over ranks here and in the running loop alike, so that a resumed run, which
        knows no other, goes on with the same bits.

        Raises:
            NonFiniteLoss: as `record`; nothing that follows a NaN becomes a checkpoint.
        """
        if self._sums:
            self._means(keys)
        for name in self._sums:
            self._sums[name] = self.group.mean(self._sums[name])
        sums = {f"loop/{name}": value for name, value in self._sums.items()}
        used = time.monotonic() - self._started
        return sums, {"step": self.step, "since": self._since, "seconds": used, "terms": list(self._sums)}

    def resume(self, tensors: Mapping[str, torch.Tensor], head: Mapping[str, Any], device: str) -> None:
        """Goes on where `state` was taken; lines of the log after that point are dropped."""
        self.step, self._since = int(head["step"]), int(head["since"])
        self._sums = {name: tensors[f"loop/{name}"].to(device) for name in head["terms"]}
        self._started = time.monotonic() - float(head["seconds"])
        self._last = time.monotonic()
        if self.group.first:
            cut_log(self.folder / LOG, self.step)


def cut_log(path: Path, step: int) -> None:
    """Drops the lines of a log after `step`, and a last line that a crash left unfinished."""
    if not path.exists():
        return
    kept = [line for line in read_log(path) if line["step"] <= step]
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; an unfinished last one is left out."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # torn by a crash
        if isinstance(line, dict) and "step" in line:
            lines.append(line)
    return lines

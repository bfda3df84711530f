"""What a training would do, before it begins: steps, where it stands, bytes, minutes by a few steps in memory."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from v2f_engine import disk
from v2f_engine.errors import DiskFull
from v2f_engine.train.folder import refuse_other
from v2f_engine.train.loop import LOG, Budget, read_log

PROBE_S = 10.0
"""Steps are made for as long, three at most after a first that warms up."""
KEPT = 3
"""Checkpoints that lie there at a time: the newest two, and the next while it is written."""


@dataclass(frozen=True)
class TrainingForecast:
    """What a training would do.

    Args:
        out: its folder.
        images, people: of the data; 0 people where nobody counts them.
        steps: of the budget; None for one of minutes.
        done: steps that the newest line of the log there has.
        batch: images a step.
        bytes, free: about how much checkpoints and weights take at their height, and what is free.
        seconds: expected, of the steps that are left.
        step_seconds: of one step, measured.
        measured: how.
        device, precision: where it computes.
        memory: bytes that this process used at most until now, network and probe included.
    """

    out: Path
    images: int
    people: int
    steps: int | None
    done: int
    batch: int
    bytes: int
    free: int
    seconds: float
    step_seconds: float
    measured: str
    device: str
    precision: str
    memory: int

    def lines(self) -> list[tuple[str, str]]:
        """(name, words) for people."""
        budget = f"{self.steps:,} steps" if self.steps is not None else "by the clock"
        there = f"{self.done:,} steps were made and logged" if self.done else "nothing; the training is new"
        time_ = f"{self.seconds / 60:,.1f} minutes"
        return [
            ("out", str(self.out)),
            ("data", f"{self.images:,} images" + (f" of {self.people:,} people" if self.people else "")),
            ("budget", f"{budget} of {self.batch:,} images"),
            ("there", there),
            ("disk", f"{disk.in_words(self.bytes)} at its height; {disk.in_words(self.free)} are free"),
            ("time", f"{time_}: {self.step_seconds:,.3f} s a step, {self.measured}; validations come on top"),
            ("memory", f"{disk.in_words(self.memory)} until now, the network and the probe included"),
            ("engine", f"{self.device}, {self.precision}"),
        ]


def foresee(
    out: Path,
    settings: Mapping[str, Any],
    kind: str,
    budget: Budget,
    batch: int,
    data: tuple[int, int],
    step: Callable[[int], object],
    state: Callable[[], Mapping[str, torch.Tensor]],
    weights: int,
    *,
    device: str,
    precision: str,
    absent: Mapping[str, Any] | None = None,
) -> TrainingForecast:
    """The forecast of a training whose trainer stands; makes a few of its steps and keeps nothing of them.

    Args:
        settings: what the folder would be opened with, and `absent` (`folder.open_folder`).
        kind: `recogniser`, `generator` or `pose`.
        budget: in steps or minutes.
        data: images, people.
        step: makes the step of that number.
        state: what a checkpoint holds; asked for after the steps, when optimisers have their moments.
        weights: bytes of the weights that are written besides.

    Raises:
        OutputFolderError, DiskFull: as the training would end.
    """
    disk.refuse_unwritable(out)
    refuse_other(out, settings, kind, absent)
    done = _done(out)
    steps = budget.steps
    each, how = timed_steps(step, steps, device)
    checkpoint = sum(value.numel() * value.element_size() for value in state().values())
    size, free = KEPT * checkpoint + weights, disk.free_bytes(out.absolute())
    if size > free:
        raise DiskFull(
            f"{out}: checkpoints and weights take about {disk.in_words(size)} ({size:,} bytes), {disk.in_words(free)} "
            f"({free:,} bytes) are free there. Make room, or give --out on a larger disk."
        )
    left = 60 * (budget.minutes or 0) if steps is None else max(0, steps - done) * each
    return TrainingForecast(
        out, *data, steps, done, batch, size, free, left, each, how, device, precision,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )  # fmt: skip


def timed_steps(step: Callable[[int], object], steps: int | None, device: str) -> tuple[float, str]:
    """(seconds of a step, how that was measured): a few are made and forgotten, the first of them to warm up.

    Args:
        step: makes the step of that number.
        steps: of the budget; None for one of minutes.
    """
    spent: list[float] = []
    began = time.perf_counter()
    for number in range(4 if steps is None else max(1, min(4, steps))):
        started = time.perf_counter()
        step(number)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - started)
        if time.perf_counter() - began > PROBE_S:
            break
    timed = spent[1:] or spent
    return sum(timed) / len(
        timed
    ), f"measured here on {len(timed)} of them{'' if len(spent) > 1 else ', the first'}"


def _done(out: Path) -> int:
    try:
        return max((int(line["step"]) for line in read_log(out / LOG)), default=0)
    except (OSError, json.JSONDecodeError):
        return 0


def bytes_of(module: torch.nn.Module) -> int:
    """Of a network's tensors as they are stored, fp32."""
    return sum(4 * value.numel() for value in module.state_dict().values())

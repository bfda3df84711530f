"""Verification sets during a training: a line of accuracies each time, and the network that was best so far.

out/validation.jsonl               the accuracy of each set and their mean, by step
out/recogniser-best.safetensors    the network of the best mean
out/checkpoints/best/              the newest two that were best: a run that goes on from the checkpoint before the last
                                   knows what was best then

As published: each accuracy rounded to five decimals, their plain mean, and only a higher one takes the place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from v2f_engine.models.iresnet import IResNet
from v2f_engine.train.checkpoint import Checkpoints, read_tensors, write_tensors
from v2f_engine.train.loop import read_log

VALIDATION = "validation.jsonl"
BEST = "recogniser-best.safetensors"


class Validation(Protocol):
    """Sets of pairs that a network is measured on; `evaluate.validation.VerificationSets` is one."""

    def described(self) -> dict[str, Any]:
        """What the sets are, JSON values: a training goes on with the same ones only."""

    def measure(
        self, model: torch.nn.Module, precision: torch.dtype | None
    ) -> Mapping[str, tuple[float, float]]:
        """Set -> (accuracy, deviation over folds), shares; the network is in eval mode."""


class BestNetwork:
    """Measures and keeps; rank 0's.

    Args:
        out: folder of the training.
        validation: the sets.
        precision: of convolutions while measuring, None for fp32.
        say: gets the lines.
    """

    def __init__(
        self, out: Path, validation: Validation, precision: torch.dtype | None, say: Callable[[str], object]
    ) -> None:
        self.out, self.validation, self.precision, self.say = out, validation, precision, say
        self.kept = Checkpoints(out / "checkpoints" / "best", say)
        self.best: tuple[int, float] | None = None

    def resume(self, step: int) -> None:
        """Goes on after `step`: what was best later is forgotten, what was best until then is best again."""
        self.kept.tidy()
        for later in [each for each in self.kept.steps() if each > step]:
            for suffix in (".json", ".safetensors"):
                (self.kept.folder / f"{later:08d}").with_suffix(suffix).unlink(missing_ok=True)
        newest = self.kept.newest()
        if newest is None:
            self.best = None
            (self.out / BEST).unlink(missing_ok=True)
            return
        tensors, head = self.kept.load(newest)
        self.best = newest, float(head["training"]["mean"])
        write_tensors(self.out / BEST, tensors, head)

    def lacks(self, step: int) -> bool:
        """Whether no line tells of `step`: the run ended between its checkpoint and its validation."""
        path = self.out / VALIDATION
        return not path.exists() or not any(
            line["step"] == step and "mean" in line for line in read_log(path)
        )

    def measure(self, step: int, model: IResNet, head: Mapping[str, Any]) -> None:
        """One validation of `model`; `head` goes into the file of a network that is kept."""
        training = model.training
        found = self.validation.measure(model.eval(), self.precision)
        model.train(training)
        rounded = {name: round(accuracy, 5) for name, (accuracy, _) in found.items()}
        mean = sum(rounded.values()) / len(rounded)
        better = self.best is None or mean > self.best[1]
        if better:
            self.best = step, mean
            told = {**head, "training": {**head["training"], "step": step, "mean": mean, "sets": rounded}}
            self.kept.save(step, model.state_dict(), told)
            self.kept.wait()
            write_tensors(self.out / BEST, model.state_dict(), told)
        assert self.best is not None
        line = {
            "step": step,
            **rounded,
            "mean": round(mean, 6),
            "deviations": {name: round(deviation, 5) for name, (_, deviation) in found.items()},
            "best": {"step": self.best[0], "mean": round(self.best[1], 6)},
        }
        with open(self.out / VALIDATION, "a") as log:
            log.write(json.dumps(line) + "\n")
        each = "  ".join(
            f"{name} {100 * value:.3f} ± {100 * found[name][1]:.3f}" for name, value in rounded.items()
        )
        best = f"best {100 * self.best[1]:.3f} % at step {self.best[0]}"
        self.say(f"validated: {each}  mean {100 * mean:.3f} %, {best}")


def stored(out: Path) -> tuple[int, float]:
    """(step, mean) of `recogniser-best.safetensors` in a training's folder. Raises CheckpointError."""
    _, head = read_tensors(out / BEST)
    return int(head["training"]["step"]), float(head["training"]["mean"])

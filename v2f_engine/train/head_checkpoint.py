"""A divided head's checkpoints: which steps are whole on all ranks, and a part of the classes from any division."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from v2f_engine.errors import CheckpointError
from v2f_engine.train.checkpoint import Checkpoints, read_tensors
from v2f_engine.train.head import shard_of


def whole_steps(folder: Path, say: Callable[[str], object]) -> list[int]:
    """Steps, ascending, of which the network and every rank's part of the head are whole.

    Raises:
        CheckpointError: there are checkpoints, but no step is whole.
    """
    main = Checkpoints(folder, say)
    steps = main.steps()
    whole = []
    for step in steps:
        faults = [main.fault(step)]
        if faults == [None]:
            world = int(json.loads((folder / f"{step:08d}.json").read_text()).get("world", 1))
            faults = [
                Checkpoints(folder / "heads" / f"{rank}-of-{world}", say).fault(step) for rank in range(world)
            ]
        found = [fault for fault in faults if fault is not None]
        if found:
            say(f"checkpoint of step {step} is not whole ({found[0]})")
        else:
            whole.append(step)
    if steps and not whole:
        raise CheckpointError(
            f"{folder}: none of the checkpoints of steps {steps} is whole. Restore one, or remove the folder to "
            "begin anew."
        )
    return whole


def read_head(
    folder: Path, step: int, world: int, classes: int, wanted: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """The state of classes [first, last) of a head that `world` ranks wrote.

    Raises:
        CheckpointError: a part is missing, or the head has another number of classes.
    """
    first, last = wanted
    parts: dict[str, list[torch.Tensor]] = {}
    for rank in range(world):
        start, stop = shard_of(classes, rank, world)
        if stop <= first or start >= last:
            continue
        tensors, head = read_tensors(folder / "heads" / f"{rank}-of-{world}" / f"{step:08d}.safetensors")
        if head.get("classes") != classes:
            raise CheckpointError(
                f"{folder}: the checkpoint's head has {head.get('classes')} classes, the data {classes}. Resume with "
                "the data it was trained on, or start from its weights (start_from)."
            )
        for name, value in tensors.items():
            rows = value[max(first, start) - start : min(last, stop) - start] if value.ndim else value
            parts.setdefault(name, []).append(rows)
    return {name: torch.cat(found) if found[0].ndim else found[0] for name, found in parts.items()}

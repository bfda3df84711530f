"""Work of the stages that measure training: rungs, shares, and where a step's device time goes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import torch

from bench.gpu.job import Context
from bench.kernels import kernel_parts
from bench.training import recogniser_rungs, rungs
from bench.training import shares as parts
from bench.training.setup import sized

PLAIN = "4 bf16"
WARM_IMAGES = 2


def size(context: Context) -> str:
    return "tiny" if context.rehearsal else "base"


def losses(context: Context, batch: int) -> tuple[dict[str, float], str]:
    """(what first losses are judged by, in words whose they are), from the scratch folder, where the first process to
    need them puts them: the corrected fp32 step's, or plain bf16's where fp32 does not fit the card."""
    path = context.folder / f"losses-{batch}.json"
    if not path.exists():
        try:
            made, words = rungs.oracle(size(context), context.device, batch), ""
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            plain = rungs.trainer_of(rungs.rung_named(PLAIN), sized(size(context), batch), context.device)
            with rungs.opened(plain) as trainer:
                made = rungs.first_losses(trainer)
            words = f"; judged by the losses of {PLAIN}: fp32 does not fit the card at batch {batch}"
        temporary = Path(f"{path}.{os.getpid()}")
        temporary.write_text(json.dumps([made, words]))
        temporary.rename(path)
    expected, words = json.loads(path.read_text())
    return expected, words


def oracle(context: Context, batch: int) -> None:
    """Makes the losses that rungs are judged by."""
    losses(context, batch)


def warm(context: Context) -> None:
    """Compiles what a step with our kernels needs; writes nothing. Triton's kernels do not depend on the batch."""
    ours = rungs.rung_named("5 our kernels")
    with rungs.opened(rungs.trainer_of(ours, sized(size(context), WARM_IMAGES), context.device)) as trainer:
        trainer.step(0, rungs.LATE)


def rung(context: Context, name: str, batch: int) -> None:
    """One rung, judged and timed."""
    expected, words = losses(context, batch)
    try:
        row = rungs.run_rung(
            name, size(context), context.device, batch, 1 if context.rehearsal else 5, min(3.0, context.left_s / 2),
            expected=expected,
        )  # fmt: skip
    except torch.OutOfMemoryError as error:
        context.note(f"training rung {name}: batch {batch} does not fit the card: {str(error)[:200]}")
        return
    context.row(replace(row, check=row.check + words))


def shares(context: Context, batch: int) -> None:
    """What each part of the step costs."""
    rounds = 1 if context.rehearsal else 3
    for row in parts.shares(size(context), context.device, batch, rounds=rounds, budget_s=context.left_s / 4):
        context.row(row)


def kernels(context: Context, batch: int) -> None:
    """Device time of one step of the quickest rung: by part, then kernel by kernel."""
    found = parts.step_profile(size(context), context.device, batch)
    rung = parts.quickest(context.device).name
    work = _work(context, batch)
    for row in kernel_parts.rows("a training step", f"{rung}, batch {batch}", found, batch, work):
        context.row(row)


def recogniser(context: Context) -> None:
    """A recogniser's step by rungs."""
    small = context.rehearsal
    _, notes = recogniser_rungs.run(
        "tiny" if small else "published", context.device, rounds=1 if small else 5,
        budget_s=min(8.0, context.left_s / 2), on_row=context.row,
    )  # fmt: skip
    for note in notes:
        context.note(note)


def _work(context: Context, batch: int, counted: int = 2) -> dict[str, kernel_parts.Work]:
    """FLOP of a step, counted on plain torch ops with few images: they grow with the batch."""
    plain = rungs.rung_named(PLAIN)
    with rungs.opened(rungs.trainer_of(plain, sized(size(context), counted), context.device)) as trainer:
        with kernel_parts.flop_counter() as counter:
            trainer.step(0, rungs.LATE)
        flop = kernel_parts.flop_by_part(counter)
    return {part: kernel_parts.Work(flop=value * batch / counted) for part, value in flop.items()}

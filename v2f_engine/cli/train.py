"""`v2f train`: recogniser and generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(help="Train a recogniser or a generator.", no_args_is_help=True)

Steps = Annotated[Optional[int], typer.Option(help="budget in steps (reproducible)")]  # noqa: UP045
Minutes = Annotated[Optional[float], typer.Option(help="budget in minutes (the schedule follows the clock)")]  # noqa: UP045
Data = Annotated[Path, typer.Argument(help="a dataset of aligned faces, any format `v2f render` writes")]


@app.command()
def recogniser(
    data: Data,
    out: Annotated[Path, typer.Option(help="folder of checkpoint and weights; the same command resumes")] = Path(
        "runs/recogniser"
    ),
    steps: Steps = None,
    minutes: Minutes = None,
    batch: int = 64,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train the embedded size of recogniser with margin softmax."""
    from v2f_engine.train.loop import Budget
    from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser
    from v2f_engine.train.training_set import open_training_set

    budget = Budget(steps=steps, minutes=minutes) if steps or minutes else Budget(steps=3000)
    settings = RecogniserTraining(out=out, budget=budget, batch=batch, seed=seed, device=device)
    train_recogniser(open_training_set(data), settings)
    typer.echo(f"{out / 'recogniser.safetensors'}")

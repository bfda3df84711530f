"""`v2f train`: recogniser and generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train a recogniser or a generator.", no_args_is_help=True)

Steps = Annotated[int | None, typer.Option(help="budget in steps (reproducible)")]
Minutes = Annotated[float | None, typer.Option(help="budget in minutes (the schedule follows the clock)")]
Data = Annotated[Path, typer.Argument(help="a dataset of aligned faces, any format `v2f render` writes")]


@app.command()
def recogniser(
    data: Data,
    out: Annotated[
        Path, typer.Option(help="folder of checkpoint and weights; the same command resumes")
    ] = Path("runs/recogniser"),
    steps: Steps = None,
    minutes: Minutes = None,
    batch: int = 64,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train the embedded size of recogniser with margin softmax."""
    from v2f_engine.data.training_set import MemorySet, open_training_set
    from v2f_engine.train.loop import Budget
    from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser

    budget = Budget(steps=steps, minutes=minutes) if steps or minutes else Budget(steps=3000)
    settings = RecogniserTraining(out=out, budget=budget, batch=batch, seed=seed, device=device)
    train_recogniser(MemorySet.load(open_training_set(data, with_features=False)), settings)
    typer.echo(f"{out / 'recogniser.safetensors'}")


@app.command()
def generator(
    data: Data,
    recogniser: Annotated[
        str, typer.Option(help="frozen feature extractor: mini, or a path to weights")
    ] = "mini",
    features: Annotated[
        Path | None, typer.Option(help=".npy of stored features; extracted when absent")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of checkpoint, sample grids and weights")] = Path(
        "runs/generator"
    ),
    preset: Annotated[
        str, typer.Option(help="loss weights: rendered, published-2024, published-2025, plus")
    ] = "rendered",
    size: Annotated[str, typer.Option(help="mini, base, large, huge")] = "mini",
    steps: Steps = None,
    minutes: Minutes = None,
    batch: int = 16,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train a Vec2Face on images and the features of them."""
    from dataclasses import replace

    import numpy as np

    from v2f_engine.config import one_of
    from v2f_engine.data.training_set import MemorySet, open_training_set
    from v2f_engine.models.features import extract_features
    from v2f_engine.models.vec2face import Vec2FaceConfig
    from v2f_engine.models.weights import load_recogniser
    from v2f_engine.train.generator import GeneratorTraining, train_generator
    from v2f_engine.train.loop import Budget
    from v2f_engine.vectors.npy import open_vectors

    one_of("size", size, ("mini", "base", "large", "huge"))
    budget = Budget(steps=steps, minutes=minutes) if steps or minutes else Budget(steps=20_000)
    reader = load_recogniser(recogniser).model
    images = MemorySet.load(open_training_set(data, with_features=False))
    stored = (
        np.asarray(open_vectors(features), np.float32)
        if features is not None
        else extract_features(reader.to(device), images.images)
    )
    settings = GeneratorTraining(
        out=out,
        model=getattr(Vec2FaceConfig, size)(),
        preset=preset,
        budget=budget,
        batch=batch,
        seed=seed,
        device=device,
    )
    train_generator(replace(images, features=stored), reader, settings)
    typer.echo(f"{out / 'generator.safetensors'}")

"""`v2f train`: recogniser and generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Train a recogniser or a generator.", no_args_is_help=True)

IN_MEMORY = 53_000
"""Images that are read once and held: 2 GB."""

Steps = Annotated[int | None, typer.Option(help="budget in steps (reproducible)")]
Minutes = Annotated[float | None, typer.Option(help="budget in minutes (the schedule follows the clock)")]
Data = Annotated[Path, typer.Argument(help="a dataset of aligned faces, any format `v2f render` writes")]


@app.command()
def recogniser(
    data: Data,
    recipe: Annotated[
        str,
        typer.Option(help="rendered (the embedded size), published, published-cosface, published-adaface"),
    ] = "rendered",
    mask: Annotated[Path | None, typer.Option(help=".npy of row numbers to use")] = None,
    on_bad: Annotated[
        str, typer.Option(help="a row that cannot be used: refuse (stop, name it) or skip (replace, note it)")
    ] = "refuse",
    held_out: Annotated[
        Path | None, typer.Option(help="a set of other people, whose equal error rate is measured")
    ] = None,
    held_out_people: Annotated[
        int, typer.Option(help="instead: keep the last so many people of the data apart")
    ] = 0,
    out: Annotated[
        Path, typer.Option(help="folder of checkpoints and weights; the same command resumes")
    ] = Path("runs/recogniser"),
    depth: Annotated[
        str | None, typer.Option(help="iresnet18, 34, 50, 100 or 200; the recipe's network by default")
    ] = None,
    se: Annotated[bool, typer.Option("--se", help="with --depth: squeeze-excitation, as published")] = False,
    margin: Annotated[str | None, typer.Option(help="arcface, cosface or adaface")] = None,
    m: Annotated[float | None, typer.Option(help="the margin")] = None,
    sample_rate: Annotated[
        float | None, typer.Option(help="share of the other classes that a step compares with")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="budget in passes over the data")] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Annotated[int | None, typer.Option(help="images a step, of all ranks together")] = None,
    lr: Annotated[float | None, typer.Option(help="learning rate; not scaled by the batch")] = None,
    threads: Annotated[int, typer.Option(help="that decode and augment, on each rank")] = 1,
    in_memory: Annotated[
        bool | None, typer.Option(help="read all images once (37.6 KB each); by default below 2 GB")
    ] = None,
    fp32: Annotated[bool, typer.Option("--fp32", help="no bfloat16")] = False,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 500,
    start_from: Annotated[
        Path | None, typer.Option(help="weights of an earlier training to go on from")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="the recipe's by default")] = None,
    device: str = "cpu",
) -> None:
    """Train a recogniser with margin softmax; several ranks: `torchrun ... -m v2f_engine train recogniser ...`."""
    from v2f_engine.data.training.memory_set import MemorySet
    from v2f_engine.data.training.training_set import open_training_set
    from v2f_engine.models.iresnet import IResNetConfig
    from v2f_engine.train.distributed import joined
    from v2f_engine.train.held_out import hold_out
    from v2f_engine.train.loop import Budget
    from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser

    changes: dict[str, Any] = {
        "threads": threads, "bf16": not fp32, "checkpoint_every": checkpoint_every, "start_from": start_from,
        "device": device,
    }  # fmt: skip
    if depth is not None:
        changes["model"] = IResNetConfig.named(depth, se=se)
    if epochs or steps or minutes:
        changes["budget"] = Budget(steps=steps, minutes=minutes, epochs=epochs)
    stated = {"margin": margin, "m": m, "sample_rate": sample_rate, "batch": batch, "lr": lr, "seed": seed}
    changes |= {name: value for name, value in stated.items() if value is not None}
    settings = RecogniserTraining.named(recipe, out, **changes)
    with joined(settings.device) as group:
        people: Any = open_training_set(
            data, None, mask, on_bad=on_bad, with_features=False, with_landmarks=False
        )
        if in_memory if in_memory is not None else len(people) <= IN_MEMORY:
            people = MemorySet.load(people)
        others: Any = None
        if held_out is not None:
            others = open_training_set(held_out, on_bad=on_bad, with_features=False, with_landmarks=False)
        elif held_out_people:
            people, others = hold_out(people, held_out_people)
        train_recogniser(people, settings, others, group=group)
        if group.first:
            typer.echo(f"{out / 'recogniser.safetensors'}")


@app.command()
def generator(
    data: Annotated[
        Path,
        typer.Argument(help="aligned faces: an LMDB in the published layout, or any format with features"),
    ],
    preset: Annotated[
        str, typer.Option(help="recipe: rendered, published-2024, published-2025, plus")
    ] = "rendered",
    recogniser: Annotated[
        str, typer.Option(help="the frozen network that made the features: mini, a name, or a path")
    ] = "mini",
    features: Annotated[
        Path | None, typer.Option(help=".npy of features; extracted now where there are none")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help=".npy of row numbers to use: the published index mask")
    ] = None,
    on_bad: Annotated[
        str, typer.Option(help="a row that cannot be used: refuse (stop, name it) or skip (replace, note it)")
    ] = "refuse",
    held_out: Annotated[
        Path | None, typer.Option(help="a set of other people, for validation and sample grids")
    ] = None,
    held_out_people: Annotated[
        int, typer.Option(help="instead: keep the last so many people of the data apart (reads all labels)")
    ] = 0,
    vgg: Annotated[
        Path | None, typer.Option(help="LPIPS weights: a file or folder with VGG16 and the linear layers")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="folder of checkpoints, curves and weights; the same command resumes")
    ] = Path("runs/generator"),
    size: Annotated[str | None, typer.Option(help="mini, base, large, huge; the recipe's by default")] = None,
    epochs: Annotated[float | None, typer.Option(help="budget in passes over the data")] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Annotated[int | None, typer.Option(help="images a step, of all ranks together")] = None,
    base_lr: Annotated[
        float | None,
        typer.Option(help="the rate is this x batch / 112, as published; 4e-5 for 100 epochs of 1 M"),
    ] = None,
    critic_width: Annotated[int | None, typer.Option(help="channels of the discriminator's stem")] = None,
    accumulate: Annotated[int, typer.Option(help="parts that a rank computes its share in")] = 1,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="repeat the published code's faults, for comparison")
    ] = False,
    stepping: Annotated[str, typer.Option(help="eager, compiled, or graph (one GPU, no dropout)")] = "eager",
    dropout: Annotated[float | None, typer.Option(help="of the transformer; 0.1 as published")] = None,
    fp32: Annotated[bool, typer.Option("--fp32", help="no bfloat16")] = False,
    checkpoint_every: Annotated[int, typer.Option(help="steps")] = 200,
    watch_every: Annotated[int, typer.Option(help="steps between validations")] = 1000,
    log_every: Annotated[int, typer.Option(help="steps between lines of the log")] = 50,
    start_from: Annotated[
        Path | None, typer.Option(help="weights of an earlier training to go on from")
    ] = None,
    seed: int = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda; under torchrun one GPU a rank")] = "auto",
) -> None:
    """Train a Vec2Face; several GPUs: `torchrun --nproc-per-node 8 -m v2f_engine train generator ...`."""
    from dataclasses import replace

    from v2f_engine.backends import choose
    from v2f_engine.config import one_of
    from v2f_engine.models.vec2face import Vec2FaceConfig
    from v2f_engine.models.weights import load_recogniser
    from v2f_engine.train.distributed import joined
    from v2f_engine.train.generator import AsPublished, GeneratorTraining, train_generator
    from v2f_engine.train.held_out import hold_out
    from v2f_engine.train.loop import Budget

    changes: dict[str, Any] = {
        "accumulate": accumulate, "vgg": vgg, "stepping": stepping, "bf16": not fp32, "seed": seed,
        "checkpoint_every": checkpoint_every, "picture_every": watch_every, "log_every": log_every,
        "start_from": start_from, "device": choose(device).device.partition(":")[0] if device == "auto" else device,
    }  # fmt: skip
    if size is not None:
        changes["model"] = getattr(Vec2FaceConfig, one_of("size", size, ("mini", "base", "large", "huge")))()
    if epochs or steps or minutes:
        changes["budget"] = Budget(steps=steps, minutes=minutes, epochs=epochs)
    stated = {"batch": batch, "base_lr": base_lr, "critic_width": critic_width}
    changes |= {name: value for name, value in stated.items() if value is not None}
    if as_published:
        changes["as_published"] = AsPublished.all()
    settings = GeneratorTraining.named(preset, out, **changes)
    if dropout is not None:
        settings = replace(settings, model=replace(settings.model, dropout=dropout))
    reader = load_recogniser(recogniser).model
    with joined(settings.device) as group:
        reader.to(group.device)
        images = _with_features(data, features, mask, on_bad, reader)
        others = None if held_out is None else _with_features(held_out, None, None, on_bad, reader)
        if held_out_people:
            images, others = hold_out(images, held_out_people)
        if others is None and group.first:
            typer.echo(
                "no held-out people: nothing will be validated (--held-out, --held-out-people)", err=True
            )
        train_generator(images, reader, settings, others, group=group)
        if group.first:
            typer.echo(f"{out / 'generator.safetensors'}")


def _with_features(data: Path, features: Path | None, mask: Path | None, on_bad: str, reader: Any) -> Any:
    """A training set with features: its own, those of a file, or extracted now into memory."""
    from dataclasses import replace

    from v2f_engine.data.training.memory_set import MemorySet
    from v2f_engine.data.training.training_set import open_training_set
    from v2f_engine.models.features import extract_features

    stored = open_training_set(data, features, mask, on_bad=on_bad)
    if stored.feature_dim is not None:
        return stored
    images = MemorySet.load(stored)
    return replace(images, features=extract_features(reader, images.images))

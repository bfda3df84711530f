"""`v2f train estimator` and `v2f train pose`: what attribute control and the pose model learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import Minutes, Split, Steps
from v2f_engine.cli.outputs import Overwrite, claimed, would_write
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say
from v2f_engine.cli.train import trained

IMAGES, PROCESSES = 16, 2
"""Of a person that is rendered for an estimator, and at a time."""


def estimator(
    name: Annotated[str, typer.Argument(help="pose or quality")],
    data: Annotated[Path | None, typer.Argument(help="people of `v2f render`; rendered now without")] = None,
    out: Annotated[Path | None, typer.Option(help="file of the weights")] = None,
    judge: Annotated[
        bool, typer.Option("--judge", help="another shape, to judge with: train it on other people")
    ] = False,
    people: Annotated[int, typer.Option(help="to render, where no data is given")] = 500,
    render_seed: Annotated[int, typer.Option(help="of those people")] = 101,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Annotated[int, typer.Option(help="images a step")] = 64,
    fp32: Annotated[bool, typer.Option("--fp32", help="no bfloat16")] = False,
    seed: Annotated[int, typer.Option(help="decides every draw and every order")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda; under torchrun one GPU a rank")] = "cpu",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Train an estimator on rendered people, whose pose and blur are known exactly."""
    from v2f_engine.config import one_of
    from v2f_engine.models.file_hash import file_sha256
    from v2f_engine.train.estimators import (
        JUDGES,
        LABELS,
        RECIPES,
        EstimatorTraining,
        foresee_estimator,
        probe_rendering,
        read_labelled,
        render_labelled,
        train_estimator,
    )
    from v2f_engine.train.loop import Budget

    one_of("estimator", name, RECIPES)
    out = out or Path(f"runs/{name}.safetensors")
    labels = tuple(LABELS[output] for output in RECIPES[name].outputs)
    budget = Budget(steps=steps, minutes=minutes) if steps or minutes else Budget(steps=3000)
    settings = EstimatorTraining(
        out,
        name,
        JUDGES[name] if judge else None,
        budget,
        batch,
        seed=seed,
        bf16=not fp32,
        device=device,
    )
    if dry_run:
        from v2f_engine.data.writing.room import span

        lines = would_write(overwrite, out, endings=(".safetensors",))
        rendering = 0.0
        if data is None:
            faces, rate = probe_rendering(render_seed)
            rendering = people * IMAGES / (rate * PROCESSES)
            told = f"{people:,} people of {IMAGES} images, rendered first: {span(rendering)} by {PROCESSES} processes"
        else:
            faces = read_labelled(data, labels)
            told = f"{len(faces):,} images of {data}"
        each, how = foresee_estimator(faces, settings)
        seconds = 60 * (budget.minutes or 0) if budget.steps is None else budget.steps * each
        length = f"{budget.minutes:g} minutes" if budget.steps is None else f"{budget.steps:,} steps"
        say_plan(
            [*lines, ("data", told), ("budget", f"{length} of {batch:,} images"),
             ("time", f"{span(seconds + rendering)}: {each:,.3f} s a step, {how}")],
            out=out, steps=budget.steps, minutes=budget.minutes, seconds=seconds + rendering, step_seconds=each,
        )  # fmt: skip
        return
    with claimed(overwrite, out, endings=(".safetensors",)):
        if data is None:
            with progress_bar("render", "images") as progress:
                faces = render_labelled(render_seed, people, IMAGES, PROCESSES, progress)
        else:
            faces = read_labelled(data, labels)
        train_estimator(faces, settings)
        result(out=settings.out, weights=settings.out, estimator=name, sha256=file_sha256(settings.out))
    say(f"{settings.out}")


def pose(
    data: Annotated[
        Path,
        typer.Argument(help="LMDB with landmark pictures (published layout), or people of `v2f render`"),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            help="rendered (ours, few steps), or published (Vec2Face+ to the letter: 10 epochs, 64 images a GPU, fp32,"
            " LoRA decays, LPIPS), which needs --vgg"
        ),
    ] = "rendered",
    model: Annotated[
        str, typer.Option(help="the generator to steer: mini, vec2face-plus, or a path")
    ] = "mini",
    recogniser: Annotated[str, typer.Option(help="made the generator's features")] = "mini",
    vgg: Annotated[Path | None, typer.Option(help="LPIPS weights: VGG16 and the linear layers")] = None,
    out: Annotated[Path, typer.Option(help="folder of the log and of pose.safetensors")] = Path("runs/pose"),
    epochs: Annotated[float | None, typer.Option(help="budget in epochs; 10 as published")] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Annotated[int | None, typer.Option(help="images a step, of all ranks; 16 by rendered")] = None,
    batch_per_gpu: Annotated[
        int | None, typer.Option(help="instead of --batch: images of a rank; 64 as published")
    ] = None,
    lr: Annotated[float, typer.Option(help="1e-4 as published")] = 1e-4,
    fp32: Annotated[bool, typer.Option("--fp32", help="no bfloat16")] = False,
    on_bad: Annotated[
        str,
        typer.Option(help="rows that cannot be used: refuse, or skip (replaced and noted in bad_rows.json)"),
    ] = "refuse",
    limit: Annotated[int | None, typer.Option(help="use no more images than this")] = None,
    split: Split = None,
    seed: Annotated[int, typer.Option(help="decides every draw and every order")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda; under torchrun one GPU a rank")] = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Train the pose model of Vec2Face+; several ranks: `torchrun ... -m v2f_engine train pose ...`.

    Images are read as the steps need them: memory does not grow with the set.
    """
    from v2f_engine.disk import refuse_unwritable
    from v2f_engine.models.iresnet import as_rgb
    from v2f_engine.models.weights import load_generator, load_recogniser
    from v2f_engine.train.distributed import joined
    from v2f_engine.train.loop import Budget
    from v2f_engine.train.pose import PoseTraining, foresee_pose, train_pose
    from v2f_engine.train.pose_data import read_pose_data

    changes: dict[str, Any] = {"lr": lr, "vgg": vgg, "seed": seed}
    stated = {"batch": batch, "batch_per_gpu": batch_per_gpu}
    changes |= {name: value for name, value in stated.items() if value is not None}
    changes |= {"bf16": False} if fp32 else {}
    if any(value is not None for value in (steps, minutes, epochs)):
        changes["budget"] = Budget(steps=steps, minutes=minutes, epochs=epochs)
    settings = PoseTraining.named(recipe, out, **changes)
    settings.require_vgg()
    refuse_unwritable(out)
    reader = as_rgb(load_recogniser(recogniser).model)
    with joined(device) as group:
        faces = read_pose_data(data, reader.to(group.device), limit, split, on_bad)
        if dry_run:
            seen = foresee_pose(faces, load_generator(model).model, reader, settings, group)
            if group.first:
                say_plan(seen.lines(), **vars(seen))
            return
        train_pose(faces, load_generator(model).model, reader, settings, group)
        if group.first:
            result(**trained(out, out / "pose.safetensors"))
            say(f"{out / 'pose.safetensors'}")

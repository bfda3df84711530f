"""`v2f generate`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2f_engine.cli.calibration import Known, Rate, calibrated
from v2f_engine.cli.progress import progress_bar
from v2f_engine.ranges import recorded, stage

if TYPE_CHECKING:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.pipeline.makers.posed import PoseCondition


def numbers(text: str, what: str) -> tuple[float, ...]:
    """`0.3,0.5,0.7` as floats; ConfigError where it is not such a list."""
    from v2f_engine.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{what}: expected numbers separated by commas, found {text!r}.") from error


def _control(
    goals: dict[str, str], own: list[str], use: str, iterations: int, signed: bool, pose: Path | None
) -> AttributeControl | None:
    """Attribute control as the options say; None where no option asks for any."""
    if not goals and not own:
        return None
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.attributes.from_file import attribute_from_file
    from v2f_engine.attributes.goals import Goal

    made, wanted = [], {name: Goal.of(goal, f"--{name}") for name, goal in goals.items()}
    for told in own:
        place, _, goal = told.partition("=")
        made.append(attribute_from_file(place))
        if goal:
            wanted[made[-1].name] = Goal.of(goal, f"--attribute {place}")
    return AttributeControl(
        wanted,
        tuple(made),
        use=use,
        iterations=iterations,
        signed=signed,
        pose=pose,
    )


def pairs(texts: list[str], what: str) -> dict[str, str | int]:
    """`["minutes=60"]` as `{"minutes": 60}`; ConfigError where it is not such a list."""
    from v2f_engine.errors import ConfigError

    table: dict[str, str | int] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.isidentifier() and equals):
            raise ConfigError(f"{what}: expected KEY=VALUE, found {text!r}.")
        table[key] = int(value) if value.lstrip("-").isdigit() else value
    return table


def _condition(goals: dict[str, str], folder: Path | None) -> PoseCondition:
    from v2f_engine.pipeline.makers.posed import PoseCondition, landmark_files

    return PoseCondition(goals, () if folder is None else landmark_files(folder))


def generate(
    ids: Annotated[int | None, typer.Option(help="identities to sample")] = None,
    images: Annotated[int, typer.Option(help="images of each identity")] = 50,
    out: Annotated[Path, typer.Option(help="folder of the dataset; the same command resumes")] = Path(
        "faces"
    ),
    model: Annotated[str, typer.Option(help="mini, vec2face, vec2face-plus, or a path to weights")] = "mini",
    format: Annotated[
        str, typer.Option(help="imagefolder, webdataset, lmdb, recordio, parquet or null")
    ] = "imagefolder",
    vectors: Annotated[
        Path | None, typer.Option(help="identity vectors to use: .npy [N,512] or a table of `v2f ids sample`")
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="folder or dataset of aligned faces whose features are the identities")
    ] = None,
    recogniser: Annotated[
        str, typer.Option(help="extracts the features of --references and --calibration")
    ] = "mini",
    source: Annotated[
        str, typer.Option(help="auto (the model's own statistics), gaussian, or a file")
    ] = "auto",
    max_cosine: Annotated[
        float | None,
        typer.Option(help="no two identities are as similar as this; the model's own limit by default"),
    ] = None,
    fmr: Rate = None,
    calibration: Known = None,
    exclude: Annotated[
        Path | None, typer.Option(help=".npy of real people's features to stay away from")
    ] = None,
    sigma: Annotated[str, typer.Option(help="noise levels around an identity")] = "0.3,0.5,0.7",
    sigma_weights: Annotated[str, typer.Option(help="how often each level is drawn")] = "0.4,0.4,0.2",
    target_cosine: Annotated[
        str | None, typer.Option(help="levels as cosine to the identity instead of sigma, e.g. 0.9,0.8")
    ] = None,
    masks: Annotated[
        str, typer.Option(help="mask schedule: generate, demo, train, plus-generate")
    ] = "generate",
    seed: Annotated[int, typer.Option(help="decides every vector, mask and image")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16")] = "auto",
    runner: Annotated[
        str, typer.Option(help="what decodes: auto (cuda_graph on a GPU, eager on a CPU), or a runner's name")
    ] = "auto",
    yaw: Annotated[
        str | None,
        typer.Option(help="degrees: a number, a range -60:60, or a list -45,0,45; + is image right"),
    ] = None,
    pitch: Annotated[str | None, typer.Option(help="degrees, as --yaw; + looks down")] = None,
    quality: Annotated[
        str | None, typer.Option(help="points at least, as --yaw: feature norm, 22 to 30 (24 is good)")
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="file.py:Name, an attribute of your own; file.py:Name=GOAL sets its goal"),
    ] = None,
    steer: Annotated[
        str, typer.Option(help="images (each one), identities (refine each vector once), or both")
    ] = "images",
    iterations: Annotated[int, typer.Option(help="bound of the steering of one image")] = 40,
    unsigned: Annotated[bool, typer.Option(help="leave left and right open, as published")] = False,
    pose_model: Annotated[
        Path | None, typer.Option(help="another pose estimator: its file, or 6DRepNet weights")
    ] = None,
    by: Annotated[
        str, typer.Option(help="steering, or pose-model (a Vec2Face+ model with a pose network)")
    ] = "steering",
    landmarks: Annotated[
        Path | None, typer.Option(help="folder of landmark pictures for --by pose-model, instead of --yaw")
    ] = None,
    jpeg_quality: Annotated[int, typer.Option(help="of the files, 1..100")] = 95,
    images_per_shard: Annotated[int | None, typer.Option(help="unit of commit and resume")] = None,
    fetch: Annotated[bool, typer.Option(help="let huggingface_hub download published weights")] = False,
    compute_batch: Annotated[
        int | None,
        typer.Option(help="rows of every decoding call; decides the last bits; 16 on a CPU, 256 on a GPU"),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="auto, inline (this process), local, ray, slurm; changes no byte")
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="processes at a time; one per device by default")
    ] = None,
    executor_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the executor, e.g. partition=gpu; repeatable")
    ] = None,
) -> None:
    """Generate a face dataset of people who do not exist."""
    with recorded() as imported, stage("import"):
        from v2f_engine import pipeline
        from v2f_engine.config import one_of
        from v2f_engine.vectors.perturbation import Perturbation

    levels = numbers(sigma, "--sigma")
    weights = numbers(sigma_weights, "--sigma-weights")
    perturbation = (
        Perturbation(levels, weights)
        if target_cosine is None
        else Perturbation.target_cosine(*numbers(target_cosine, "--target-cosine"))
    )
    one_of("by", by, ("steering", "pose-model"))
    goals = {n: g for n, g in (("yaw", yaw), ("pitch", pitch), ("quality", quality)) if g is not None}
    control = (
        _condition(goals, landmarks)
        if by == "pose-model"
        else _control(goals, attribute or [], steer, iterations, not unsigned, pose_model)
    )
    known = calibrated(max_cosine, fmr, calibration, recogniser)
    table = pipeline.identities_from(vectors, references, recogniser)
    with progress_bar("generate", "images") as progress:
        report = pipeline.generate(
            ids if table is not None or ids is not None else 100,
            images,
            out,
            model=model,
            format=format,
            identities=table,
            source=source,
            max_cosine=max_cosine,
            calibration=known,
            exclude=exclude,
            perturbation=perturbation,
            seed=seed,
            device=device,
            precision=precision,
            masks=masks,
            runner=runner,
            jpeg_quality=jpeg_quality,
            attributes=control,
            images_per_shard=images_per_shard,
            fetch=fetch,
            compute_batch=compute_batch,
            executor=executor,
            workers=workers,
            executor_options=pairs(executor_option or [], "--executor-option"),
            progress=progress,
            notify=progress.say,
        )
    typer.echo(
        f"{report.identities} identities, {report.images} images in {report.out} "
        f"({report.written} written now, {report.seconds:.1f} s, {report.images_per_second:.1f} images/s)"
    )
    for line in report.start_up.lines(before=imported.seconds["import"]):
        typer.echo(line)
    if report.self_test != "not measured":
        typer.echo(f"kernels        {report.self_test}")
    if report.failed:
        typer.echo(
            f"FAILED         {report.failed} images came out constant twice; see the attribute 'failed'"
        )
    if report.manifest is not None:
        typer.echo(f"contact sheet  {report.contact_sheet}")
        typer.echo(f"manifest       {report.manifest}")

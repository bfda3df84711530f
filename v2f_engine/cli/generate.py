"""`v2f generate`: the main job."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2f_engine.cli import replay
from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import (
    EngineFlags,
    Exclude,
    Format,
    Mix,
    NoiseFlags,
    RateFlags,
    Rescale,
    Source,
    grouped,
)
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, result, say
from v2f_engine.cli.steering import SteeringFlags
from v2f_engine.ranges import recorded, stage

if TYPE_CHECKING:
    from v2f_engine.options import IdentityOptions, OutputOptions, WorkerOptions
    from v2f_engine.pipeline.selected import ChoiceOptions


@dataclass(frozen=True)
class IdentityFlags:
    """`options.IdentityOptions` as typed."""

    n_ids: Annotated[int | None, typer.Option("--ids", help="identities to sample")] = None
    identities: Annotated[
        Path | None,
        typer.Option(
            "--vectors",
            help="identity vectors to use: a table of `v2f ids sample`, or a file of [N,512] (.npy, .npz, .pt, ...)",
        ),
    ] = None
    references: Annotated[
        Path | None,
        typer.Option(
            help="aligned faces whose features are the identities: a picture, or a folder or list of them, is one a "
            "picture; folders of persons, or any dataset, one a person"
        ),
    ] = None
    reference_identity: Annotated[
        str,
        typer.Option(
            help="what is one identity of --references: image, folder, column (of a list); auto: as kept"
        ),
    ] = "auto"
    source: Source = "auto"
    mix: Mix = None
    max_cosine: Annotated[
        float | None,
        typer.Option(help="no two identities are as similar as this; the model's own limit by default"),
    ] = None
    exclude: Exclude = None
    rescale: Rescale = False

    def options(self, rate: RateFlags) -> IdentityOptions:
        from v2f_engine.options import IdentityOptions
        from v2f_engine.pipeline import identities_from

        known = rate.calibrated(self.max_cosine)
        table = identities_from(
            self.identities,
            self.references,
            rate.recogniser,
            note,
            self.reference_identity,
        )
        return IdentityOptions(
            n_ids=self.n_ids if table is not None or self.n_ids is not None else 100,
            identities=table,
            source=self.source,
            max_cosine=self.max_cosine,
            calibration=known,
            exclude=rate.excluded(self.exclude),
            rescale=self.rescale,
            mix=self.mix,
        )


@dataclass(frozen=True)
class OutputFlags:
    """`options.OutputOptions` as typed."""

    out: Annotated[Path, typer.Option(help="folder of the dataset; the same command resumes")] = Path("faces")
    extend: Annotated[
        Path | None,
        typer.Option(
            help="a finished set that gets more people, --ids in all; everything else is as the set itself says"
        ),
    ] = None
    format: Format = "imagefolder"
    jpeg_quality: Annotated[int, typer.Option(help="of the files, 1..100")] = 95
    images_per_shard: Annotated[int | None, typer.Option(help="unit of commit and resume")] = None
    jpeg_encoder: Annotated[
        str,
        typer.Option(
            help="of the files: simplejpeg (fast), or pillow as published; other bytes below quality 96"
        ),
    ] = "simplejpeg"

    @property
    def options(self) -> OutputOptions:
        from v2f_engine.options import OutputOptions

        growing = self.extend is not None
        return OutputOptions(**{**vars(self), "out": self.extend if growing else self.out, "extend": growing})


@dataclass(frozen=True)
class WorkerFlags:
    """`options.WorkerOptions` as typed."""

    executor: Annotated[
        str, typer.Option(help="auto, inline (this process), local, ray, slurm; changes no byte")
    ] = "auto"
    workers: Annotated[int | None, typer.Option(help="processes at a time; one per device by default")] = None
    executor_options: Annotated[
        list[str] | None,
        typer.Option("--executor-option", help="KEY=VALUE for the executor, e.g. partition=gpu; repeatable"),
    ] = None

    @property
    def options(self) -> WorkerOptions:
        from v2f_engine.options import WorkerOptions

        return WorkerOptions(
            self.executor, self.workers, pairs(self.executor_options or [], "--executor-option")
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


@dataclass(frozen=True)
class DrawingFlags:
    """What the published scripts do otherwise; see `pipeline.published`."""

    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published",
            help="the options that the published script for this fixes (docs/fidelity.md); those typed beside it stay",
        ),
    ] = False
    rounding: Annotated[str, typer.Option(help="grey levels: nearest, or truncate as published")] = "nearest"
    mask_batch: Annotated[
        int, typer.Option(help="consecutive images that share one mask ratio; 64 as published")
    ] = 1
    sigma_shares: Annotated[
        str,
        typer.Option(
            help="shares of the noise levels: drawn by each image, or exact over the run as published"
        ),
    ] = "drawn"


@dataclass(frozen=True)
class ChoiceFlags:
    """`pipeline.selected.ChoiceOptions` as typed."""

    make: Annotated[
        int | None,
        typer.Option(
            help="images of each identity that are made; the best of them are kept (--images, --keep)"
        ),
    ] = None
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="which are kept: centre (default; nearest to the person's own), quality, diversity, vector; repeated: "
            "by the sum of places"
        ),
    ] = None
    select_recogniser: Annotated[
        str | None, typer.Option(help="reads the images chosen among: a name or a path")
    ] = None
    select_quality_model: Annotated[
        str,
        typer.Option(
            help="judges them by quality: an estimator's file, or a recogniser by its feature's length"
        ),
    ] = "quality"
    select_min_cosine: Annotated[
        float | None, typer.Option(help="to the person's centre, below which an image goes before all others")
    ] = None
    select_duplicate_cosine: Annotated[
        float | None,
        typer.Option(help="above which two images of a person count as one, and the later goes first"),
    ] = None

    @property
    def options(self) -> ChoiceOptions | None:
        from v2f_engine.pipeline.selected import ChoiceOptions

        if self.make is None:
            return None
        return ChoiceOptions(
            self.make,
            tuple(self.select or ("centre",)),
            self.select_min_cosine,
            self.select_duplicate_cosine,
            self.select_recogniser,
            self.select_quality_model,
        )


FIXED = {
    "rounding": "rounding",
    "precision": "precision",
    "masks": "masks",
    "sigma": "perturbation",
    "sigma_weights": "perturbation",
    "target_cosine": "perturbation",
    "perturbation": "perturbation",
    "mask_batch": "mask_batch",
    "sigma_shares": "sigma_shares",
    "jpeg_quality": "jpeg_quality",
    "jpeg_encoder": "jpeg_encoder",
    "steer": "use",
    "steering": "steering",
}
"""Parameter of the command -> option that a published script fixes."""


def typed(context: typer.Context) -> list[str]:
    """Parameters that were typed, among those that a published script fixes."""
    found = {name: context.get_parameter_source(name) for name in FIXED}
    return [name for name, source in found.items() if source is not None and source.name != "DEFAULT"]


def compared(script: str, departures: tuple[str, ...]) -> str:
    """A run beside the published script that does the same."""
    if not departures:
        return f"as {script}"
    return f"{script} but for: {', '.join(departures)} (docs/fidelity.md)"


@grouped
def generate(
    *,
    identities: IdentityFlags,
    images_per_id: Annotated[int, typer.Option("--images", "--keep", help="images of each identity")] = 50,
    choice: ChoiceFlags,
    output: OutputFlags,
    engine: EngineFlags,
    rate: RateFlags,
    noise: NoiseFlags,
    drawing: DrawingFlags,
    steering: SteeringFlags,
    workers: WorkerFlags,
    dry_run: DryRun = False,
    context: typer.Context,
) -> None:
    """Generate a face dataset of people who do not exist."""
    with recorded() as imported, stage("import"):
        from v2f_engine.options import ImageOptions
        from v2f_engine.pipeline import generation

    asked = generation.Request(
        replace(engine.options, rounding=drawing.rounding),
        identities.options(rate),
        ImageOptions(images_per_id, noise.seed, noise.around, drawing.mask_batch, drawing.sigma_shares),
        output.options,
        workers.options,
        steering.asked,
        choice.options,
    )
    kept = typed(context)
    chosen = {FIXED[name] for name in kept}
    asked = asked.as_published(chosen) if drawing.as_published else asked.settled(chosen)
    if drawing.as_published:
        told = f"; as typed: {', '.join('--' + name.replace('_', '-') for name in kept)}" if kept else ""
        note(f"as published by {asked.script.name}{told}")

    if dry_run:
        from v2f_engine.pipeline.foreseen import foresee

        seen = foresee(asked, note, replay.checking(context))
        about = {name: value for name, value in vars(seen).items() if name not in ("written", "manifest")}
        published = ("published", compared(seen.script, seen.departures))
        say_plan([*seen.lines(), published], **{**vars(seen.written), **about})
        return
    from v2f_engine.cli.show.shown import guard_lines
    from v2f_engine.data.records.manifest import Manifest

    with progress_bar("generate", "images") as progress:
        report = generation.run(asked, progress, progress.say, replay.checking(context))
    result(**vars(report))
    say(
        f"{report.identities} identities, {report.images} images in {report.out} "
        f"({report.written} written now, {report.seconds:.1f} s, {report.images_per_second:.1f} images/s)"
    )
    say(f"identities     {report.people}")
    if report.complete and report.manifest is not None:
        for name, words in guard_lines(Manifest.load(report.manifest).settings, report.out):
            say(f"{name:14} {words}")
    say(f"published      {compared(report.script, report.departures)}")
    for line in report.start_up.lines(before=imported.seconds["import"]):
        say(line)
    if report.self_test != "not measured":
        say(f"kernels        {report.self_test}")
    if report.failed:
        say(f"FAILED         {report.failed} images came out constant twice; see the attribute 'failed'")
    for line in [] if report.chosen is None else report.chosen.lines():
        note(line)
    if report.manifest is not None:
        say(f"contact sheet  {report.contact_sheet}")
        say(f"manifest       {report.manifest}")

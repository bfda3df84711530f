"""One call from a number of identities to a dataset on disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.arguments import (
    CHOICE,
    CONDITION,
    COUNT,
    FUNCTION,
    GALLERY,
    MAPPING,
    MASKS,
    NUMBER,
    PATH,
    SWITCH,
    VECTORS,
    VECTORS_OR_PATH,
    WORD,
    takes,
)
from v2f_engine.batch import ImageBatch
from v2f_engine.data.formats import get_format
from v2f_engine.data.layout import IDENTITIES, PERTURBATION
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.room import refuse_beyond
from v2f_engine.data.writing.write import manifest_for, write_planned
from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.options import EngineOptions, IdentityOptions, ImageOptions, OutputOptions, WorkerOptions
from v2f_engine.pipeline.engine import Engine
from v2f_engine.pipeline.extension import Held
from v2f_engine.pipeline.generate_report import GenerateReport, report_of
from v2f_engine.pipeline.given import REFERENCES
from v2f_engine.pipeline.makers import refuse_moved
from v2f_engine.pipeline.memory import WithinMemory
from v2f_engine.pipeline.published import Asked, Script, departures, script_for
from v2f_engine.pipeline.selected import ChoiceOptions, Choosing, chosen_of
from v2f_engine.pipeline.self_test import self_tested
from v2f_engine.pipeline.shard_source import OPEN
from v2f_engine.pipeline.start_up import timed
from v2f_engine.ranges import stage
from v2f_engine.runtime import NetworkRunner, compiling
from v2f_engine.scale import Source, Workforce, write_scaled
from v2f_engine.scale.executors import check_options
from v2f_engine.scale.executors.local import gpus
from v2f_engine.vectors.calibration import Calibration
from v2f_engine.vectors.gate import DIMENSION
from v2f_engine.vectors.mix import MixLike
from v2f_engine.vectors.people import People, fitted_of
from v2f_engine.vectors.perturbation_contract import Around
from v2f_engine.vectors.sampling import Identities, sample_identities

if TYPE_CHECKING:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.pipeline.makers.posed import PoseCondition


WORTH_A_SELF_TEST = 100
"""Batches: the self-test is about six of computing, so on a CPU at most 6 %; a GPU does it beside generation."""


@takes(
    n_ids=COUNT,
    images_per_id=COUNT,
    out=PATH,
    model=PATH,
    format=WORD,
    identities=VECTORS,
    max_cosine=NUMBER,
    fmr=NUMBER,
    calibration=VECTORS_OR_PATH,
    exclude=GALLERY,
    rescale=SWITCH,
    seed=COUNT,
    device=WORD,
    precision=WORD,
    jpeg_encoder=WORD,
    masks=MASKS,
    attributes=CONDITION,
    rounding=WORD,
    sigma_shares=WORD,
    as_published=SWITCH,
    extend=SWITCH,
    choice=CHOICE,
    runner=WORD,
    fetch=SWITCH,
    executor=WORD,
    executor_options=MAPPING,
    progress=FUNCTION,
    notify=FUNCTION,
)
def generate(
    n_ids: int | None = None,
    images_per_id: int = 50,
    out: str | Path = "faces",
    *,
    model: str | Path = "mini",
    format: str = "imagefolder",
    identities: Identities | NDArray[np.float32] | None = None,
    source: str | Path = "auto",
    mix: MixLike | None = None,
    max_cosine: float | None = None,
    fmr: float | None = None,
    calibration: Calibration | str | Path | NDArray[np.float32] | None = None,
    exclude: Sequence[str | Path] | str | Path | None = None,
    rescale: bool = False,
    perturbation: Around | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    masks: str | MaskSchedule | None = None,
    jpeg_quality: int | None = None,
    jpeg_encoder: str | None = None,
    rounding: str | None = None,
    mask_batch: int | None = None,
    sigma_shares: str | None = None,
    as_published: bool = False,
    attributes: AttributeControl | PoseCondition | None = None,
    images_per_shard: int | None = None,
    extend: bool = False,
    choice: ChoiceOptions | None = None,
    compute_batch: int | None = None,
    runner: str = "auto",
    fetch: bool = False,
    executor: str = "auto",
    workers: int | None = None,
    executor_options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> GenerateReport:
    """Makes a dataset of `n_ids` people who do not exist; called again, it resumes.

    Args:
        n_ids, identities, source, mix, max_cosine, fmr, calibration, exclude, rescale: the people; see
            `options.IdentityOptions`.
        images_per_id, seed, perturbation, mask_batch, sigma_shares: their images; see `options.ImageOptions`.
        out, format, jpeg_quality, jpeg_encoder, images_per_shard: the dataset; see `options.OutputOptions`.
        model, device, precision, masks, compute_batch, runner, fetch, rounding: the generator; see
            `options.EngineOptions`. All but `device` and `fetch` are part of the run, so a resumed run keeps them.
        executor, workers, executor_options: who works; see `options.WorkerOptions`.
        extend: the finished set at `out` gets more people: `n_ids` in all, every other argument as when it was made.
            What is there keeps every byte; see `pipeline.extension`.
        choice: more images of each person are made than `images_per_id`, and the best of them written:
            `ChoiceOptions(make=80, by=("centre",))`.
        attributes: steer pose, quality and more, e.g. `AttributeControl({"yaw": "-60:60", "quality": 24})`;
            each image's goals and achieved values are recorded. A `PoseCondition` uses the pose network of a
            Vec2Face+ model instead; `masks` and `perturbation` that are None are then those of
            `pipeline.pose_defaults`.
        as_published: what the published script fixes, see `pipeline.published`; arguments that are given, and not None
            or `"auto"`, stay.
        progress: called with (images done, images in all).
        notify: called with a sentence where something takes long once, such as compiling kernels on a new machine.

    Raises:
        SaturationError: the sampler cannot keep that many identities apart.
        OutputFolderError, DiskFull, ModelNotFound, CheckpointError, VectorError, ConfigError,
            BackendUnavailable: as named.
    """
    given = {
        "perturbation": perturbation,
        "mask_batch": mask_batch,
        "sigma_shares": sigma_shares,
        "jpeg_quality": jpeg_quality,
        "jpeg_encoder": jpeg_encoder,
        "rounding": rounding,
        "precision": None if precision == "auto" else precision,
        "masks": masks,
        "attributes": attributes,
    }
    chosen = {name: value for name, value in given.items() if value is not None}

    def of(*names: str) -> dict[str, Any]:
        return {name: chosen[name] for name in names if name in chosen}

    asked = Request(
        EngineOptions(
            model,
            device,
            precision,
            compute_batch=compute_batch,
            runner=runner,
            fetch=fetch,
            **of("masks", "rounding"),
        ),
        IdentityOptions(n_ids, identities, source, max_cosine, fmr, calibration, exclude, rescale, mix),
        ImageOptions(images_per_id, seed, **of("perturbation", "mask_batch", "sigma_shares")),
        OutputOptions(
            Path(out),
            format,
            images_per_shard=images_per_shard,
            extend=extend,
            **of("jpeg_quality", "jpeg_encoder"),
        ),
        WorkerOptions(executor, workers, executor_options or {}),
        attributes,
        choice,
    )
    asked = asked.as_published(chosen) if as_published else asked.settled(chosen)
    return run(asked, progress, notify)


@dataclass(frozen=True)
class Request:
    """A call of `generate`, its arguments in groups."""

    engine: EngineOptions
    identities: IdentityOptions
    images: ImageOptions
    output: OutputOptions
    workers: WorkerOptions = field(default_factory=WorkerOptions)
    attributes: AttributeControl | PoseCondition | None = None
    choice: ChoiceOptions | None = None

    @property
    def script(self) -> Script:
        """The published script that does the same."""
        given = self.identities.identities
        about = given.provenance if isinstance(given, Identities) else {}
        of_pictures = str(about.get("source", "")).startswith(REFERENCES)
        return script_for(self.attributes, references=of_pictures)

    def as_published(self, chosen: Collection[str] = ()) -> Request:
        """With what that script fixes; options named in `chosen` stay."""
        made = self._asked.as_published(self.script, chosen)
        return replace(
            self, engine=made.engine, images=made.images, output=made.output, attributes=made.attributes
        )

    def settled(self, chosen: Collection[str] = ()) -> Request:
        """With what a pose network is asked with (`pipeline.pose_defaults`); options named in `chosen` stay."""
        from v2f_engine.pipeline.makers.posed import PoseCondition
        from v2f_engine.pipeline.pose_defaults import pose_defaults

        if not isinstance(self.attributes, PoseCondition):
            return self
        engine, images, condition = pose_defaults(
            self.engine, self.images, self.attributes, self.output.out, chosen
        )
        return replace(self, engine=engine, images=images, attributes=condition)

    def departures(self, precision: str) -> tuple[str, ...]:
        """How it differs from that script; `precision` is what `auto` became."""
        told = departures(self._asked, self.script, precision)
        if self.choice is None:
            return told
        return (*told, f"the best {self.images.images_per_id} of {self.choice.make}")

    @property
    def _asked(self) -> Asked:
        return Asked(self.engine, self.images, self.output, self.attributes)

    @property
    def executor(self) -> str:
        """Who makes the images: `auto` decided.

        Raises:
            ConfigError: steering by more than one process.
        """
        steered, workers = self.attributes is not None, self.workers.workers
        chosen = self.workers.executor
        if chosen == "auto":
            many = (workers or 0) > 1 or (
                workers is None and self.engine.device in ("auto", "cuda") and gpus() > 1
            )
            chosen = "local" if many and not (steered and workers is None) else "inline"
        if chosen != "inline" and steered:
            raise ConfigError(
                "Steering attributes runs in one process: leave out the executor and the workers. --as-published "
                "steers each identity; its other parts are --rounding truncate, --jpeg-quality 75, "
                "--jpeg-encoder pillow, --mask-batch 64, --sigma-shares exact and --precision fp32."
            )
        if chosen == "inline" and self.workers.options:
            raise ConfigError(
                f"This run is one process, which has no options, found {', '.join(self.workers.options)}. Name the "
                "executor they are for (--executor)."
            )
        return chosen


@dataclass(frozen=True)
class Prepared:
    """Everything of a run before its first byte.

    Args:
        engine, control: what makes the images.
        table: the identities.
        images: what is drawn around each, told of the table; as many as are made.
        choosing: what keeps some of them.
        manifest: of the dataset, without records: settings, plan, format, encoder.
        departures: how it differs from the published script.
    """

    engine: Engine
    control: WithinMemory | None
    table: Identities
    images: ImageOptions
    choosing: Choosing | None
    manifest: Manifest
    departures: tuple[str, ...]


def refuse_impossible(asked: Request) -> None:
    """Looks at place, disk, memory and time before anything is loaded.

    Raises:
        OutputFolderError, DiskFull, ConfigError: see `room.refuse_beyond`.
    """
    people, output = asked.identities, asked.output
    if asked.choice is not None:
        asked.choice.rule(asked.images.images_per_id)
    count = len(people.identities) if people.identities is not None else people.n_ids or 0
    encoder, stored = output.encoder.describe(), get_format(output.format).stores
    refuse_beyond(output.out, count, asked.images.images_per_id, encoder, stored=stored)


def prepare(
    asked: Request,
    notify: Callable[[str], None] | None = None,
    identities: Callable[[IdentityOptions, int], Identities] | None = None,
    *,
    exporting: bool = True,
) -> Prepared:
    """Loads the engine and samples the people; writes nothing but the file that `--runner onnx` exports on first use.

    Args:
        exporting: whether it may, see `Engine.open`.
        identities: gives the table, of the options that a model has settled and the seed; `identity_table` by default.
    """
    images, output = asked.images, asked.output
    held = Held.at(output.out, asked.identities) if output.extend else None
    if held is not None:
        identities = held.identities
    engine = Engine.open(asked.engine, notify, exporting=exporting)
    control = None if asked.attributes is None else engine.control(asked.attributes)
    refuse_moved(images.perturbation, None if control is None else control.maker)
    with stage("identities"):
        table = (identities or identity_table)(asked.identities.for_model(engine.people), images.seed)
        images = replace(images, perturbation=images.perturbation.over(table.vectors, table.keys))
    plan = Plan.of(len(table), images.images_per_id, output.images_per_shard)
    settings = {
        "seed": images.seed,
        "identities": table.describe(),
        **images.describe(),
        **engine.describe(),
        **({} if control is None else {"attributes": control.describe()}),
    }
    choosing = None
    if asked.choice is not None:
        device = str(engine.runner.describe().get("device", "cpu"))
        choosing = asked.choice.open(images.images_per_id, engine.loaded, device)
        settings["selection"] = choosing.describe()
        images = replace(images, images_per_id=asked.choice.make)
    manifest = manifest_for(output.format, plan, output.encoder.describe(), settings)
    if held is not None:
        manifest = held.larger(manifest, output.images_per_shard)
    return Prepared(engine, control, table, images, choosing, manifest, asked.departures(engine.precision))


def run(
    asked: Request,
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    before: Callable[[Manifest], None] = lambda manifest: None,
) -> GenerateReport:
    """`generate`, of options that are together already.

    Args:
        before: called with the manifest of what will be made, before the folder is looked at; may refuse it.
    """
    executor, output, script = asked.executor, asked.output, asked.script
    check_options(executor, asked.workers.options)
    refuse_impossible(asked)
    with timed() as clock, compiling.watched(notify, on=_may_compile(asked.engine.device)) as kernels:
        ready = prepare(asked, notify)
        engine, control, table, images = ready.engine, ready.control, ready.table, ready.images
        manifest, differs, people = ready.manifest, ready.departures, engine.people
        choosing = ready.choosing
        del ready
        before(manifest)
        plan, note, beside = manifest.plan, clock.progress(progress), {IDENTITIES: table.to_bytes}
        if (held := images.perturbation.attachment()) is not None:
            beside[PERTURBATION] = lambda: held

        def make(ids: range) -> Iterable[ImageBatch]:
            return clock.batches(chosen_of(choosing, engine.batches(table, images, ids, control), table))

        worth = plan.images >= WORTH_A_SELF_TEST * engine.runner.batch_size
        tested = worth and isinstance(engine.runner, NetworkRunner)
        with self_tested(engine, images.seed, on=tested) as test:
            if executor == "inline":
                clock.writing()
                written = write_planned(
                    output.out, manifest, make, output.encoder, progress=note, attachments=beside
                )
            self_test = test()
        tally = None if choosing is None else choosing.tally
        if executor != "inline":
            # workers have their own; on a GPU this one's memory is theirs
            del engine, control, choosing, test, make
            written = write_scaled(
                output.out,
                manifest,
                Source(OPEN, source_options(asked)),
                Workforce(
                    executor, asked.workers.workers, asked.engine.device, options=asked.workers.options
                ),
                progress=note,
                attachments=beside,
            )
        start_up = clock.report(kernels.compiled)
    report = report_of(output.out, plan, written, clock.seconds, self_test, start_up, origin(table, people))
    return replace(report, script=script.name, departures=differs, chosen=tally)


def source_options(asked: Request) -> dict[str, Any]:
    """What workers need to know to open the images beside the manifest: what it names by hash alone."""
    told: dict[str, Any] = {"model": str(asked.engine.model), "fetch": asked.engine.fetch}
    if asked.choice is not None:
        if asked.choice.recogniser is not None:
            told["recogniser"] = str(asked.choice.recogniser)
        told["quality_model"] = str(asked.choice.quality_model)
    return told


def identity_table(asked: IdentityOptions, seed: int) -> Identities:
    """The identities asked for: sampled, or given.

    Raises:
        SaturationError, VectorError, ConfigError: as `sample_identities`; or another number than those given.
    """
    given = asked.identities
    if given is None:
        assert asked.n_ids is not None, "checked at birth"
        table = sample_identities(
            asked.n_ids,
            max_cosine="auto" if asked.fmr is not None else asked.max_cosine,
            fmr=asked.fmr,
            calibration=asked.calibration,
            seed=seed,
            source=asked.source,
            exclude=asked.exclude,
        )
        if asked.rescale:
            table = replace(table, provenance={**table.provenance, "rescaled": True})
        return table
    table = given if isinstance(given, Identities) else Identities.from_vectors(given, dimension=DIMENSION)
    if asked.n_ids not in (None, len(table)):
        raise ConfigError(f"n_ids is {asked.n_ids} but {len(table)} identities were given; leave n_ids out.")
    return table


def origin(table: Identities, people: People) -> str:
    """Where a table's people come from, for people: its source, that source's hash, and what was done to it."""
    about = table.provenance
    sha256 = str(about.get("source_sha256", ""))
    if sha256 == people.source.sha256 and fitted_of(people.source) is not None:
        said = f"statistics of {people.model}, sha256 {sha256[:12]}"
    else:
        said = f"{about.get('source', 'unknown')}, {f'sha256 {sha256[:12]}' if sha256 else 'given'}"
    said += ", packed" if "packed" in about else ""
    return said + (f", rescaled to length {about['rescaled_to']:.4g}" if "rescaled_to" in about else "")


def _may_compile(device: str) -> bool:
    """Whether a run may come to compile kernels, so that Triton is worth importing."""
    with stage("import"):
        import torch

    return not device.startswith("cpu") and torch.cuda.is_available()

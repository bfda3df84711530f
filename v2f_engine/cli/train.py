"""`v2f train`: recogniser and generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import Minutes, Split, Steps, grouped, tell
from v2f_engine.cli.saying import result, say

app = typer.Typer(help="Train a generator, a recogniser, a pose model or an estimator.", no_args_is_help=True)

IN_MEMORY = 53_000
"""Images that are read once and held: 2 GB."""

Data = Annotated[Path, typer.Argument(help="a dataset of aligned faces, any format `v2f render` writes")]


@dataclass(frozen=True)
class RowFlags:
    """Which rows of the data are used."""

    mask: Annotated[
        Path | None, typer.Option(help=".npy of row numbers to use: the published index mask")
    ] = None
    split: Split = None
    on_bad: Annotated[
        str, typer.Option(help="a row that cannot be used: refuse (stop, name it) or skip (replace, note it)")
    ] = "refuse"


@dataclass(frozen=True)
class HeldOutFlags:
    """People on whom a training is measured."""

    held_out: Annotated[
        Path | None, typer.Option(help="a set of other people, for validation: error rate, sample grids")
    ] = None
    held_out_people: Annotated[
        int, typer.Option(help="instead: keep the last so many people of the data apart (reads all labels)")
    ] = 0


@dataclass(frozen=True)
class BudgetFlags:
    """How long a training takes."""

    epochs: Annotated[float | None, typer.Option(help="budget in passes over the data")] = None
    steps: Steps = None
    minutes: Minutes = None

    @property
    def changes(self) -> dict[str, Any]:
        """The setting, where one was typed; else the recipe's."""
        from v2f_engine.train.loop import Budget

        return {"budget": Budget(**vars(self))} if self.epochs or self.steps or self.minutes else {}


@dataclass(frozen=True)
class RunFlags:
    """Of every long training."""

    batch: Annotated[int | None, typer.Option(help="images a step, of all ranks together")] = None
    fp32: Annotated[bool, typer.Option("--fp32", help="no bfloat16")] = False
    start_from: Annotated[Path | None, typer.Option(help="weights of an earlier training to go on from")] = (
        None
    )

    @property
    def changes(self) -> dict[str, Any]:
        """The settings."""
        batch = {} if self.batch is None else {"batch": self.batch}
        return {"bf16": not self.fp32, "start_from": self.start_from, **batch}


@dataclass(frozen=True)
class HeadFlags:
    """The recogniser and its margin; the recipe's where nothing is typed."""

    depth: Annotated[
        str | None, typer.Option(help="iresnet18, 34, 50, 100 or 200; the recipe's network by default")
    ] = None
    se: Annotated[bool, typer.Option("--se", help="with --depth: squeeze-excitation, as published")] = False
    margin: Annotated[
        str | None,
        typer.Option(help="arcface, arcface-published (the angle goes beyond pi), cosface or adaface"),
    ] = None
    m: Annotated[float | None, typer.Option(help="the margin")] = None
    sample_rate: Annotated[
        float | None, typer.Option(help="share of the other classes that a step compares with")
    ] = None
    lr: Annotated[float | None, typer.Option(help="learning rate; not scaled by the batch")] = None
    dropout: Annotated[float | None, typer.Option(help="before the last layer; 0.4 as published")] = None
    batch_per_gpu: Annotated[
        int | None,
        typer.Option(
            help="instead of --batch, as published: images of a rank; the batch grows with the ranks"
        ),
    ] = None
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="any value of the recipe by its name, repeatable: drops=18,28,35, momentum=0.9, whole_epochs=false,"
            " fp16_amp=false, erase_share=0, augment=hardened (or rendered, published, mirror, none)",
        ),
    ] = None
    stepping: Annotated[
        str, typer.Option(help="eager, or graph (one GPU; no dropout, sampled classes or fp16_amp)")
    ] = "eager"

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that were typed."""
        from v2f_engine.models.iresnet import IResNetConfig

        stated = {
            "margin": self.margin, "m": self.m, "sample_rate": self.sample_rate, "lr": self.lr,
            "dropout": self.dropout, "batch_per_gpu": self.batch_per_gpu,
        }  # fmt: skip
        made: dict[str, Any] = {name: value for name, value in stated.items() if value is not None}
        return made if self.depth is None else {**made, "model": IResNetConfig.named(self.depth, se=self.se)}

    @property
    def texts(self) -> tuple[str, ...]:
        """As `--set` takes them. The stepping is among them, since what it refuses depends on all the others."""
        return (f"stepping={self.stepping}", *(self.values or ()))


@dataclass(frozen=True)
class ValidationFlags:
    """Verification sets that a recogniser is measured on while it trains."""

    validate: Annotated[
        list[Path] | None,
        typer.Option(
            help="a verification set (.bin, .bin.xz, .npy with issame.txt, a list of pairs) or a folder of them,"
            " repeatable: measured each epoch, the best network is kept beside the last"
        ),
    ] = None
    validate_images: Annotated[
        Path | None, typer.Option(help="folder of the pictures that a list of pairs names")
    ] = None
    validate_every: Annotated[int | None, typer.Option(help="steps between; each epoch by default")] = None

    def opened(self, group: Any) -> Any:
        """The sets, decoded to the last picture by rank 0, or None; damage is refused on every rank."""
        from v2f_engine.errors import ConfigError, V2FError
        from v2f_engine.evaluate.validation import VerificationSets

        if not self.validate:
            return None
        sets, fault = VerificationSets((), ()), None
        if group.first:
            try:
                sets = VerificationSets.opened(self.validate, self.validate_images)
                for one in sets.sets:
                    tell(Path(one.name), one.told())
            except V2FError as error:
                fault = error
        said = group.from_first(None if fault is None else str(fault))
        if said is not None:
            raise fault or ConfigError(said)
        return sets


def trained(folder: Path, weights: Path) -> dict[str, Any]:
    """What a script wants to know of a training that ended: where its weights are, their hash, the last of its log."""
    import json

    from v2f_engine.models.file_hash import file_sha256

    log = folder / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    last = json.loads(lines[-1]) if lines else {}
    return {
        "out": folder,
        "weights": weights,
        "sha256": file_sha256(weights),
        "steps": last.get("step"),
        "last": last,
    }


@app.command()
@grouped
def recogniser(
    data: Data,
    *,
    recipe: Annotated[
        str,
        typer.Option(
            help="rendered (the embedded size); to the letter published, published-cosface, published-adaface; ours for"
            " real sets: mended, mended-cosface, mended-adaface"
        ),
    ] = "rendered",
    rows: RowFlags,
    others: HeldOutFlags,
    validation: ValidationFlags,
    out: Annotated[
        Path, typer.Option(help="folder of checkpoints and weights; the same command resumes")
    ] = Path("runs/recogniser"),
    head: HeadFlags,
    budget: BudgetFlags,
    run: RunFlags,
    threads: Annotated[int, typer.Option(help="that decode and augment, on each rank")] = 1,
    in_memory: Annotated[
        bool | None, typer.Option(help="read all images once (37.6 KB each); by default below 2 GB")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 500,
    seed: Annotated[int | None, typer.Option(help="the recipe's by default")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda; under torchrun one GPU a rank")] = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Train a recogniser with margin softmax; several ranks: `torchrun ... -m v2f_engine train recogniser ...`."""
    from v2f_engine.data.training.memory_set import MemorySet
    from v2f_engine.data.training.training_set import open_training_set
    from v2f_engine.disk import refuse_unwritable
    from v2f_engine.train.distributed import joined
    from v2f_engine.train.held_out import hold_out
    from v2f_engine.train.recogniser import RecogniserTraining, foresee_recogniser, train_recogniser
    from v2f_engine.train.recogniser_values import with_values
    from v2f_engine.train.stepping import require_stepping

    changes: dict[str, Any] = {
        "threads": threads, "checkpoint_every": checkpoint_every, "device": device,
        "validate_every": validation.validate_every,
        **head.changes, **budget.changes, **run.changes, **({} if seed is None else {"seed": seed}),
    }  # fmt: skip
    if run.fp32:
        changes["fp16_amp"] = False
    else:
        del changes["bf16"]  # the recipe's
    settings = with_values(RecogniserTraining.named(recipe, out, **changes), head.texts)
    refuse_unwritable(out)
    with joined(settings.device) as group:
        require_stepping(settings.stepping, group)
        sets = validation.opened(group)
        plain: dict[str, Any] = {"on_bad": rows.on_bad, "with_features": False, "with_landmarks": False}
        people: Any = open_training_set(data, None, rows.mask, split=rows.split, **plain)
        if group.first:
            tell(data, people.told())
        if in_memory if in_memory is not None else len(people) <= IN_MEMORY:
            people = MemorySet.load(people)
        apart: Any = None
        if others.held_out is not None:
            apart = open_training_set(others.held_out, **plain)
        elif others.held_out_people:
            people, apart = hold_out(people, others.held_out_people)
        if dry_run:
            seen = foresee_recogniser(people, settings, group, sets)
            if group.first:
                say_plan(seen.lines(), **vars(seen))
            return
        train_recogniser(people, settings, apart, group=group, validation=sets)
        if group.first:
            result(**trained(out, out / "recogniser.safetensors"))
            say(f"{out / 'recogniser.safetensors'}")

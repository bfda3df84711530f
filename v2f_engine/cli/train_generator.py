"""`v2f train generator`: a Vec2Face from faces and their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import grouped, tell
from v2f_engine.cli.saying import note, result, say
from v2f_engine.cli.train import BudgetFlags, HeldOutFlags, RowFlags, RunFlags, trained


@dataclass(frozen=True)
class NetworkFlags:
    """The generator and how its step computes; the recipe's where nothing is typed."""

    size: Annotated[str | None, typer.Option(help="mini, base, large, huge; the recipe's by default")] = None
    base_lr: Annotated[
        float | None,
        typer.Option(help="the rate is this x batch / 112, as published; 4e-5 for 100 epochs of 1 M"),
    ] = None
    critic_width: Annotated[int | None, typer.Option(help="channels of the discriminator's stem")] = None
    batch_per_gpu: Annotated[
        int | None,
        typer.Option(
            help="instead of --batch, as published: images of a rank; the batch grows with the ranks"
        ),
    ] = None
    accumulate: Annotated[int, typer.Option(help="parts that a rank computes its share in")] = 1
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published",
            help="repeat the published code's faults in a recipe of ours; the published presets have them",
        ),
    ] = False
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="any value of the recipe by its name, repeatable: clip=1.0, loss.ssim=0.3, fp16_amp=false,"
            " as_published.one_ratio=false, perceptual=recogniser",
        ),
    ] = None
    stepping: Annotated[
        str,
        typer.Option(
            help="eager, compiled, or graph (one GPU; no dropout, crops or fp16_amp: --dropout 0 --set shift=0)"
        ),
    ] = "eager"

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that were typed."""
        from v2f_engine.config import one_of
        from v2f_engine.models.vec2face import Vec2FaceConfig
        from v2f_engine.train.generator import AsPublished

        made: dict[str, Any] = {"accumulate": self.accumulate}
        if self.size is not None:
            name = one_of("size", self.size, ("mini", "base", "large", "huge"))
            made["model"] = getattr(Vec2FaceConfig, name)()
        stated = {
            "base_lr": self.base_lr,
            "critic_width": self.critic_width,
            "batch_per_gpu": self.batch_per_gpu,
        }
        made |= {name: value for name, value in stated.items() if value is not None}
        return {**made, "as_published": AsPublished.all()} if self.as_published else made

    @property
    def texts(self) -> tuple[str, ...]:
        """As `--set` takes them. The stepping is among them, since what it refuses depends on all the others."""
        return (f"stepping={self.stepping}", *(self.values or ()))


@grouped
def generator(
    data: Annotated[
        Path,
        typer.Argument(help="aligned faces: an LMDB in the published layout, or any format with features"),
    ],
    *,
    preset: Annotated[
        str,
        typer.Option(
            help="recipe: rendered (ours, small, few steps), sharp (ours: the discriminator from the start);"
            " to the letter published-2024 (Vec2Face's first release: fp32, no clipping), published-2025 (today's: fp16"
            " AMP, clip 2) and plus (Vec2Face+'s main model: no discriminator, clip 1), which need --vgg; mended-2024,"
            " mended-2025, mended-plus (the same without their faults)"
        ),
    ] = "rendered",
    recogniser: Annotated[
        str, typer.Option(help="the frozen network that made the features: mini, a name, or a path")
    ] = "mini",
    features: Annotated[
        Path | None, typer.Option(help=".npy of features; extracted now where there are none")
    ] = None,
    rows: RowFlags,
    others: HeldOutFlags,
    vgg: Annotated[
        Path | None, typer.Option(help="LPIPS weights: a file or folder with VGG16 and the linear layers")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="folder of checkpoints, curves and weights; the same command resumes")
    ] = Path("runs/generator"),
    network: NetworkFlags,
    budget: BudgetFlags,
    run: RunFlags,
    dropout: Annotated[float | None, typer.Option(help="of the transformer; 0.1 as published")] = None,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 200,
    watch_every: Annotated[int, typer.Option(help="steps between validations")] = 1000,
    log_every: Annotated[int, typer.Option(help="steps between lines of the log")] = 50,
    seed: Annotated[int, typer.Option(help="decides every draw and every order")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda; under torchrun one GPU a rank")] = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train a Vec2Face; several GPUs: `torchrun --nproc-per-node 8 -m v2f_engine train generator ...`."""
    from dataclasses import replace

    from v2f_engine.backends import choose
    from v2f_engine.disk import refuse_unwritable
    from v2f_engine.models.iresnet import as_rgb
    from v2f_engine.models.weights import load_recogniser
    from v2f_engine.train.distributed import joined
    from v2f_engine.train.generator import GeneratorTraining, foresee_generator, train_generator
    from v2f_engine.train.generator_values import with_values
    from v2f_engine.train.held_out import hold_out
    from v2f_engine.train.stepping import require_stepping

    changes: dict[str, Any] = {
        "vgg": vgg, "seed": seed, "checkpoint_every": checkpoint_every, "picture_every": watch_every,
        "log_every": log_every, "device": choose(device).device.partition(":")[0] if device == "auto" else device,
    }  # fmt: skip
    changes |= {**network.changes, **budget.changes, **run.changes}
    if run.fp32:
        changes["fp16_amp"] = False
    else:
        del changes["bf16"]  # the recipe's
    settings = GeneratorTraining.named(preset, out, **changes)
    if dropout is not None:
        settings = replace(settings, model=replace(settings.model, dropout=dropout))
    settings = with_values(settings, network.texts)
    settings.require_vgg()
    refuse_unwritable(out)
    with joined(settings.device) as group:
        require_stepping(settings.stepping, group)
        reader = as_rgb(load_recogniser(recogniser).model)
        reader.to(group.device)
        images = _with_features(data, features, rows, reader)
        apart = None
        if others.held_out is not None:
            apart = _with_features(others.held_out, None, replace(rows, mask=None, split=None), reader)
        if others.held_out_people:
            images, apart = hold_out(images, others.held_out_people)
        if apart is None and group.first:
            note("no held-out people: nothing will be validated (--held-out, --held-out-people)")
        if dry_run:
            seen = foresee_generator(images, reader, settings, group)
            if group.first:
                say_plan(seen.lines(), **vars(seen))
            return
        train_generator(images, reader, settings, apart, group=group)
        if group.first:
            result(**trained(out, out / "generator.safetensors"))
            say(f"{out / 'generator.safetensors'}")


def _with_features(data: Path, features: Path | None, rows: RowFlags, reader: Any) -> Any:
    """A training set with features: its own, those of a file, or extracted now into memory."""
    from dataclasses import replace

    from v2f_engine.data.training.memory_set import MemorySet
    from v2f_engine.data.training.training_set import open_training_set
    from v2f_engine.models.features import extract_features

    stored = open_training_set(data, features, rows.mask, split=rows.split, on_bad=rows.on_bad)
    tell(data, stored.told())
    if stored.feature_dim is not None:
        return stored
    images = MemorySet.load(stored)
    return replace(images, features=extract_features(reader, images.images))

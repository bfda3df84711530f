"""Options that several commands share: help and default of each once; groups of them become one object.

A command whose parameter is annotated with a group (a dataclass below) and that is `grouped` has the group's fields
as its options, and gets the object.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note

if TYPE_CHECKING:
    from v2f_engine.options import EngineOptions
    from v2f_engine.vectors.calibration import Calibration
    from v2f_engine.vectors.perturbation_contract import Around

Model = Annotated[str, typer.Option(help="mini, vec2face, vec2face-plus, or a path to weights")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16, fp16")]
Runner = Annotated[
    str, typer.Option(help="what decodes: auto (cuda_graph on a GPU, eager on a CPU), or a runner's name")
]
Masks = Annotated[
    str,
    typer.Option(
        help="mask schedule: generate, demo, train, plus-generate (what --by pose-model takes), or a ratio: 0.4"
    ),
]
Fetch = Annotated[bool, typer.Option(help="let huggingface_hub download published weights")]
Source = Annotated[str, typer.Option(help="auto (the model's own statistics), gaussian, or a file")]
Mix = Annotated[
    str | None,
    typer.Option(
        help="of a source with groups (`v2f ids fit --groups`): young:0.5,old:0.5, or equal; by default as fitted"
    ),
]
Rescale = Annotated[
    bool,
    typer.Option(
        "--rescale", help="bring what you give to the length of vectors that the model was trained on"
    ),
]
Exclude = Annotated[
    list[Path] | None,
    typer.Option(
        help="real people: a file of features (streamed), a table, or a dataset of faces; repeatable"
    ),
]
Judge = Annotated[str, typer.Option(help="looks at the faces of a dataset: a name or a path")]
Backend = Annotated[str, typer.Option(help="rejection backend: auto, reference, native, cupy")]
Format = Annotated[str, typer.Option(help="imagefolder, webdataset, lmdb, recordio, parquet or null")]
Steps = Annotated[int | None, typer.Option(help="budget in steps (reproducible)")]
Minutes = Annotated[float | None, typer.Option(help="budget in minutes (the schedule follows the clock)")]
Rows = Annotated[Path | None, typer.Option(help=".npy of row numbers: only these rows")]
Split = Annotated[
    str | None,
    typer.Option(
        help="which of several sets at that path, such as train; its name is in the refusal to guess"
    ),
]


def tell(path: Path, lines: Sequence[str]) -> None:
    """What a user should know of how a set is read: `Dataset.told`, on stderr."""
    for line in lines:
        note(f"{path.name}: {line}")


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of its groups as options."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}

    def add(name: str, annotation: Any, default: Any) -> None:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))

    for name, parameter in inspect.signature(command).parameters.items():
        group = hints[name]
        if not is_dataclass(group):
            add(name, group, parameter.default)
            continue
        assert isinstance(group, type)
        groups[name] = group
        own = get_type_hints(group, include_extras=True)
        for one in fields(group):
            add(one.name, own[one.name], inspect.Parameter.empty if one.default is MISSING else one.default)

    @functools.wraps(command)
    def run(**typed: Any) -> None:
        made = {
            name: group(**{one.name: typed.pop(one.name) for one in fields(group)})
            for name, group in groups.items()
        }
        command(**typed, **made)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@dataclass(frozen=True)
class EngineFlags:
    """`options.EngineOptions` as typed."""

    model: Model = "mini"
    masks: Masks = "generate"
    device: Device = "auto"
    precision: Precision = "auto"
    runner: Runner = "auto"
    fetch: Fetch = False
    compute_batch: Annotated[
        int | None,
        typer.Option(help="rows of every decoding call; decides the last bits; 16 on a CPU, 256 on a GPU"),
    ] = None

    @property
    def options(self) -> EngineOptions:
        from v2f_engine.options import EngineOptions

        return EngineOptions(**vars(self))


@dataclass(frozen=True)
class NoiseFlags:
    """What is drawn of each image."""

    sigma: Annotated[str, typer.Option(help="noise levels around an identity; none with --by pose-model")] = (
        "0.3,0.5,0.7"
    )
    sigma_weights: Annotated[str, typer.Option(help="how often each level is drawn")] = "0.4,0.4,0.2"
    target_cosine: Annotated[
        str | None, typer.Option(help="levels as cosine to the identity instead of sigma, e.g. 0.9,0.8")
    ] = None
    perturbation: Annotated[
        str | None,
        typer.Option(
            help="how images lie around an identity, by the form's name: sigma:0.3,0.5,0.7@0.4,0.4,0.2, "
            "cosine:0.9,0.8, cone:0.6 (cosines from 0.6 up, nobody nearer to another; cone:0.6,unguarded), "
            "covariance:FILE (of `v2f ids within`)"
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="decides every vector, mask and image")] = 0

    @property
    def around(self) -> Around:
        """The one of these options that counts."""
        from v2f_engine.vectors.perturbation import Perturbation

        if self.perturbation is not None:
            return Perturbation.of(self.perturbation)
        levels, weights = numbers(self.sigma, "--sigma"), numbers(self.sigma_weights, "--sigma-weights")
        if self.target_cosine is None:
            return Perturbation(levels, weights)
        return Perturbation.target_cosine(*numbers(self.target_cosine, "--target-cosine"))


@dataclass(frozen=True)
class RateFlags:
    """A threshold by a false-match rate, the same in every command that has a threshold."""

    fmr: Annotated[
        float | None,
        typer.Option(help="false-match rate that sets the threshold instead, e.g. 1e-4; needs --calibration"),
    ] = None
    calibration: Annotated[
        Path | None,
        typer.Option(help="known people to calibrate --fmr on: a file of centres, or a dataset of faces"),
    ] = None
    recogniser: Judge = "mini"

    def excluded(self, places: list[Path] | None) -> Any:
        """Real people who may not be resembled: faces through the recogniser, files of vectors as they are."""
        if not places:
            return None
        from v2f_engine.pipeline.given import excluded_from

        return excluded_from(places, self.recogniser, note)

    def calibrated(self, cosine: float | None, images_per_id: int = 1) -> Calibration | None:
        """The threshold of the rate, or None where none is asked for.

        Args:
            cosine: the threshold given beside it, if any.
            images_per_id: images that a row of the comparison is the mean of.

        Raises:
            ConfigError: a rate and a cosine, a rate without people or people without a rate.
        """
        from v2f_engine.cli.dependent import VECTORS
        from v2f_engine.errors import ConfigError
        from v2f_engine.pipeline.references import calibrate_on_faces
        from v2f_engine.vectors.calibration import limit_of

        fmr, known = self.fmr, self.calibration
        if fmr is None and known is None:
            return None
        if fmr is not None and cosine is not None:
            raise ConfigError(f"Give either --fmr ({fmr:g}) or a cosine ({cosine:g}), not both.")
        if fmr is None or known is None or known.suffix.lower() in VECTORS:
            return limit_of(None, fmr, known)[1]
        with progress_bar("calibrate", "images") as progress:
            return calibrate_on_faces(
                known, self.recogniser, fmr=fmr, images_per_id=images_per_id, progress=progress
            )


def numbers(text: str, what: str) -> tuple[float, ...]:
    """`0.3,0.5,0.7` as floats; ConfigError where it is not such a list."""
    from v2f_engine.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{what}: expected numbers separated by commas, found {text!r}.") from error

"""`v2f export`: a checkpoint to ONNX or to a TensorRT engine, checked, with its sidecar."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.flags import Fetch, Model, grouped
from v2f_engine.cli.outputs import Overwrite, claimed
from v2f_engine.cli.saying import note, result, say

if TYPE_CHECKING:
    from v2f_engine.export.onnx import Exported, Progress

app = typer.Typer(no_args_is_help=True, help="Export a model to ONNX or TensorRT, checked before it is kept.")

EngineModel = Annotated[
    str, typer.Option(help="mini, vec2face, ..., a path to weights, or an .onnx of `v2f export onnx`")
]
EnginePrecision = Annotated[str, typer.Option(help="fp16, bf16, fp32, int8 or fp8")]
Plan = Annotated[Path, typer.Option(help="the .plan file; its sidecar .plan.json stands beside it")]
Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile", help="batches MIN,OPT,MAX, or one number for a static profile; may be repeated"
    ),
]
Level = Annotated[int, typer.Option(help="builder optimisation level 0 to 5; -1: the library's own")]


@dataclass(frozen=True)
class ExportFlags:
    """What is exported, and how it is checked before it is kept: `export.onnx.export_onnx`'s options."""

    part: Annotated[str, typer.Option(help="generator, or decoder alone")] = "generator"
    opset: Annotated[
        int, typer.Option(help="20: GroupNorm as InstanceNormalization; 21: GroupNormalization")
    ] = 20
    masks: Annotated[str, typer.Option(help="mask schedule it will be used with")] = "generate"
    recogniser: Annotated[str, typer.Option(help="judges whether the faces are the same people")] = "mini"
    check_images: Annotated[
        int, typer.Option("--check", help="faces compared with the fp32 eager runner; 0 for none")
    ] = 32
    force: Annotated[
        bool, typer.Option(help="keep it even if more than 0.005 of identity cosine is lost")
    ] = False
    fetch: Fetch = False


@app.command("onnx")
@grouped
def onnx(
    out: Annotated[Path, typer.Option(help="the .onnx file; its sidecar .onnx.json stands beside it")],
    *,
    model: Model = "mini",
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16, int8 or fp8")] = "fp32",
    flags: ExportFlags,
    overwrite: Overwrite = False,
) -> None:
    """Export to ONNX; checked by onnx.checker and against the fp32 eager runner."""
    from v2f_engine.export.onnx import export_onnx
    from v2f_engine.runtime.artefact import sidecar_path

    with claimed(overwrite, out, sidecar_path(out)), steps() as progress:
        made = export_onnx(model, out, precision=precision, progress=progress, **vars(flags))
        result(**summary(made))
    say(table(made))


@app.command("tensorrt")
@grouped
def tensorrt(
    out: Plan,
    *,
    model: EngineModel = "mini",
    precision: EnginePrecision = "fp16",
    profile: Profiles = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="file of kernel timings, read and written")
    ] = None,
    workspace: Annotated[
        float, typer.Option(help="GiB the builder may use for a layer; 0: the library's limit")
    ] = 0.0,
    level: Level = -1,
    flags: ExportFlags,
    overwrite: Overwrite = False,
) -> None:
    """Build an engine for this machine's GPU with TensorRT 10 or 11."""
    from v2f_engine.export.tensorrt import BuildSettings, export_engine, profile_of
    from v2f_engine.runtime.artefact import sidecar_path

    profiles = tuple(profile_of(text) for text in profile or ["1,64,256"])
    settings = BuildSettings(profiles, (), workspace, level, timing_cache)
    with claimed(overwrite, out, sidecar_path(out)), steps() as progress:
        made = export_engine(
            "tensorrt", model, out, precision=precision, settings=settings, progress=progress, **vars(flags)
        )
        result(**summary(made))
    say(table(made))


@app.command("tensorrt-rtx")
@grouped
def tensorrt_rtx(
    out: Plan,
    *,
    model: EngineModel = "mini",
    precision: EnginePrecision = "fp16",
    profile: Profiles = None,
    target: Annotated[
        list[str] | None, typer.Option(help="sm75, sm80, sm86, sm89, sm120, ...; may be repeated")
    ] = None,
    level: Level = -1,
    flags: ExportFlags,
    overwrite: Overwrite = False,
) -> None:
    """Build an engine for RTX cards with TensorRT-RTX; needs no GPU."""
    from v2f_engine.export.tensorrt import TARGETS, BuildSettings, export_engine, profile_of
    from v2f_engine.runtime.artefact import sidecar_path

    profiles = tuple(profile_of(text) for text in profile or ["1,64,256"])
    settings = BuildSettings(profiles, tuple(target or TARGETS), 0.0, level)
    with claimed(overwrite, out, sidecar_path(out)), steps() as progress:
        made = export_engine(
            "tensorrt-rtx", model, out, precision=precision, settings=settings, progress=progress,
            **vars(flags),
        )  # fmt: skip
        result(**summary(made))
    say(table(made))


@app.command("verify")
def verify(file: Annotated[Path, typer.Argument(help="an .onnx or .plan of `v2f export`")]) -> None:
    """Check an exported file: hashes, structure, version, GPU; says what this machine cannot check."""
    from v2f_engine.export.verify import verify as check

    found = check(file)
    model = found.sidecar.model
    result(file=file, sidecar=found.sidecar, passed=found.passed, left=found.left)
    say(f"{file}: {found.sidecar.kind}, {found.sidecar.part}, {found.sidecar.precision}")
    say(f"weights  {model['name']} {str(model['sha256'])[:16]}, licence {model['licence']}")
    for words in found.passed:
        say(f"ok       {words}")
    for words in found.left:
        say(f"open     {words}")
    if found.sidecar.accuracy:
        say(f"error    {accuracy(found.sidecar.accuracy)}")


@contextmanager
def steps() -> Iterator[Progress]:
    """Prints each step with the seconds since the start, on stderr."""
    start = time.perf_counter()

    def step(name: str) -> None:
        note(f"{time.perf_counter() - start:7.1f} s  {name}")

    yield step


def accuracy(of: Mapping[str, Any]) -> str:
    """One line of a sidecar's accuracy."""
    return (
        f"max {of['max_grey']}, RMS {of['rms_grey']:.3f} grey levels, {100 * of['within_one']:.3f} % within one;"
        f" identity cosine mean {of['mean_cosine']:.5f}, worst {of['min_cosine']:.5f}"
        f" ({of['images']} faces, {of['measured_with']})"
    )


def summary(made: Exported) -> dict[str, Any]:
    """The same for a script; `accuracy` is null where it was not measured."""
    sidecar, parity = made.sidecar, made.parity
    return {
        "out": made.path,
        "bytes": made.bytes,
        "layers": made.layers,
        "seconds": made.seconds,
        "kind": sidecar.kind,
        "part": sidecar.part,
        "model": sidecar.model,
        "precision": sidecar.precision,
        "profiles": sidecar.profiles,
        "built_for": sidecar.built_for,
        "files": sidecar.files,
        "accuracy": sidecar.accuracy or None,
        "images_per_second": None if parity is None else parity.images_per_second,
    }


def table(made: Exported) -> str:
    """The summary that ends an export."""
    sidecar = made.sidecar
    rows = {
        "file": f"{made.path} ({made.bytes / 1e6:.1f} MB)",
        "what": f"{sidecar.kind}, {sidecar.part} of {sidecar.model['name']}, {sidecar.precision}",
        "layers": f"{made.layers:,}",
        "took": f"{made.seconds:.1f} s",
    }
    if sidecar.profiles:
        rows["batches"] = ", ".join(f"{low}/{best}/{high}" for low, best, high in sidecar.profiles)
        rows["for"] = ", ".join(map(str, sidecar.built_for.values()))
    rows["error"] = accuracy(sidecar.accuracy) if sidecar.accuracy else "not measured (--check 0)"
    if made.parity is not None:
        rows["rate"] = f"{made.parity.images_per_second:.1f} images/s in the last batch of the check"
    return "\n".join(f"{name:8} {value}" for name, value in rows.items())

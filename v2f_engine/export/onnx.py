"""A checkpoint to a checked ONNX file with its sidecar.

The graph is written into a hidden folder beside its place, checked by onnx.checker, run on generated faces
against the fp32 eager runner, and only then moved into place: a file that stands there has been measured.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from v2f_engine.config import one_of
from v2f_engine.errors import ArtefactError, BackendUnavailable, ConfigError, OutputFolderError
from v2f_engine.export import graph, quantise
from v2f_engine.export.parity import Judge, Parity, draw_inputs, eager_part, exact_images
from v2f_engine.models.embedder import open_reader
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule
from v2f_engine.models.registry import models_folder
from v2f_engine.models.weights import LoadedModel, load_generator
from v2f_engine.runtime.artefact import (
    PARTS,
    ServedModel,
    Sidecar,
    bind_statistics,
    read_sidecar,
    sha256_of,
    sidecar_path,
)
from v2f_engine.runtime.onnx import OnnxSession, check_structure
from v2f_engine.version import VERSION

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
CALIBRATION_IMAGES, CALIBRATION_SEED = 32, 1
"""Of int8 and fp8; other faces than those an export is judged on."""
INLINE_BYTES = 1_800_000_000
"""Weights beyond this go into a second file: protobuf ends at 2 GiB. Only `huge` in fp32 does."""

Progress = Callable[[str], None]
"""Told what begins: `trace`, `write`, ..."""


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Args:
        path: of the file; its sidecar stands beside it.
        sidecar: what that says.
        parity: measured before the file was put in place; None where it was not asked for.
        layers: operators of the graph, or layers of the engine's network.
        bytes: of all files without the sidecar.
        seconds: of tracing and writing, or of building.
    """

    path: Path
    sidecar: Sidecar
    parity: Parity | None
    layers: int
    bytes: int
    seconds: float


def schedule_named(masks: str | MaskSchedule) -> MaskSchedule:
    """A schedule by name; ConfigError where nobody knows it."""
    return (
        masks if isinstance(masks, MaskSchedule) else MASK_SCHEDULES[one_of("masks", masks, MASK_SCHEDULES)]
    )


def export_onnx(
    model: str | Path | LoadedModel = "mini",
    out: str | Path = "model.onnx",
    *,
    part: str = "generator",
    precision: str = "fp32",
    opset: int = 20,
    masks: str | MaskSchedule = "generate",
    recogniser: str | Path = "mini",
    check_images: int = 32,
    judge: Judge | None = None,
    force: bool = False,
    fetch: bool = False,
    progress: Progress = lambda step: None,
) -> Exported:
    """Exports a model, or a part of it, checked and measured.

    Args:
        model: a name, a path to weights, or a loaded generator.
        out: the `.onnx` file; replaced if there is one.
        part: `generator`, or `decoder` alone.
        precision: type of weights and activations: `fp32`, `fp16` or `bf16`; `int8` and `fp8` are fp16 with the
            decoder's inner convolutions quantised (`export.quantise`).
        opset: 20 (GroupNorm as InstanceNormalization) or 21 (GroupNormalization).
        masks: the schedule it will be used with; its minimum decides the shapes.
        recogniser: whose features say whether the faces are the same people.
        check_images: faces that are compared; 0 leaves the comparison out, and the sidecar says so.
        judge: faces made before, for several exports of one model; overrides `recogniser` and `check_images`.
        force: keep an export that loses too much identity.
        fetch: allow published weights to be downloaded.
        progress: told each step.

    Raises:
        AccuracyLoss: more than 0.005 of mean identity cosine is lost.
        ConfigError, ModelNotFound, CheckpointError, MissingDependency, OutputFolderError: as named.
    """
    out = Path(out)
    if out.suffix != ".onnx":
        raise ConfigError(f"out: expected a name that ends in .onnx, found {out.name!r}.")
    schedule = schedule_named(masks)
    one_of("part", part, PARTS)
    one_of("precision", precision, PRECISIONS)
    loaded = model if isinstance(model, LoadedModel) else load_generator(model, fetch=fetch)
    refuse_pose(loaded)
    started = time.perf_counter()
    progress("trace")
    quantised = precision in quantise.LEVELS
    module = graph.part_of(loaded.model, part, "fp16" if quantised else precision, schedule.n_dropped)
    program = graph.trace(module, opset)
    about = about_model(loaded)
    graph.describe(
        program,
        {"part": part, "precision": precision, "n_dropped": schedule.n_dropped, **about, **versions()},
    )
    with staging(out) as folder:
        progress("write")
        staged = folder / out.name
        names = save_program(program, staged)
        layers = len(program.model.graph)
        del program
        if quantised:
            progress("calibrate")
            inputs = draw_inputs(loaded, schedule, CALIBRATION_IMAGES, CALIBRATION_SEED)
            rows = (exact_images(loaded, inputs, schedule)[1],) if part == "decoder" else inputs
            quantise.quantise(staged, precision, rows)
        statistics, copied = bind_statistics(staged, loaded.statistics)
        sidecar = Sidecar(
            kind="onnx",
            part=part,
            precision=precision,
            files={**{name: sha256_of(folder / name) for name in names}, **copied},
            model={**about, "statistics": statistics},
            n_dropped=schedule.n_dropped,
            built_with={**versions(), "opset": str(opset)},
        )
        sidecar.write(staged)
        progress("check")
        check_file(staged, sidecar)
        seconds = time.perf_counter() - started
        parity = None
        if judge is None and check_images:
            progress("compare")
            judge = Judge.of(loaded, open_reader(recogniser, fetch=fetch), schedule, images=check_images)
        if judge is not None:
            parity = measure_onnx(staged, loaded, judge)
            parity.require(f"{out.name} ({precision})", force)
            sidecar = replace(sidecar, accuracy=parity.describe())
            sidecar.write(staged)
        size = sum((folder / name).stat().st_size for name in names)
        put_in_place(folder, out.parent, [*names, *copied, sidecar_path(staged).name])
    return Exported(out, sidecar, parity, layers, size, seconds)


def refuse_pose(loaded: LoadedModel) -> None:
    """Raises ConfigError for a network that takes landmarks."""
    if loaded.pose is not None:
        raise ConfigError(
            f"{loaded.path}: has a landmark condition, which the exported graph does not take yet."
        )


def measure_onnx(path: Path, loaded: LoadedModel, judge: Judge) -> Parity:
    """A graph in onnxruntime on the CPU; a type it has no kernels for, in torch's op by op arithmetic."""
    try:
        session = OnnxSession(path)
    except BackendUnavailable as reason:
        sidecar = read_sidecar(path)
        why = f"torch {torch.__version__} eager {sidecar.precision}, not the graph itself: {reason}"
        return judge.measure(eager_part(loaded, sidecar), sidecar.part, why)
    return judge.measure(session, session.sidecar.part, f"onnxruntime {session.version} {session.provider}")


def check_file(path: Path, sidecar: Sidecar) -> None:
    """onnx.checker on the file, and our own structural check. Raises ArtefactError."""
    import onnx

    check_structure(path, sidecar)
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise ArtefactError(f"{path}: onnx.checker refuses it ({str(error).splitlines()[0]}).") from error


def save_program(program: ONNXProgram, path: Path) -> list[str]:
    """Writes the program; the names of its one or two files."""
    weights = sum(
        value.const_value.nbytes for value in program.model.graph.initializers.values() if value.const_value
    )
    program.save(path, external_data=weights > INLINE_BYTES)
    return sorted(file.name for file in path.parent.iterdir())


def about_model(loaded: LoadedModel) -> dict[str, Any]:
    """What an exported file says of the weights inside."""
    return {
        "name": loaded.name,
        "sha256": loaded.sha256,
        "licence": loaded.licence,
        "max_cosine": loaded.max_cosine,
        "config": loaded.config.to_json(),
    }


def versions() -> dict[str, str]:
    """Package -> version of what makes an ONNX file."""
    told = {name: metadata.version(name) for name in ("onnx", "onnxscript", "torch")}
    return {**told, "v2f_engine": VERSION}


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, removed at the end whatever happens.

    Raises:
        OutputFolderError: the folder of `out` cannot be made or written.
    """
    folder = out.parent / f".{out.name}.staging"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputFolderError(
            f"{out.parent}: cannot be written ({error.strerror}). Give a writable folder."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: Path, target: Path, names: list[str]) -> None:
    """Moves files out of staging; the sidecar, which is last, makes them count."""
    for name in names:
        (folder / name).replace(target / name)


def cache_of(loaded: LoadedModel, precision: str, masks: MaskSchedule) -> Path:
    """Where `cached_onnx` keeps the file of these weights."""
    name = f"{loaded.sha256[:16]}-{precision}-{masks.n_dropped}-{VERSION}.onnx"
    return models_folder() / "exported" / name


def cached_onnx(
    model: str | Path,
    precision: str,
    masks: MaskSchedule,
    *,
    fetch: bool = False,
    progress: Progress = lambda step: None,
) -> ServedModel:
    """An exported generator for `--runner onnx`, made on first use and kept in the models folder.

    Raises as `export_onnx`; a kept file that is damaged is refused by name, not replaced.
    """
    loaded = load_generator(model, fetch=fetch)
    path = cache_of(loaded, precision, masks)
    if not sidecar_path(path).is_file():
        export_onnx(loaded, path, precision=precision, masks=masks, check_images=0, progress=progress)
    return ServedModel(loaded.name, path, loaded.sha256, loaded.licence, loaded.statistics, loaded.max_cosine)

"""ONNX to a TensorRT engine, through whichever of the two libraries: `tensorrt` (10, 11) or `tensorrt_rtx`.

Networks are strongly typed: the types are the graph's own, which is the only way TensorRT 11 and RTX know. The
datacenter library builds for the GPU it finds and times kernels on it; the RTX one builds ahead of time for
compute capabilities that are named, without a GPU. A timing cache makes the RTX builder look for a GPU (its
release notes say so), so only the other one gets it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2f_engine.atomic import write_atomically
from v2f_engine.config import at_least, between, one_of
from v2f_engine.errors import ArtefactError, BackendUnavailable, ConfigError
from v2f_engine.export.onnx import Exported, Progress, export_onnx, put_in_place, schedule_named, staging
from v2f_engine.export.parity import BATCH, Judge, Parity
from v2f_engine.models.embedder import open_reader
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.models.weights import LoadedModel, load_generator
from v2f_engine.runtime.artefact import (
    Sidecar,
    bind_statistics,
    open_artefact,
    served_model,
    sha256_of,
    sidecar_path,
)
from v2f_engine.runtime.onnx import check_structure, padded
from v2f_engine.runtime.tensorrt import FLAVOURS, EngineCall, Flavour, Gpu, read_plan

Profile = tuple[int, int, int]
TARGETS = ("sm86", "sm89", "sm120")
"""GeForce and RTX cards of Ampere, Ada and Blackwell."""


@dataclass(frozen=True)
class BuildSettings:
    """How an engine is built.

    Args:
        profiles: (min, opt, max) batches; one number for all three makes a static profile.
        targets: compute capabilities, for the RTX builder only.
        workspace_gib: memory the builder may use for a layer; the library's own limit where 0.
        level: builder optimisation level 0..5, -1 for the library's own.
        timing_cache: file of timings, read and written; not for RTX.
    """

    profiles: tuple[Profile, ...] = ((1, 64, 256),)
    targets: tuple[str, ...] = TARGETS
    workspace_gib: float = 0.0
    level: int = -1
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        at_least("profiles", len(self.profiles), 1)
        for profile in self.profiles:
            if len(profile) != 3 or not 1 <= profile[0] <= profile[1] <= profile[2]:
                raise ConfigError(f"profile {profile}: expected min <= opt <= max, from 1, e.g. 1,64,256.")
        at_least("workspace_gib", self.workspace_gib, 0)
        between("level", self.level, -1, 5)


def profile_of(text: str) -> Profile:
    """`1,64,256`, or `64` for a static one; ConfigError for anything else."""
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"profile {text!r}: expected MIN,OPT,MAX or one number, e.g. 1,64,256.")
    numbers = [int(part) for part in parts]
    return (numbers[0],) * 3 if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


@dataclass(frozen=True)
class Built:
    """A serialised engine: its bytes, layers of the network, seconds, and what the library warned of."""

    plan: bytes
    layers: int
    seconds: float
    warnings: tuple[str, ...]


def build_engine(
    library: Any, flavour: Flavour, onnx: Path, settings: BuildSettings, progress: Progress
) -> Built:
    """Parses an ONNX file and builds an engine from it.

    Raises:
        ArtefactError: the parser refuses the graph; the message has its first error.
        BackendUnavailable: no GPU for a builder that needs one, or a build that failed.
        ConfigError: a target that this library does not know.
    """
    if not flavour.portable and not torch.cuda.is_available():
        raise BackendUnavailable(
            f"{flavour.module} builds on the GPU it builds for, and torch sees none here. Without one: `v2f export"
            " tensorrt-rtx` (engines for RTX cards) and `v2f export onnx`, which this command takes as --model"
            " on a GPU machine."
        )
    log = _log(library)
    builder = library.Builder(log)
    network = builder.create_network(_network_flags(library))
    parser = library.OnnxParser(network, log)
    progress("parse")
    if not parser.parse_from_file(str(onnx)):
        words = [str(parser.get_error(i)).strip().splitlines()[0] for i in range(parser.num_errors)]
        raise ArtefactError(
            f"{onnx}: {flavour.module} refuses the graph: {words[0] if words else log.told[-1:]}."
        )
    layers = int(network.num_layers)
    config = builder.create_builder_config()
    _add_profiles(builder, network, config, settings)
    if flavour.portable:
        _set_targets(library, config, settings.targets)
    if settings.workspace_gib:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, int(settings.workspace_gib * 2**30))
    if settings.level >= 0:
        config.builder_optimization_level = settings.level
    cache = _timing_cache(config, flavour, settings)
    _report(library, config, progress)
    started = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendUnavailable(f"{onnx}: {flavour.module} could not build it: {'; '.join(log.told[-3:])}")
    if cache is not None and settings.timing_cache is not None:
        write_atomically(settings.timing_cache, bytes(config.get_timing_cache().serialize()))
    return Built(bytes(plan), layers, time.perf_counter() - started, tuple(log.told))


def _log(library: Any) -> Any:
    """A logger that keeps warnings and errors instead of printing them."""

    class Log(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.told: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= library.ILogger.Severity.WARNING:
                self.told.append(message)

    return Log()


def _network_flags(library: Any) -> int:
    """Strongly typed; a library that knows no other kind has no flag for it."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _add_profiles(builder: Any, network: Any, config: Any, settings: BuildSettings) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for sizes in settings.profiles:
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            rest = tuple(tensor.shape)[1:]
            profile.set_shape(tensor.name, *((rows, *rest) for rows in sizes))
        config.add_optimization_profile(profile)


def _set_targets(library: Any, config: Any, targets: Sequence[str]) -> None:
    known = {
        name.lower(): value
        for name, value in library.ComputeCapability.__members__.items()
        if name[:2] == "SM"
    }
    chosen = [known[one_of("target", target, known)] for target in targets]
    at_least("targets", len(chosen), 1)
    config.num_compute_capabilities = len(chosen)
    for index, capability in enumerate(chosen):
        config.set_compute_capability(capability, index)


def _timing_cache(config: Any, flavour: Flavour, settings: BuildSettings) -> Any | None:
    if settings.timing_cache is None:
        return None
    if flavour.portable:
        raise ConfigError("A timing cache has no use here: the RTX builder times nothing. Leave it out.")
    held = settings.timing_cache.read_bytes() if settings.timing_cache.is_file() else b""
    cache = config.create_timing_cache(held)
    if not config.set_timing_cache(cache, False):
        raise ArtefactError(
            f"{settings.timing_cache}: is of another version or GPU. Delete it, or name another."
        )
    return cache


def _report(library: Any, config: Any, progress: Progress) -> None:
    """The builder's own phases, where the library has a monitor."""
    if not hasattr(library, "IProgressMonitor"):
        progress("build")
        return

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                progress(f"build: {phase_name}")

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    config.progress_monitor = Monitor()


def export_engine(
    kind: str,
    model: str | Path | LoadedModel = "mini",
    out: str | Path = "engine.plan",
    *,
    part: str = "generator",
    precision: str = "fp16",
    opset: int = 20,
    masks: str | MaskSchedule = "generate",
    settings: BuildSettings | None = None,
    recogniser: str | Path = "mini",
    check_images: int = 32,
    judge: Judge | None = None,
    force: bool = False,
    fetch: bool = False,
    progress: Progress = lambda step: None,
    library: Any | None = None,
) -> Exported:
    """Builds an engine, from weights or from an ONNX file exported before.

    Args:
        kind: `tensorrt` or `tensorrt-rtx`.
        model: a name, weights, a loaded generator, or an `.onnx` of `export_onnx` (part and precision are its).
        out: the `.plan` file. From weights, its ONNX file is kept beside it: `engine.onnx`.
        settings: profiles, targets, cache, workspace, level.
        library: the TensorRT module, for tests.
        part, precision, opset, masks, recogniser, check_images, judge, force, fetch, progress: as `export_onnx`.

    Returns:
        what was made; its parity is the engine's own where a GPU could run it, else its ONNX graph's.

    Raises:
        MissingDependency: the library is not installed; the message is the install line.
        BackendUnavailable, ArtefactError, AccuracyLoss, ConfigError: as named in `build_engine` and `export_onnx`.
    """
    flavour = FLAVOURS[one_of("kind", kind, FLAVOURS)]
    settings = settings or BuildSettings()
    out = Path(out)
    if out.suffix != ".plan":
        raise ConfigError(f"out: expected a name that ends in .plan, found {out.name!r}.")
    library = library or flavour.library()
    if isinstance(model, LoadedModel) or Path(model).suffix != ".onnx":
        loaded = model if isinstance(model, LoadedModel) else load_generator(model, fetch=fetch)
        schedule = schedule_named(masks)
        if judge is None and check_images:
            judge = Judge.of(loaded, open_reader(recogniser, fetch=fetch), schedule, images=check_images)
        graph = export_onnx(
            loaded, out.with_suffix(".onnx"), part=part, precision=precision, opset=opset, masks=schedule,
            check_images=0, judge=judge, force=force, progress=progress,
        )  # fmt: skip
        onnx, source = graph.path, graph.sidecar
    else:
        onnx, source = Path(model), open_artefact(model)
        check_structure(onnx, source)
    built = build_engine(library, flavour, onnx, settings, progress)
    with staging(out) as folder:
        staged = folder / out.name
        write_atomically(staged, built.plan)
        told, copied = _bound_as(onnx, source, staged)
        sidecar = replace(
            source,
            kind=kind,
            files={out.name: sha256_of(staged), **copied},
            model={**source.model, **told},
            profiles=settings.profiles,
            built_with={**source.built_with, flavour.module: library.__version__},
            built_for=_built_for(flavour, settings),
            source=source.files[onnx.name],
            accuracy=_graphs_own(source),
        )
        sidecar.write(staged)
        parity = None
        if judge is not None and runs_here(sidecar):
            progress("compare")
            parity = measure_engine(staged, sidecar, judge, library)
            parity.require(f"{out.name} ({source.precision})", force)
            sidecar = replace(sidecar, accuracy=parity.describe())
            sidecar.write(staged)
        put_in_place(folder, out.parent, [out.name, *copied, sidecar_path(staged).name])
    return Exported(out, sidecar, parity, built.layers, len(built.plan), built.seconds)


def _bound_as(onnx: Path, source: Sidecar, staged: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What an engine's sidecar says of statistics, those of its graph, and the files written for it."""
    served = served_model(onnx, source)
    if served.statistics is None:
        return {}, {}
    bound, copied = bind_statistics(staged, served.statistics, served.statistics_name)
    return {"statistics": bound}, copied


def _graphs_own(source: Sidecar) -> dict[str, Any]:
    """The ONNX graph's accuracy, said to be that."""
    if not source.accuracy:
        return {}
    told = f"the ONNX graph, not the engine, which has not run: {source.accuracy['measured_with']}"
    return {**source.accuracy, "measured_with": told}


def _built_for(flavour: Flavour, settings: BuildSettings) -> dict[str, Any]:
    if flavour.portable:
        return {"compute_capabilities": list(settings.targets)}
    gpu = Gpu.of(torch.device("cuda"))
    return {"compute_capabilities": [gpu.capability], "gpu": gpu.name}


def runs_here(sidecar: Sidecar) -> bool:
    """Whether there is a GPU of the kind the engine was built for."""
    if not torch.cuda.is_available():
        return False
    return Gpu.of(torch.device("cuda")).capability in sidecar.built_for["compute_capabilities"]


def measure_engine(path: Path, sidecar: Sidecar, judge: Judge, library: Any, device: str = "cuda") -> Parity:
    """The engine itself on the judge's faces; needs the GPU it was built for."""
    names = ("grid",) if sidecar.part == "decoder" else ("vectors", "noise", "n_masked")
    low, _, high = sidecar.profiles[0]
    size = min(max(BATCH, low), high)
    plan = read_plan(path, sidecar)

    def padded_inputs(rows: tuple[Any, ...], start: int) -> dict[str, torch.Tensor]:
        parts = (padded(part[start : start + size], size) for part in rows)
        return {name: torch.from_numpy(part).to(device) for name, part in zip(names, parts, strict=True)}

    first = padded_inputs(judge.rows(sidecar.part), 0)
    engine = EngineCall(library, plan, first, 0, path)

    def call(*rows: Any) -> Any:
        starts = range(0, len(rows[0]), size)
        made = [engine(padded_inputs(rows, start)).cpu().numpy().copy() for start in starts]
        return np.concatenate(made)[: len(rows[0])]

    name = Gpu.of(torch.device(device)).name if device.startswith("cuda") else device
    return judge.measure(call, sidecar.part, f"{library.__name__} {library.__version__} on {name}")

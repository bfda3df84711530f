"""Whether an exported file is what its sidecar says, as far as this machine can tell: `v2f export verify`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from v2f_engine.errors import ArtefactError, MissingDependency
from v2f_engine.runtime.artefact import Sidecar, open_artefact
from v2f_engine.runtime.onnx import OnnxSession, check_structure
from v2f_engine.runtime.tensorrt import FLAVOURS, Gpu, check_engine


@dataclass(frozen=True)
class Verified:
    """What was checked.

    Args:
        sidecar: of the file.
        passed: checks that passed, in words.
        left: checks that this machine cannot make, with the reason.
    """

    sidecar: Sidecar
    passed: tuple[str, ...]
    left: tuple[str, ...]


def verify(path: str | Path) -> Verified:
    """Checks an exported file.

    Raises:
        ModelNotFound, ArtefactError: it is missing, damaged, changed, foreign, or not for this machine.
        MissingDependency: onnx is not installed, for an ONNX file.
    """
    path = Path(path)
    sidecar = open_artefact(path)
    passed = [f"sha256 of {len(sidecar.files)} file(s)"]
    if sidecar.kind == "onnx":
        return _verify_onnx(path, sidecar, passed)
    return _verify_engine(path, sidecar, passed)


def _verify_onnx(path: Path, sidecar: Sidecar, passed: list[str]) -> Verified:
    import onnx

    model, left = check_structure(path, sidecar), []
    onnx.checker.check_model(str(path))
    passed.append(f"onnx.checker {metadata.version('onnx')}, {len(model.graph.node)} operators")
    told = {entry.key: entry.value for entry in model.metadata_props}
    wanted = {
        "v2f.sha256": str(sidecar.model["sha256"]),
        "v2f.part": sidecar.part,
        "v2f.precision": sidecar.precision,
        "v2f.n_dropped": str(sidecar.n_dropped),
    }
    odd = [key for key, value in wanted.items() if told.get(key) != value]
    if odd:
        raise ArtefactError(f"{path}: the graph and its sidecar disagree about {odd}. Export again.")
    passed.append("graph and sidecar name the same weights")
    try:
        session = OnnxSession(path)
        passed.append(f"onnxruntime {session.version} loads it")
    except (MissingDependency, RuntimeError) as error:  # no package, or no kernels for the graph's types
        left.append(str(error))
    return Verified(sidecar, tuple(passed), tuple(left))


def _verify_engine(path: Path, sidecar: Sidecar, passed: list[str]) -> Verified:
    flavour, left = FLAVOURS[sidecar.kind], []
    try:
        library = flavour.library()
    except MissingDependency as error:
        return Verified(sidecar, tuple(passed), (str(error),))
    if torch.cuda.is_available():
        check_engine(path, sidecar, library.__version__, Gpu.of(torch.device("cuda")))
        passed.append(f"built by this {flavour.module} {library.__version__}, for this GPU")
    else:
        told = sidecar.built_for.get("compute_capabilities", ["no"])
        check_engine(path, sidecar, library.__version__, Gpu(str(sidecar.built_for.get("gpu")), str(told[0])))
        passed.append(f"built by this {flavour.module} {library.__version__}")
        left.append("no GPU here: whether the library reads it, and its own error, stay open")
    return Verified(sidecar, tuple(passed), tuple(left))

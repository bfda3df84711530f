"""Generation through onnxruntime: an exported graph as a runner, on a CPU or, with onnxruntime-gpu, on a GPU.

A file is opened in this order: its sidecar, the sha256 of every file, the graph's own structure (operators of
the standard domain only, external data only in files the sidecar names), and only then by onnxruntime.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from v2f_kernels._extras import install

from v2f_engine.errors import ArtefactError, BackendUnavailable, ConfigError, MissingDependency
from v2f_engine.ranges import stage
from v2f_engine.runtime import Inputs
from v2f_engine.runtime.artefact import ServedModel, Sidecar, open_artefact

if TYPE_CHECKING:
    from v2f_engine.backends import Choice
    from v2f_engine.models.weights import LoadedModel

_DOMAINS = ("", "ai.onnx")
_NO_CPU_KERNELS = ("bf16",)
"""Its CPU provider calls such a Conv an invalid graph (1.32)."""


def onnxruntime() -> Any:
    """The package, with its usage reports off: they are written at import otherwise.

    Raises:
        MissingDependency: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency(f"The onnx runner needs onnxruntime: {install('onnx')}.") from error
    return ort


def check_structure(path: Path, sidecar: Sidecar) -> Any:
    """The parsed graph, without its external data, if it holds nothing but a standard graph.

    Raises:
        ArtefactError: not ONNX, truncated, an operator of a foreign domain, or external data elsewhere than in
            the files of the sidecar.
        MissingDependency: onnx is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingDependency(f"Reading an ONNX file needs onnx: {install('onnx')}.") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ArtefactError(f"{path}: is truncated or not ONNX ({error}). Export again.") from error
    if not model.graph.node or not model.opset_import:
        raise ArtefactError(f"{path}: holds no graph. Export again.")
    for imported in model.opset_import:
        if imported.domain not in _DOMAINS:
            raise ArtefactError(f"{path}: uses operators of the domain {imported.domain!r}. Refused.")
    for node in model.graph.node:
        if node.domain not in _DOMAINS:
            raise ArtefactError(f"{path}: uses the operator {node.domain}:{node.op_type}. Refused.")
    for name, location in _external(model):
        if location not in sidecar.files or Path(location).name != location:
            raise ArtefactError(
                f"{path}: the data of {name!r} lie in {location!r}, not in a file beside it that its sidecar"
                " names. Refused."
            )
    return model


def _external(model: Any) -> Iterator[tuple[str, str]]:
    """(tensor, file) of every tensor whose data are outside, in initialisers and in attributes."""
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            if attribute.HasField("g") or attribute.graphs:
                yield node.name, "a subgraph"  # our graphs have none; nothing is looked for inside
    for tensor in tensors:
        if tensor.data_location == 1 or tensor.external_data:
            places = [entry.value for entry in tensor.external_data if entry.key == "location"]
            yield tensor.name, places[0] if len(places) == 1 else "several places"


class OnnxSession:
    """An exported part in onnxruntime.

    Args:
        path: of the `.onnx`; checked as told above.
        device: `cpu`, or `cuda:N` with onnxruntime-gpu.
        threads: of one call; as many as torch uses where 0, so that OMP_NUM_THREADS holds for both.

    Raises:
        ModelNotFound, ArtefactError: as `artefact.open_artefact` and `check_structure`.
        BackendUnavailable: this onnxruntime has no provider for the device, or no kernel for the graph's types.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu", threads: int = 0) -> None:
        self.path = Path(path)
        self.sidecar = open_artefact(self.path)
        ort = onnxruntime()
        self.provider, options = provider_for(ort, device, self.sidecar.precision, self.path)
        check_structure(self.path, self.sidecar)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads or torch.get_num_threads()
        settings.use_deterministic_compute = True
        settings.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(self.path, settings, providers=[(self.provider, options)])
        except Exception as error:  # onnxruntime raises a family of its own, without a common public root
            words = str(error).splitlines()[0]
            raise ArtefactError(f"{self.path}: onnxruntime refuses it ({words}). Export again.") from error
        self.version = ort.__version__
        self.inputs = [value.name for value in self.session.get_inputs()]

    def __call__(self, *rows: NDArray[Any]) -> NDArray[np.uint8]:
        """uint8 `[B, 112, 112, 3]` of the part's inputs."""
        made: NDArray[np.uint8] = self.session.run(None, dict(zip(self.inputs, rows, strict=True)))[0]
        return made


def provider_for(ort: Any, device: str, precision: str, path: Path) -> tuple[str, dict[str, Any]]:
    """(provider, its options) of a device for a file of that precision.

    Raises:
        BackendUnavailable: this onnxruntime has no provider for the device, or no kernel for the precision.
    """
    kind, _, index = device.partition(":")
    name = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[kind]
    if name not in ort.get_available_providers():
        raise BackendUnavailable(
            f"This onnxruntime ({ort.__version__}) has no {name}: pip install onnxruntime-gpu, or device='cpu'."
        )
    if precision in _NO_CPU_KERNELS and kind == "cpu":
        raise BackendUnavailable(
            f"{path}: onnxruntime has no CPU kernels for {precision}. Export fp32 or fp16."
        )
    return name, {"device_id": index or "0"} if kind == "cuda" else {}


def padded(rows: NDArray[Any], batch_size: int) -> NDArray[Any]:
    """`batch_size` rows, the last one repeated. Raises ConfigError where there are none or more."""
    if not 1 <= len(rows) <= batch_size:
        raise ConfigError(
            f"A runner of batch size {batch_size} expected 1 to {batch_size} rows, found {len(rows)}."
        )
    return np.concatenate([rows, np.repeat(rows[-1:], batch_size - len(rows), axis=0)])


class OnnxRunner:
    """A whole generator in onnxruntime; the contract of `Runner`.

    Args:
        session: of a file whose part is `generator`.
        batch_size: rows of every call.
        n_dropped: of the mask schedule.

    Raises:
        ConfigError: a file that holds the decoder alone, or another number of dropped rows.
    """

    def __init__(self, session: OnnxSession, *, n_dropped: int, batch_size: int) -> None:
        require_generator(session.path, session.sidecar, n_dropped)
        self.session = session
        self.n_dropped = n_dropped
        self.batch_size = batch_size

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        with stage("decode"):
            made = self.session(*(padded(part, self.batch_size) for part in (vectors, noise, n_masked)))
        return made[: len(vectors)]

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        """Images of each batch, one call after the other."""
        for inputs in batches:
            yield self(*inputs)

    def describe(self) -> dict[str, Any]:
        return {
            "runner": "onnx",
            "batch_size": self.batch_size,
            "precision": self.session.sidecar.precision,
            "provider": self.session.provider,
            "onnxruntime": self.session.version,
            "file": self.session.sidecar.files[self.session.path.name],
        }


def require_generator(path: Path, sidecar: Sidecar, n_dropped: int) -> None:
    """Raises ConfigError unless the file holds a whole generator for this number of dropped rows."""
    if sidecar.part != "generator":
        raise ConfigError(
            f"{path}: holds the {sidecar.part} alone; generation needs all of it: v2f export --part generator."
        )
    if sidecar.n_dropped != n_dropped:
        raise ConfigError(
            f"{path}: was exported for masks that drop {sidecar.n_dropped} rows, these masks drop {n_dropped}."
            " Export with --masks of the same name."
        )


def open_onnx(
    loaded: LoadedModel | ServedModel, choice: Choice, n_dropped: int, batch_size: int
) -> OnnxRunner:
    """The onnx runner of an exported file."""
    if not isinstance(loaded, ServedModel):
        raise ConfigError(
            f"The onnx runner serves exported files, found weights: {loaded.path}. Export them first."
        )
    return OnnxRunner(
        OnnxSession(loaded.path, device=choice.device), n_dropped=n_dropped, batch_size=batch_size
    )

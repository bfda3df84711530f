"""Generation through a TensorRT engine, datacenter (`tensorrt` 10 and 11) or RTX (`tensorrt_rtx`), captured as a
CUDA graph.

Both libraries have the same interface under two names; `FLAVOURS` holds what differs. An engine is code for one
version of the library and for one kind of GPU, so it is opened in this order: its sidecar, its sha256, the
library's version, the GPU, and only then the library's own reader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from v2f_engine.backends import Choice
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.errors import ArtefactError, BackendUnavailable, ConfigError, MissingDependency
from v2f_engine.runtime.artefact import ServedModel, Sidecar, open_artefact
from v2f_engine.runtime.cuda_graph import CudaGraphRunner, require_cuda
from v2f_engine.runtime.onnx import require_generator

if TYPE_CHECKING:
    from v2f_engine.models.weights import LoadedModel


@dataclass(frozen=True)
class Flavour:
    """One of the two libraries.

    Args:
        kind: as in sidecars and on the command line.
        module: to import.
        package: on the package index, without the CUDA version behind it.
        portable: it builds without a GPU, for compute capabilities that are named.
    """

    kind: str
    module: str
    package: str
    portable: bool

    @property
    def install(self) -> str:
        """The install line for this machine's CUDA: torch's own, 13 where torch has none."""
        major = (torch.version.cuda or "13").partition(".")[0]
        return f"pip install {self.package}-cu{major}"

    def library(self) -> Any:
        """The module.

        Raises:
            MissingDependency: not installed, with the install line and what can be had without it.
        """
        try:
            return import_module(self.module)
        except ImportError as error:
            other = (
                ""
                if self.portable
                else f" Without a GPU, `{FLAVOURS['tensorrt-rtx'].install}` builds engines"
            )
            other += "" if self.portable else " for RTX cards, and `v2f export onnx` needs neither."
            raise MissingDependency(
                f"{self.module} is not installed ({error}): {self.install}.{other}"
            ) from error


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", "tensorrt", "tensorrt", portable=False),
    "tensorrt-rtx": Flavour("tensorrt-rtx", "tensorrt_rtx", "tensorrt-rtx", portable=True),
}


@dataclass(frozen=True)
class Gpu:
    """The card an engine would run on.

    Args:
        name: as the driver says.
        capability: `sm90`, ...
    """

    name: str
    capability: str

    @classmethod
    def of(cls, device: torch.device) -> Gpu:
        major, minor = torch.cuda.get_device_capability(device)
        return cls(torch.cuda.get_device_name(device), f"sm{major}{minor}")


def check_engine(path: Path, sidecar: Sidecar, version: str, gpu: Gpu) -> None:
    """Raises ArtefactError unless the engine was built by this version of the library, for this GPU."""
    flavour = FLAVOURS[sidecar.kind]
    built = sidecar.built_with.get(flavour.module)
    if built != version:
        raise ArtefactError(
            f"{path}: was built by {flavour.module} {built}, {version} is installed, and engines do not pass"
            f" between versions. Build it again: v2f export {sidecar.kind}."
        )
    capabilities = sidecar.built_for.get("compute_capabilities", [])
    if gpu.capability not in capabilities:
        raise ArtefactError(
            f"{path}: was built for {', '.join(map(str, capabilities)) or 'no named GPU'}, this one ({gpu.name}) is"
            f" {gpu.capability}. Build it again: v2f export {sidecar.kind}."
        )
    if not flavour.portable and sidecar.built_for.get("gpu") != gpu.name:
        raise ArtefactError(
            f"{path}: was tuned on {sidecar.built_for.get('gpu')!r}, this is {gpu.name!r}. Build it again here."
        )


def profile_for(path: Path, profiles: tuple[tuple[int, int, int], ...], batch_size: int) -> int:
    """Number of the narrowest profile that takes `batch_size` rows; ConfigError where none does."""
    fitting = [(high - low, i) for i, (low, _, high) in enumerate(profiles) if low <= batch_size <= high]
    if not fitting:
        ranges = ", ".join(f"{low} to {high}" for low, _, high in profiles)
        raise ConfigError(f"{path}: takes batches of {ranges}; asked for {batch_size} (compute_batch).")
    return min(fitting)[1]


class EngineCall:
    """A deserialised engine with its output buffer: named inputs in, uint8 images out, on the current stream.

    Args:
        library: the TensorRT module.
        plan: the engine.
        inputs: name -> tensor of the shape and device of every call.
        profile: number of the optimisation profile.
        path: for messages.

    Raises:
        ArtefactError: the library refuses the plan, or its tensors are not the ones expected.
    """

    def __init__(
        self, library: Any, plan: bytes, inputs: Mapping[str, torch.Tensor], profile: int, path: Path
    ) -> None:
        self._runtime = library.Runtime(library.Logger(library.Logger.ERROR))
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ArtefactError(f"{path}: {library.__name__} cannot read it on this machine. Build it again.")
        names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
        if names != {*inputs, "images"}:
            raise ArtefactError(
                f"{path}: has tensors {sorted(names)}, expected {sorted({*inputs, 'images'})}."
            )
        self._engine, self._path = engine, path
        self._context = _context(library, engine)
        first = next(iter(inputs.values()))
        self.output = torch.empty(
            (first.shape[0], IMAGE_SIZE, IMAGE_SIZE, 3), dtype=torch.uint8, device=first.device
        )
        if not self._context.set_optimization_profile_async(profile, current_stream(first.device)):
            raise ArtefactError(f"{path}: has no profile {profile}.")
        for name, tensor in inputs.items():
            if not self._context.set_input_shape(name, tuple(tensor.shape)):
                raise ArtefactError(f"{path}: refuses {name} of shape {tuple(tensor.shape)}.")

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The engine's own output buffer, overwritten by the next call. Inputs keep shape and contiguity."""
        for name, tensor in inputs.items():
            self._context.set_tensor_address(name, tensor.data_ptr())
        self._context.set_tensor_address("images", self.output.data_ptr())
        if not self._context.execute_async_v3(current_stream(self.output.device)):
            raise BackendUnavailable(f"{self._path}: the engine could not be enqueued.")
        return self.output


def _context(library: Any, engine: Any) -> Any:
    """An execution context. RTX compiles kernels for a shape while general ones run: a captured graph would keep
    the general ones, so it is told to compile first."""
    strategy = getattr(library, "DynamicShapesKernelSpecializationStrategy", None)
    if strategy is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
    return engine.create_execution_context(config)


def current_stream(device: torch.device) -> int:
    """The handle of torch's current stream; 0 for a CPU, which only tests use."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def read_plan(path: Path, sidecar: Sidecar) -> bytes:
    """The engine's bytes, hashed as they are handed on: the file may change between a check and a read."""
    plan = path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != sidecar.files[path.name]:
        raise ArtefactError(f"{path}: changed while it was opened. Refused.")
    return plan


class EngineNetwork:
    """An engine where `CudaGraphRunner` expects a frozen network: it is captured like one."""

    def __init__(self, library: Any, path: Path, sidecar: Sidecar, batch_size: int) -> None:
        self.path = path
        self.config = SimpleNamespace(vector_dim=int(sidecar.model["config"]["vector_dim"]))
        self._library, self._plan = library, read_plan(path, sidecar)
        self._profile = profile_for(path, sidecar.profiles, batch_size)
        self._call: EngineCall | None = None

    def decode(
        self, vectors: torch.Tensor, noise: torch.Tensor, n_masked: torch.Tensor, n_dropped: int
    ) -> torch.Tensor:
        """As `Vec2Face.decode`; the number of dropped rows is built in and was checked."""
        inputs = {"vectors": vectors, "noise": noise, "n_masked": n_masked}
        if self._call is None:
            self._call = EngineCall(self._library, self._plan, inputs, self._profile, self.path)
            self._plan = b""
        return self._call(inputs)


class TensorRTRunner(CudaGraphRunner):
    """A whole generator as a TensorRT engine in a CUDA graph, bytes leaving on a stream of their own."""

    def __init__(
        self, path: Path, choice: Choice, *, n_dropped: int, batch_size: int, library: Any | None = None
    ) -> None:
        self.sidecar = open_artefact(path)
        self.path = path
        require_generator(path, self.sidecar, n_dropped)
        library = library or FLAVOURS[self.sidecar.kind].library()
        device = require_cuda(choice.device)
        check_engine(path, self.sidecar, library.__version__, Gpu.of(device))
        network = EngineNetwork(library, path, self.sidecar, batch_size)
        plain = Choice(choice.device, "fp32", {}, {})  # the engine's inputs are fp32 whatever its inside is
        super().__init__(network, plain, n_dropped=n_dropped, batch_size=batch_size)  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        return {
            "runner": self.sidecar.kind,
            "batch_size": self.batch_size,
            "device": self.choice.device,
            "precision": self.sidecar.precision,
            "built_with": dict(self.sidecar.built_with),
            "file": self.sidecar.files[self.path.name],
        }


def open_tensorrt(
    loaded: LoadedModel | ServedModel, choice: Choice, n_dropped: int, batch_size: int
) -> TensorRTRunner:
    """The runner of an engine file. Raises ConfigError for weights: building is `v2f export`'s job."""
    if not isinstance(loaded, ServedModel):
        raise ConfigError(
            f"A TensorRT runner serves an engine file, found weights: {loaded.path}. Build one first:"
            " v2f export tensorrt --out engine.plan, then --model engine.plan."
        )
    return TensorRTRunner(loaded.path, choice, n_dropped=n_dropped, batch_size=batch_size)

"""A TensorRT made of Python, for what cannot run here: it records what the builder is told, and its engines run
their ONNX graph on the raw addresses they are given, as the real ones do."""

from __future__ import annotations

import ctypes
import enum
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime


class Tensor:
    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.shape = tuple(d.dim_value or -1 for d in value.type.tensor_type.shape.dim)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.shapes, self.addresses, self.calls = engine, {}, {}, 0
        self.profile: int | None = None

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return 0 <= index < len(self.engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.profiles[self.profile or 0][name]
        self.shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.calls += 1
        types = {value.name: value.type for value in self.engine.session.get_inputs()}
        feeds = {}
        for name, shape in self.shapes.items():
            dtype = {"tensor(float)": np.float32, "tensor(int64)": np.int64}[types[name]]
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            feeds[name] = np.frombuffer(ctypes.string_at(self.addresses[name], size), dtype).reshape(shape)
        images = np.ascontiguousarray(self.engine.session.run(["images"], feeds)[0])
        ctypes.memmove(self.addresses["images"], images.ctypes.data, images.nbytes)
        return True


class Engine:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.session = onnxruntime.InferenceSession(plan["onnx"], providers=["CPUExecutionProvider"])
        self.profiles = plan["profiles"]
        self.names = [v.name for v in self.session.get_inputs()] + [
            v.name for v in self.session.get_outputs()
        ]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_execution_context(self) -> Context:
        return Context(self)


class Imagined:
    """The module. `strongly_typed_flag`: 10 has one, a library that knows nothing else needs none."""

    __name__ = "tensorrt"

    def __init__(self, version: str, *, strongly_typed_flag: bool = True) -> None:
        self.__version__ = version
        self.told = SimpleNamespace(flags=None, profiles=[], workspace=0, level=None, cache=None)
        told = self.told

        class Severity(enum.IntEnum):
            INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

        class ILogger:
            pass

        ILogger.Severity = Severity  # type: ignore[attr-defined]
        self.ILogger = ILogger
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(
            **({"STRONGLY_TYPED": 1} if strongly_typed_flag else {})
        )

        class Logger(ILogger):
            ERROR = Severity.ERROR

            def __init__(self, severity: int) -> None:
                pass

        class Runtime:
            def __init__(self, log: Any) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
                try:
                    return Engine(json.loads(plan))
                except ValueError:
                    return None

        class Profile:
            def __init__(self) -> None:
                self.shapes: dict[str, Any] = {}

            def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
                self.shapes[name] = (low, best, high)

        class Cache:
            def __init__(self, held: bytes) -> None:
                self.held = held

            def serialize(self) -> bytes:
                return self.held + b"."

        class Config:
            builder_optimization_level = None

            def add_optimization_profile(self, profile: Profile) -> None:
                told.profiles.append(profile.shapes)

            def set_memory_pool_limit(self, pool: str, size: int) -> None:
                told.workspace = size

            def create_timing_cache(self, held: bytes) -> Cache:
                return Cache(held)

            def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
                told.cache = cache
                return not cache.held.startswith(b"foreign")

            def get_timing_cache(self) -> Cache:
                return told.cache

        class Network:
            num_layers, num_inputs = 7, 0

            def get_input(self, index: int) -> Tensor:
                return self.inputs[index]

        class OnnxParser:
            def __init__(self, network: Network, log: Any) -> None:
                self.network, self.num_errors = network, 0

            def parse_from_file(self, path: str) -> bool:
                model = onnx.load(path, load_external_data=False)
                self.network.path = path
                self.network.inputs = [Tensor(value) for value in model.graph.input]
                self.network.num_inputs = len(self.network.inputs)
                return True

        class Builder:
            def __init__(self, log: Any) -> None:
                self.log = log

            def create_network(self, flags: int) -> Network:
                told.flags = flags
                return Network()

            def create_builder_config(self) -> Config:
                return Config()

            def create_optimization_profile(self) -> Profile:
                return Profile()

            def build_serialized_network(self, network: Network, config: Config) -> bytes:
                told.level = config.builder_optimization_level
                self.log.log(Severity.WARNING, "a warning")
                return json.dumps(
                    {"onnx": str(Path(network.path).resolve()), "profiles": told.profiles}
                ).encode()

        self.Logger, self.Runtime, self.OnnxParser, self.Builder = Logger, Runtime, OnnxParser, Builder

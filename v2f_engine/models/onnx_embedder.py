"""A recogniser in ONNX: any input of 112x112 pictures that public files have, and its features chosen by content.

Inputs: float32, float16, double or uint8; `[B, 3, H, W]` or `[B, H, W, 3]`; any, a fixed or an unknown batch and side.
Outputs: the one of two dimensions (axes of one left out) with two numbers and more; a length beside it is no feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from v2f_kernels._extras import install

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.errors import (
    BackendUnavailable,
    CheckpointError,
    ConfigError,
    MissingDependency,
    ModelNotFound,
)
from v2f_engine.models.file_hash import file_sha256, split_entry

if TYPE_CHECKING:
    from v2f_engine.models.embedder import Pixels

_ARITHMETIC, _LAYOUT = {"Sub", "Add", "Mul", "Div"}, {"Transpose", "Cast", "Identity"}
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""onnxruntime's name of an input's type -> what is fed. Whole numbers get grey levels as they are."""


class OnnxEmbedder:
    """An ONNX recogniser through onnxruntime; `FILE#OUTPUT` where a file has several outputs of features.

    Raises:
        ModelNotFound, MissingDependency, BackendUnavailable: no file, no onnxruntime, no CUDA provider.
        CheckpointError: no ONNX model; an input that is not a batch of 112x112 pictures; no output of features, or
            several; a graph that does not run.
        ConfigError: a normalisation stated for an input of whole numbers.
    """

    def __init__(self, path: Path, pixels: Pixels | None, device: str = "cpu") -> None:
        from v2f_engine.models.embedder import Pixels

        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingDependency(f"ONNX recognisers need onnxruntime: {install('onnx')}.") from error
        path, output = split_entry(path)
        if not path.is_file():
            raise ModelNotFound(f"{path}: there is no such file.")
        providers = ["CPUExecutionProvider"]
        if torch.device(device).type == "cuda":
            if "CUDAExecutionProvider" not in ort.get_available_providers():
                raise BackendUnavailable(
                    "onnxruntime has no CUDA here: pip install onnxruntime-gpu, or use the CPU."
                )
            providers = ["CUDAExecutionProvider"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # its errors are raised here; printing them as well says things twice
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise CheckpointError(f"{path}: onnxruntime cannot open it: {_first_line(error)}") from error
        self._path = path
        self.notes: tuple[str, ...] = ()
        stated = self._read_input()
        whole = self._type == np.uint8
        if whole and pixels is not None and (pixels.mean, pixels.std) != (0.0, 1.0):
            raise ConfigError(
                f"{path}: takes whole numbers, the grey levels as they are; leave mean and std out, or state 0 and 1, "
                f"found {pixels.mean:g} and {pixels.std:g}."
            )
        inside = whole or (pixels is None and self._normalises(path))
        self.pixels = pixels or (Pixels(mean=0.0, std=1.0) if inside else Pixels())
        self._told = {
            "name": f"{path.stem}#{output}" if output else path.stem,
            "sha256": file_sha256(path),
            "licence": "unknown",
        }
        try:
            self._output, self.dim = self._choose(output)
        except CheckpointError:
            if stated:
                raise
            self._nchw = False  # no side is stated: whichever order runs
            self._output, self.dim = self._choose(output)

    def describe(self) -> dict[str, Any]:
        return {**self._told, **vars(self.pixels), "precision": "onnxruntime"}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = self._fed(images)
        size = self._fixed or len(x)
        parts = []
        for start in range(0, len(x), size):
            part = x[start : start + size]
            padded = np.concatenate([part, np.zeros((size - len(part), *x.shape[1:]), self._type)])
            found = _rows(self._run([self._output], padded)[0], size)
            if found is None or found.shape[1] != self.dim:
                raise CheckpointError(f"{self._path}: gave features of another shape than before.")
            parts.append(found[: len(part)].astype(np.float32))
        return np.concatenate(parts)

    def _read_input(self) -> bool:
        """Whether the file states which axis holds the channels."""
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            listed = ", ".join(f"{one.name} {one.shape}" for one in inputs)
            raise CheckpointError(
                f"{self._path}: expected one input, a batch of pictures; found {len(inputs)}: {listed}. Networks that "
                "also need landmarks are not read."
            )
        self._input, shape = inputs[0].name, inputs[0].shape
        if inputs[0].type not in TYPES:
            raise CheckpointError(
                f"{self._path}: its input {self._input} is {inputs[0].type}; expected one of {', '.join(TYPES)}."
            )
        self._type = np.dtype(TYPES[inputs[0].type])
        sides = [side if isinstance(side, int) and side > 0 else None for side in shape] or [None] * 4
        expected = f"[B, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] or [B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]"
        channels = [axis for axis in (1, 3) if len(sides) == 4 and sides[axis] == 3]
        if len(sides) != 4 or (not channels and None not in (sides[1], sides[3])):
            raise CheckpointError(f"{self._path}: expected an input {expected}, found {shape}.")
        nchw = 1 in channels or (not channels and sides[1] is None)
        pictures = sides[2:] if nchw else sides[1:3]
        if not set(pictures) <= {IMAGE_SIZE, None}:
            raise CheckpointError(
                f"{self._path}: expected an input {expected}, found {shape}: a recogniser of pictures of another size. "
                f"The images here are {IMAGE_SIZE}x{IMAGE_SIZE}, aligned as ArcFace's; export it with a Resize node "
                "in front if its own alignment is the same."
            )
        self._nchw, self._fixed = nchw, sides[0]
        return bool(channels)

    def _choose(self, wanted: str) -> tuple[str, int]:
        """(name of the output that holds features, their length), from a run on two pictures."""
        size = self._fixed or 2
        probe = np.random.default_rng(0).integers(0, 256, (size, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.uint8)
        names = [one.name for one in self._session.get_outputs()]
        values = self._run(names, self._fed(probe))
        shapes = {name: list(np.shape(value)) for name, value in zip(names, values, strict=True)}
        rows = {name: _rows(value, size) for name, value in zip(names, values, strict=True)}
        if wanted and wanted not in rows:
            raise CheckpointError(f"{self._path}: has no output {wanted!r}; found {shapes}.")
        found = {
            name: row.shape[1]
            for name, row in rows.items()
            if row is not None and (not wanted or name == wanted)
        }
        if not found:
            raise CheckpointError(
                f"{self._path}: expected features [{size}, D] with D of 2 or more, found outputs {shapes}."
            )
        if len(found) > 1:
            listed = " or ".join(f"{self._path}#{name}" for name in found)
            raise CheckpointError(
                f"{self._path}: has {len(found)} outputs that may be the features: {found} numbers each. Say which is "
                f"meant: {listed}."
            )
        if len(names) > 1:
            self.notes = (f"features taken from output {next(iter(found))!r} of {shapes}",)
        return next(iter(found.items()))

    def _fed(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        ordered = self.pixels.ordered(images)
        x: NDArray[Any] = ordered
        if self._type != np.uint8:
            x = (ordered.astype(np.float32) - np.float32(self.pixels.mean)) / np.float32(self.pixels.std)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if self._nchw else x, self._type)

    def _run(self, names: Sequence[str], x: NDArray[Any]) -> list[Any]:
        try:
            found: list[Any] = self._session.run(list(names), {self._input: x})
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise CheckpointError(
                f"{self._path}: onnxruntime cannot run it on {x.dtype} {list(x.shape)}: {_first_line(error)}"
            ) from error
        return found

    @staticmethod
    def _normalises(path: Path) -> bool:
        """Whether arithmetic comes between the input and the first layer: the graph takes plain grey levels.

        insightface looks for Sub and Mul among the first eight nodes; constants may push them further down.
        """
        try:
            import onnx
        except ImportError as error:
            raise MissingDependency(
                f"Whether this ONNX model normalises by itself is read with onnx: {install('onnx')}, "
                "or state mean and std."
            ) from error
        graph = onnx.load(str(path), load_external_data=False).graph
        held = {tensor.name for tensor in graph.initializer}
        name = next(value.name for value in graph.input if value.name not in held)
        for _ in range(len(graph.node)):
            after = next((node for node in graph.node if name in node.input), None)
            if after is None or after.op_type not in _ARITHMETIC | _LAYOUT:
                return False
            if after.op_type in _ARITHMETIC:
                return True
            name = after.output[0]
        return False


def _rows(value: Any, size: int) -> NDArray[Any] | None:
    """An output as rows `[size, D]`, axes of one left out; None where it cannot be features."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim < 2 or len(value) != size:
        return None
    sides = [side for side in value.shape[1:] if side != 1]
    return value.reshape(size, sides[0]) if len(sides) == 1 else None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

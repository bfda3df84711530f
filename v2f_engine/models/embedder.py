"""Any recogniser as one call: images uint8 to un-normalised features, with what was done to the pixels stated.

iresnet weights (`.pth`, `.safetensors`, a name) run in torch, any `.onnx` through onnxruntime. Channel order
and normalisation are recorded with the features: a recogniser fed the other order loses accuracy silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.config import one_of
from v2f_engine.errors import (
    BackendUnavailable,
    CheckpointError,
    ConfigError,
    MissingDependency,
    ModelNotFound,
)
from v2f_engine.models.checkpoint_file import file_sha256
from v2f_engine.models.weights import load_recogniser

CHANNELS = ("rgb", "bgr")
_ARITHMETIC, _LAYOUT = {"Sub", "Add", "Mul", "Div"}, {"Transpose", "Cast", "Identity"}


@dataclass(frozen=True)
class Pixels:
    """What is done to uint8 RGB pixels: channel order, then `(x - mean) / std`.

    Args:
        channels: `rgb`, or `bgr` for AdaFace, MagFace and whatever else was trained on OpenCV's order.
        mean, std: in grey levels.
    """

    channels: str = "rgb"
    mean: float = 127.5
    std: float = 127.5

    def __post_init__(self) -> None:
        one_of("channels", self.channels, CHANNELS)
        if not (np.isfinite(self.mean) and np.isfinite(self.std) and self.std > 0):
            raise ConfigError(f"mean must be finite and std above 0, found {self.mean} and {self.std}.")

    def ordered(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return images if self.channels == "rgb" else images[..., ::-1]


class Embedder(Protocol):
    """Features of images."""

    dim: int
    """Length of a feature."""

    def describe(self) -> dict[str, Any]:
        """JSON values: name, sha256 of the weights, pixels, precision."""
        ...

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Un-normalised features float32 `[B, D]` of uint8 `[B, 112, 112, 3]` RGB."""
        ...


class TorchEmbedder:
    """An iresnet in torch."""

    def __init__(self, source: str | Path, pixels: Pixels, device: str = "cpu", bf16: bool = False) -> None:
        loaded = load_recogniser(source)
        self.pixels, self.device, self.bf16 = pixels, torch.device(device), bf16
        self.model = loaded.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dim = loaded.config.feature_dim
        self._told = {"name": loaded.name, "sha256": loaded.sha256, "licence": loaded.licence}

    def describe(self) -> dict[str, Any]:
        return {**self._told, **vars(self.pixels), "precision": "bf16" if self.bf16 else "fp32"}

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = torch.from_numpy(np.ascontiguousarray(self.pixels.ordered(images))).to(self.device)
        x = x.permute(0, 3, 1, 2).float().sub_(self.pixels.mean).div_(self.pixels.std)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            features: torch.Tensor = self.model(x)
        return features.float().cpu().numpy()


class OnnxEmbedder:
    """An ONNX recogniser through onnxruntime; NCHW or NHWC input, any or a fixed batch.

    Raises:
        ModelNotFound, MissingDependency, BackendUnavailable: no file, no onnxruntime, no CUDA provider.
        CheckpointError: no ONNX model, or one whose input is not a batch of 112x112 pictures.
    """

    def __init__(self, path: Path, pixels: Pixels | None, device: str = "cpu") -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingDependency(
                "ONNX recognisers need onnxruntime: pip install 'v2f-engine[onnx]'."
            ) from error
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
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise CheckpointError(
                f"{path}: onnxruntime cannot open it: {str(error).splitlines()[0]}"
            ) from error
        shape = self._session.get_inputs()[0].shape
        sides = [side if isinstance(side, int) else None for side in shape]
        self._nchw = len(sides) == 4 and sides[1] == 3
        pictures = sides[2:] if self._nchw else sides[1:3]
        if len(sides) != 4 or 3 not in (sides[1], sides[3]) or not set(pictures) <= {IMAGE_SIZE, None}:
            raise CheckpointError(
                f"{path}: expected an input [B, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] or [B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3], "
                f"found {shape}."
            )
        self.pixels = pixels or (Pixels(mean=0.0, std=1.0) if self._normalises(path) else Pixels())
        self._fixed = sides[0]
        self._told = {"name": path.stem, "sha256": file_sha256(path), "licence": "unknown"}
        self.dim = self(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)).shape[1]

    @staticmethod
    def _normalises(path: Path) -> bool:
        """Whether arithmetic comes between the input and the first layer: the graph takes plain grey levels.

        insightface looks for Sub and Mul among the first eight nodes; constants may push them further down.
        """
        try:
            import onnx
        except ImportError as error:
            raise MissingDependency(
                "Whether this ONNX model normalises by itself is read with onnx: pip install 'v2f-engine[onnx]', "
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

    def describe(self) -> dict[str, Any]:
        return {**self._told, **vars(self.pixels), "precision": "onnxruntime"}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = (self.pixels.ordered(images).astype(np.float32) - np.float32(self.pixels.mean)) / np.float32(
            self.pixels.std
        )
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2) if self._nchw else x)
        size = self._fixed or len(x)
        parts = []
        for start in range(0, len(x), size):
            part = x[start : start + size]
            padded = np.concatenate([part, np.zeros((size - len(part), *x.shape[1:]), np.float32)])
            found = self._session.run(None, {self._session.get_inputs()[0].name: padded})[0]
            if found.ndim != 2 or len(found) != size:
                raise CheckpointError(
                    f"{self._told['name']}: expected features [{size}, D], found {list(found.shape)}."
                )
            parts.append(found[: len(part)].astype(np.float32))
        return np.concatenate(parts)


def open_embedder(
    source: str | Path,
    *,
    channels: str | None = None,
    mean: float | None = None,
    std: float | None = None,
    device: str = "cpu",
    bf16: bool = False,
) -> Embedder:
    """A recogniser by name (`mini`, `arcface-r100-glint360k` ...), or path of `.pth`, `.safetensors`, `.onnx`.

    Args:
        source: name or path.
        channels: `rgb` (default) or `bgr`.
        mean, std: of the pixels, in grey levels; 127.5 both by default. An ONNX graph that begins with
            arithmetic gets 0 and 1.
        device: torch device.
        bf16: autocast convolutions to bfloat16 (torch only).

    Raises:
        ModelNotFound, CheckpointError, ConfigError, MissingDependency, BackendUnavailable: as named.
    """
    if (mean is None) != (std is None):
        raise ConfigError("Give mean and std together.")
    stated = Pixels(channels or "rgb", 127.5 if mean is None else mean, 127.5 if std is None else std)
    if Path(source).suffix != ".onnx":
        return TorchEmbedder(source, stated, device, bf16)
    if bf16:
        raise ConfigError(
            "bf16 is for recognisers in torch; an ONNX graph has the precision it was exported with."
        )
    opened = OnnxEmbedder(Path(source), None if mean is None else stated, device)
    if mean is None and channels is not None:
        opened.pixels = Pixels(channels, opened.pixels.mean, opened.pixels.std)
    return opened

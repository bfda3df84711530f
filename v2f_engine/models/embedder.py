"""Any recogniser as one call: images uint8 to un-normalised features, with what was done to the pixels stated.

iresnet weights (`.pth`, `.safetensors`, a name) run in torch, any `.onnx` through onnxruntime. Channel order
and normalisation are recorded with the features: a recogniser fed the other order loses accuracy silently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError
from v2f_engine.machine import Machine, device_of
from v2f_engine.models import weights
from v2f_engine.models.file_hash import split_entry
from v2f_engine.models.onnx_embedder import OnnxEmbedder

CHANNELS = ("rgb", "bgr")


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
    notes: tuple[str, ...]
    """Sentences about what was taken of the file and what was set aside."""

    def describe(self) -> dict[str, Any]:
        """JSON values: name, sha256 of the weights, pixels, precision."""
        ...

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Un-normalised features float32 `[B, D]` of uint8 `[B, 112, 112, 3]` RGB."""
        ...


class TorchEmbedder:
    """An iresnet in torch; without stated pixels it gets those it was trained on, as far as its file says."""

    def __init__(
        self, source: str | Path, pixels: Pixels | None, device: str = "cpu", bf16: bool = False
    ) -> None:
        loaded = weights.load_recogniser(source)
        self.pixels = pixels or Pixels(loaded.config.channels)
        self.device, self.bf16, self.notes = torch.device(device), bf16, loaded.notes
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
        source: name or path; `FILE#ENTRY` where a file holds several networks, `FILE#OUTPUT` for several outputs.
        channels: `rgb` or `bgr`; `rgb` by default, but for files that AdaFace's trainer wrote.
        mean, std: of the pixels, in grey levels; 127.5 both by default. An ONNX graph that begins with
            arithmetic gets 0 and 1.
        device: torch device.
        bf16: autocast convolutions to bfloat16 (torch only).

    Raises:
        ModelNotFound, CheckpointError, ConfigError, MissingDependency, BackendUnavailable: as named.
    """
    if (mean is None) != (std is None):
        raise ConfigError("Give mean and std together.")
    if (
        not device.startswith("cuda") or split_entry(source)[0].suffix != ".onnx"
    ):  # onnxruntime has GPUs of its own
        device = device_of(device, Machine.look())[1]
    levels = {} if mean is None or std is None else {"mean": mean, "std": std}
    stated = Pixels(channels or "rgb", **levels)
    if split_entry(source)[0].suffix != ".onnx":
        opened = TorchEmbedder(source, None if channels is None else stated, device, bf16)
        opened.pixels = Pixels(opened.pixels.channels, **levels)
        return opened
    if bf16:
        raise ConfigError(
            "bf16 is for recognisers in torch; an ONNX graph has the precision it was exported with."
        )
    graph = OnnxEmbedder(Path(source), stated if levels else None, device)
    if not levels and channels is not None:
        graph.pixels = Pixels(channels, graph.pixels.mean, graph.pixels.std)
    return graph


@dataclass(frozen=True)
class Reader:
    """What reads images for a measurement: a network in torch, or an opened `Embedder`.

    Args:
        model: an nn.Module or an `Embedder`, for `extract_features`.
        name, sha256: for reports.
        pixels: what is done to them, where it is not the rule (RGB, 127.5).
        notes: sentences about what was taken of the file.
    """

    model: Any
    name: str
    sha256: str
    pixels: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": self.sha256, **self.pixels}


def open_reader(
    source: str | Path,
    *,
    channels: str | None = None,
    mean: float | None = None,
    std: float | None = None,
    device: str = "cpu",
    bf16: bool = False,
    fetch: bool = False,
) -> Reader:
    """The recogniser that measurements read images with; arguments, errors and what is read as `open_embedder`.

    `fetch`: download published weights that are not here.
    """
    if channels is None and mean is None and std is None and split_entry(source)[0].suffix != ".onnx":
        loaded = weights.load_recogniser(source, fetch=fetch)
        loaded.model.to(device)
        pixels = {} if loaded.config.channels == "rgb" else {"channels": loaded.config.channels}
        return Reader(loaded.model, loaded.name, loaded.sha256, pixels, loaded.notes)
    embedder = open_embedder(source, channels=channels, mean=mean, std=std, device=device, bf16=bf16)
    told = embedder.describe()
    pixels = {name: told[name] for name in ("channels", "mean", "std")}
    return Reader(embedder, told["name"], told["sha256"], pixels, embedder.notes)

"""Estimators: differentiable networks that read attributes off aligned faces.

The embedded ones, pose and quality, learned from rendered people, whose attributes are exact
(`v2f train estimator`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.config import at_least
from v2f_engine.errors import CheckpointError, ConfigError, ModelNotFound
from v2f_engine.models import layouts
from v2f_engine.models.checkpoint_file import read_checkpoint
from v2f_engine.models.fold import fold_norm
from v2f_engine.models.weights import save_weights

EMBEDDED = Path(__file__).parents[1] / "assets" / "mini" / "attributes"
KIND = "estimator"


@dataclass(frozen=True)
class EstimatorConfig:
    """Shape of an estimator and the meaning of its outputs.

    Args:
        outputs: name of each output, e.g. `("yaw", "pitch")`.
        scale, offset: an output is `network * scale + offset`; about the deviation and mean of the labels.
        widths: channels of the convolutions; each but the last halves the resolution.
        shrink: images are averaged over cells of so many pixels a side first. What a network cannot see, it
            cannot be fooled by: a pose needs no single pixels.
    """

    outputs: tuple[str, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    widths: tuple[int, ...]
    shrink: int = 1

    def __post_init__(self) -> None:
        for name in ("outputs", "scale", "offset", "widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for width in self.widths:
            at_least("width", width, 1)
        at_least("shrink", self.shrink, 1)
        at_least("widths", len(self.widths), 2)
        for name, values in (("scale", self.scale), ("offset", self.offset)):
            if len(values) != len(self.outputs):
                raise ConfigError(f"{name}: expected one for each of {self.outputs}, found {values}.")

    @property
    def grid(self) -> int:
        """Height and width of the last feature map."""
        side = IMAGE_SIZE // self.shrink
        for _ in self.widths[:-1]:
            side = -(-side // 2)
        return side


class Estimator(nn.Module):
    """Attributes in their own units from faces: 3x3 convolutions with BatchNorm and SiLU, one Linear.

    SiLU rather than a rectifier, because what steers by a gradient wants a smooth one.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.config = config
        channels = (3, *config.widths)
        last = len(config.widths) - 1
        self.convs = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], 3, 1 if i == last else 2, 1) for i in range(last + 1)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in config.widths)
        self.linear = nn.Linear(config.widths[-1] * config.grid**2, len(config.outputs))
        self.register_buffer("scale", torch.tensor(config.scale, dtype=torch.float32))
        self.register_buffer("offset", torch.tensor(config.offset, dtype=torch.float32))

    def standardised(self, images: torch.Tensor) -> torch.Tensor:
        """The network's own output, about N(0, 1) over its training set: `[B, len(outputs)]`."""
        x = F.avg_pool2d(images, self.config.shrink) if self.config.shrink > 1 else images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.silu(norm(conv(x)))
        out: torch.Tensor = self.linear(x.flatten(1))
        return out

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Attributes float32 `[B, len(outputs)]`.

        Args:
            images: `[B, 3, 112, 112]`, RGB, `(x / 255 - 0.5) / 0.5`.
        """
        return self.standardised(images).float() * self.scale + self.offset

    def folded(self) -> Estimator:
        """A frozen copy with every BatchNorm inside its convolution (fp64 arithmetic, rounded once)."""
        frozen = Estimator(self.config)
        frozen.load_state_dict(self.state_dict())
        frozen.eval().requires_grad_(False)
        for number, (conv, norm) in enumerate(zip(frozen.convs, frozen.norms, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            weight, bias = fold_norm(conv.weight, conv.bias, norm)
            conv.weight, conv.bias = (nn.Parameter(t.detach(), requires_grad=False) for t in (weight, bias))
            frozen.norms[number] = nn.Identity()
        return frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class LoadedEstimator:
    """An estimator and where it came from.

    Args:
        model: folded and frozen, fp32, on the CPU.
        name: as asked for, or the file's stem.
        path, sha256: of the file.
        head: what the file says about itself.
    """

    model: Estimator
    name: str
    path: Path
    sha256: str
    head: Mapping[str, Any]


def save_estimator(
    path: str | Path, estimator: Estimator, about: Mapping[str, Any], *, precision: str
) -> str:
    """Writes one safetensors file with its configuration; returns its sha256. Raises as `save_weights`."""
    head = {**about, "kind": KIND, "config": asdict(estimator.config)}
    return save_weights(path, {"model": estimator}, head, precision=precision)


def load_estimator(model: str | Path) -> LoadedEstimator:
    """An estimator by name (`pose`, `quality`: the embedded ones) or path.

    Raises:
        ModelNotFound: neither a known name nor a file.
        CheckpointError: broken, foreign, or not the file on its card.
    """
    path, expected = _located(model)
    file = read_checkpoint(path)
    if expected is not None and file.sha256 != expected:
        raise CheckpointError(
            f"{path}: sha256 {file.sha256} is not its card's {expected}. Reinstall v2f-engine."
        )
    head = file.head
    if head.get("kind") != KIND:
        raise CheckpointError(f"{path}: expected an estimator, found kind {head.get('kind')!r}.")
    try:
        config = EstimatorConfig(**head["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its configuration cannot be used ({error!r}).") from error
    network = layouts.fit(lambda: Estimator(config), file, "model", optional=r".*\.num_batches_tracked")
    return LoadedEstimator(network.folded(), Path(model).stem, path, file.sha256, head)


def _located(model: str | Path) -> tuple[Path, str | None]:
    path = EMBEDDED / f"{model}.safetensors"
    if str(model) in ("pose", "quality"):
        card = EMBEDDED / "card.json"
        if not path.is_file() or not card.is_file():
            raise ModelNotFound(
                f"The embedded {model} estimator is not in this installation ({path} or its card is missing)."
                f" Reinstall v2f-engine, train one (v2f train estimator {model}), or give a path."
            )
        try:
            return path, str(json.loads(card.read_text())["files"][path.name]["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{card}: is damaged ({error!r}). Reinstall v2f-engine.") from error
    path = Path(model).expanduser()
    if not path.is_file():
        raise ModelNotFound(f"estimator {str(model)!r}: neither pose, quality nor a file.")
    return path, None

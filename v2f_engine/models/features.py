"""Features of many images through a recogniser, in batches, without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from v2f_engine.config import at_least
from v2f_engine.errors import ConfigError
from v2f_engine.models.iresnet import IResNet

if TYPE_CHECKING:
    from v2f_engine.models.embedder import Embedder


def to_network(images: torch.Tensor) -> torch.Tensor:
    """uint8 `[B, H, W, 3]` to float32 `[B, 3, H, W]`, channels-last, `(x / 255 - 0.5) / 0.5`."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


@torch.inference_mode()
def extract_features(
    recogniser: nn.Module | Embedder,
    images: NDArray[np.uint8],
    *,
    batch: int = 128,
    flip_sum: bool = False,
    bf16: bool = False,
) -> NDArray[np.float32]:
    """Un-normalised features float32 `[N, D]` of images uint8 `[N, 112, 112, 3]`.

    Args:
        recogniser: in eval mode, or an opened `Embedder` such as an ONNX graph. An IResNet that was trained on BGR
            gets BGR.
        images: RGB.
        batch: images a call.
        flip_sum: add the feature of the mirrored image, as verification protocols do.
        bf16: autocast convolutions to bfloat16: about 2.5 times as fast on a CPU that has it.

    Raises:
        ConfigError: no images, or images of another shape or type.
    """
    at_least("batch", batch, 1)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ConfigError(
            f"images must be uint8 [N, 112, 112, 3], N above 0, found {images.dtype} {list(images.shape)}."
        )
    if not isinstance(recogniser, nn.Module):
        return _embedded(recogniser, images, batch, flip_sum, bf16)
    if isinstance(recogniser, IResNet) and recogniser.config.channels == "bgr":
        images = np.ascontiguousarray(images[..., ::-1])
    device = next(recogniser.parameters()).device
    parts = []
    for start in range(0, len(images), batch):
        x = to_network(torch.from_numpy(images[start : start + batch]).to(device))
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            features = recogniser(x)
            if flip_sum:
                features = features + recogniser(x.flip(3))
        parts.append(features.float().cpu().numpy())
    return np.concatenate(parts)


def _embedded(
    embedder: Embedder, images: NDArray[np.uint8], batch: int, flip_sum: bool, bf16: bool
) -> NDArray[np.float32]:
    if bf16 and embedder.describe()["precision"] != "bf16":
        raise ConfigError("bf16 is for recognisers in torch; state it where the recogniser is opened.")
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        features = embedder(part)
        parts.append(features + embedder(np.ascontiguousarray(part[:, :, ::-1])) if flip_sum else features)
    return np.concatenate(parts)

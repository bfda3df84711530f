"""Sample grids: one look tells more about a training than its loss."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray


def to_bytes(images: torch.Tensor) -> NDArray[np.uint8]:
    """uint8 `[B, H, W, 3]` of `[B, 3, H, W]` in [-1, 1], clipped and rounded."""
    scaled = images.float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def write_grid(path: Path, rows: list[NDArray[np.uint8]]) -> None:
    """Writes rows of images `[columns, H, W, 3]` as one PNG, replacing it in one move."""
    from PIL import Image

    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.png")
    Image.fromarray(picture).save(temporary)
    os.replace(temporary, path)

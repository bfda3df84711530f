"""Synthetic weights that are a function of a parameter's name, as the recorded outputs were made with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"


def weight_by_name(name: str, shape: tuple[int, ...], prefix: str = "v2f-golden-public:") -> np.ndarray:
    key = int.from_bytes(hashlib.sha256((prefix + name).encode()).digest()[:16], "little")
    z = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)
    position = "position" in name or "pos_embed" in name
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(z)
    if name.endswith("running_mean"):
        return 0.1 * z
    if len(shape) >= 2 and not position:
        return z / np.sqrt(np.prod(shape[1:]))
    if position:
        return 0.5 * z
    if name.endswith("bias"):
        return 0.05 * z
    return 1 + 0.1 * z


def fill(model: nn.Module, prefix: str = "v2f-golden-public:") -> nn.Module:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            value = weight_by_name(name, tuple(tensor.shape), prefix)
            tensor.copy_(torch.from_numpy(np.asarray(value, dtype=np.float32)))
    return model.eval()


def relative_rms(found: torch.Tensor, expected: np.ndarray) -> float:
    a, b = found.detach().numpy().astype(np.float64), expected.astype(np.float64)
    return float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))


def published_keys(file: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of one of the tables in tests/golden; the pose model's keys get a `pose.` prefix."""
    keys: dict[str, tuple[int, ...]] = {}
    prefix = ""
    for line in (GOLDEN / file).read_text().splitlines():
        if line.startswith("#"):
            prefix = "pose." if "pose model" in line else ""
            continue
        name, shape = line.split("\t")
        keys[prefix + name] = tuple(int(n) for n in shape.strip("[()] ").rstrip(",").split(","))
    return keys

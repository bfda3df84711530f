"""Checkpoints: named tensors and a JSON head in one safetensors file, replaced atomically.

At every instant the folder holds at least one whole checkpoint: the new file is written under a temporary
name, flushed, and renamed over the old one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from v2f_engine.atomic import write_atomically
from v2f_engine.errors import CheckpointError


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], head: Mapping[str, Any]) -> None:
    """Writes one file; readers see the old one or the new one, never a part.

    Args:
        path: final name.
        tensors: contiguous copies are made where needed.
        head: JSON values, stored under `head` in the file's metadata.

    Raises:
        DiskFull, OutputFolderError: the last checkpoint is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = save(plain, metadata={"head": json.dumps(dict(head), sort_keys=True)})
    write_atomically(path, content)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, head) of a file written by `write_tensors`.

    Raises:
        CheckpointError: missing, truncated or foreign.
    """
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {}).get("head", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, head  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint of this engine, found: {error}.") from error


def training_state(
    modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, torch.Tensor]:
    """Everything a resumed run needs, as one flat table of tensors."""
    state = {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            for key, value in slots.items():
                state[f"{name}/{index}/{key}"] = torch.as_tensor(value)
    return state


def restore(
    state: Mapping[str, torch.Tensor],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Puts back what `training_state` took.

    Raises:
        CheckpointError: the checkpoint belongs to another model.
    """
    for name, module in modules.items():
        own = {
            key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")
        }
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"The checkpoint does not fit {name}: {error}") from error
    for name, optimizer in optimizers.items():
        full = optimizer.state_dict()
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in state.items():
            if key.startswith(f"{name}/"):
                _, index, slot = key.split("/")
                slots.setdefault(int(index), {})[slot] = value
        full["state"] = slots
        optimizer.load_state_dict(full)

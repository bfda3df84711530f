"""Checkpoints: named tensors in safetensors, and a JSON beside them that says what they are and commits them.

    checkpoints/00000200.safetensors    parameters, averages, optimiser slots, running sums of the log
    checkpoints/00000200.json           step, sha256 and size of the tensors; written last

A checkpoint exists when its JSON does and the tensors have the hash that it gives. The one before is kept, so
at every instant at least one is whole; resuming takes the newest that is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import nn

from v2f_engine.atomic import replacing, write_atomically
from v2f_engine.errors import CheckpointError
from v2f_engine.train.distributed import Ranks

KEPT = 2
_NAME = re.compile(r"(\d{8,})\.json")

State = tuple[dict[str, torch.Tensor], dict[str, Any]]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], head: Mapping[str, Any]) -> None:
    """Writes one file; readers see the old one or the new one, never a part.

    Args:
        path: final name.
        tensors: contiguous copies are made where needed.
        head: JSON values, stored under `head` in the file's metadata.

    Raises:
        DiskFull, OutputFolderError: the last file of that name is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save(snapshot(tensors), metadata={"head": json.dumps(dict(head), sort_keys=True)})
    write_atomically(path, content)


def snapshot(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies on the CPU, which later steps do not change."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def read_tensors(path: Path) -> State:
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


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: e.g. `runs/generator/checkpoints`.
        say: called when a damaged checkpoint is passed over.
    """

    def __init__(self, folder: Path, say: Callable[[str], object]) -> None:
        self.folder, self.say = folder, say
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], head: Mapping[str, Any]) -> None:
        """Takes a snapshot and writes it in the background; waits for the one before.

        Raises:
            DiskFull, OutputFolderError: of the one before; older checkpoints are untouched.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, step, snapshot(tensors), dict(head))

    def wait(self) -> None:
        """Until everything is on disk. Raises as `save`."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, step: int, tensors: dict[str, torch.Tensor], head: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{step:08d}.safetensors"
        size = sum(tensor.nbytes for tensor in tensors.values())
        with replacing(path, size) as temporary:
            save_file(tensors, temporary, metadata={"head": json.dumps(head, sort_keys=True)})
            digest = _sha256(temporary)
        record = {**head, "step": step, "sha256": digest, "bytes": path.stat().st_size}
        write_atomically(path.with_suffix(".json"), json.dumps(record, indent=1, sort_keys=True).encode())
        for old in self.steps()[:-KEPT]:
            for suffix in (".json", ".safetensors"):  # the JSON first: without it nothing is promised
                (self.folder / f"{old:08d}").with_suffix(suffix).unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Steps that have a JSON, ascending."""
        if not self.folder.is_dir():
            return []
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def tidy(self) -> None:
        """Removes what a killed writer left: temporary files, tensors without their JSON. For the one writer."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            unfinished = path.suffix == ".safetensors" and not path.with_suffix(".json").exists()
            # ours are ".NAME.tmp"; safetensors writes into ".tmpXXXXXX" of its own and renames that
            ours = path.name.startswith(".") and path.suffix == ".tmp"
            if unfinished or ours or path.name.startswith(".tmp"):
                path.unlink(missing_ok=True)

    def newest(self) -> int | None:
        """Step of the newest whole checkpoint; damaged ones are reported and passed over.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            fault = self.fault(step)
            if fault is None:
                return step
            self.say(f"checkpoint of step {step} is damaged ({fault}); trying the one before")
        if steps:
            raise CheckpointError(
                f"{self.folder}: none of the checkpoints of steps {steps} is whole. Restore one, or remove"
                " the folder to begin anew."
            )
        return None

    def newest_for(self, group: Ranks) -> int | None:
        """`newest` as rank 0 sees it, sent to every rank; rank 0 tidies first. Every rank calls this."""
        if group.first:
            self.tidy()
        step: int | None = group.from_first(self.newest() if group.first else None)
        return step

    def fault(self, step: int) -> str | None:
        """What is wrong with the checkpoint of a step; None where it is whole."""
        path = self.folder / f"{step:08d}.safetensors"
        try:
            record = json.loads(path.with_suffix(".json").read_text())
            found = _sha256(path)
        except (OSError, ValueError) as error:
            return str(error)
        return None if record.get("sha256") == found else "its tensors have another hash than its JSON says"

    def load(self, step: int) -> State:
        """(tensors, head) of a step. Raises CheckpointError."""
        return read_tensors(self.folder / f"{step:08d}.safetensors")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def head_of(path: Path) -> dict[str, Any]:
    """What a file of `write_tensors` says of itself, without its tensors; empty where it says nothing."""
    try:
        with safe_open(path, "pt") as file:
            head = json.loads((file.metadata() or {}).get("head", "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}
    return head if isinstance(head, dict) else {}


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
        _check_slots(name, optimizer, slots)
        full["state"] = _laid_out(optimizer, slots)
        optimizer.load_state_dict(full)


def _laid_out(
    optimizer: torch.optim.Optimizer, slots: Mapping[int, Mapping[str, torch.Tensor]]
) -> dict[int, dict[str, torch.Tensor]]:
    """Averages in the memory order of their parameters.

    Fused optimisers walk through parameters, gradients and slots by address: slots from a file lie in the plain order
    and would meet a channels-last weight's elements in another one, and nothing would say so.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        index: {
            slot: torch.empty_like(parameters[index], dtype=value.dtype, device=value.device).copy_(value)
            if value.ndim
            else value
            for slot, value in own.items()
        }
        for index, own in slots.items()
    }


def _check_slots(
    name: str, optimizer: torch.optim.Optimizer, slots: Mapping[int, Mapping[str, torch.Tensor]]
) -> None:
    """Averages of gradients must have the shape of their parameters: torch itself does not look."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, own in slots.items():
        for slot, value in own.items():
            if index >= len(parameters) or (value.ndim and value.shape != parameters[index].shape):
                raise CheckpointError(
                    f"The checkpoint does not fit {name}: parameter {index} has no {slot} of shape"
                    f" {list(value.shape)}. It was written by another model or another version."
                )

"""Weights of one network in the containers that trainers leave, each written as its trainer writes it.

Sources: torch.save of DistributedDataParallel and torch.compile modules; train_v2.py of insightface's arcface_torch;
trainer.py of MagFace; train_val.py of AdaFace under Lightning; models/base/utils.py of CVLface; timm's CheckpointSaver;
torch.optim.swa_utils.AveragedModel; DeepSpeed's mp_rank_00_model_states.pt; FSDP's and checkpoint_wrapper's names.
A maker takes the folder and the state dict and gives the file.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

State = Mapping[str, torch.Tensor]
Maker = Callable[[Path, State], Path]

OPTIMISER = {
    "state": {0: {"momentum_buffer": torch.zeros(3)}},
    "param_groups": [{"lr": 0.1, "params": [0]}],
}
VALUES: dict[str, Any] = {
    "best": np.float64(0.5),
    "curve": np.arange(3),
    "args": argparse.Namespace(
        out=pathlib.PurePosixPath("/runs"), when=datetime.datetime(2024, 1, 1), lr=1e-3
    ),
    "counts": defaultdict(int, {"a": 1}),
    "last": deque([1, 2], maxlen=5),
    "rng": np.random.RandomState(0).get_state(),
}
"""What trainers store beside weights and what is no tensor."""


def prefixed(prefix: str, state: State) -> OrderedDict[str, torch.Tensor]:
    return OrderedDict((prefix + name, value) for name, value in state.items())


def saved(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def plain(folder: Path, state: State) -> Path:
    return saved(folder, "backbone.pth", OrderedDict(state))


def data_parallel(folder: Path, state: State) -> Path:
    return saved(folder, "ddp.pth", prefixed("module.", state))


def compiled(folder: Path, state: State) -> Path:
    return saved(folder, "compiled.pt", prefixed("_orig_mod.", state))


def compiled_within(folder: Path, state: State) -> Path:
    """torch.compile of one stage: the token stands in the middle of the key."""
    names = {name: name.replace("layer2.", "layer2._orig_mod.", 1) for name in state}
    return saved(folder, "stage.pth", OrderedDict((names[name], value) for name, value in state.items()))


def fully_sharded(folder: Path, state: State) -> Path:
    names = {
        name: name.replace("layer3.", "layer3._fsdp_wrapped_module._checkpoint_wrapped_module.")
        for name in state
    }
    table = {"_fsdp_wrapped_module." + names[name]: value for name, value in state.items()}
    return saved(folder, "fsdp.pt", {"model": table, "optim": OPTIMISER})


def arcface_torch(folder: Path, state: State) -> Path:
    content = {
        "epoch": 3,
        "global_step": 99,
        "state_dict_backbone": OrderedDict(state),
        "state_dict_softmax_fc": {"weight": torch.zeros(4, 24)},
        "state_optimizer": OPTIMISER,
        "state_lr_scheduler": {"max_steps": 100, "last_epoch": 99},
    }
    return saved(folder, "checkpoint_gpu_0.pt", content)


def magface(folder: Path, state: State) -> Path:
    table = {**prefixed("features.module.", state), "module.fc.weight": torch.zeros(24, 4)}
    content = {"epoch": 25, "arch": "iresnet100", "state_dict": table, "best_acc": 0, "optimizer": OPTIMISER}
    return saved(folder, "magface.pth.tar", content)


def lightning(folder: Path, state: State) -> Path:
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": {
            **prefixed("model.backbone.", state),
            "head.kernel": torch.zeros(24, 4),
            "head.t": torch.zeros(1),
        },
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [OPTIMISER],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 0.1},
    }
    return saved(folder, "last.ckpt", content)


def deepspeed(folder: Path, state: State) -> Path:
    return saved(
        folder,
        "mp_rank_00_model_states.pt",
        {"module": OrderedDict(state), "dp_world_size": 8, "ds_config": {}},
    )


def averaged_model(folder: Path, state: State) -> Path:
    return saved(folder, "swa.pth", {"n_averaged": torch.tensor(7), **prefixed("module.", state)})


def averaged_only(folder: Path, state: State) -> Path:
    return saved(folder, "ema.pth", {"ema_state_dict": OrderedDict(state), "step": 5})


def both_equal(folder: Path, state: State) -> Path:
    content = {
        "model": prefixed("module.", state),
        "model_ema": OrderedDict(state),
        "args": argparse.Namespace(lr=1),
    }
    return saved(folder, "timm.pth", content)


def values_beside(folder: Path, state: State) -> Path:
    return saved(folder, "values.pth", {"state_dict": OrderedDict(state), **VALUES})


def hub_bin(folder: Path, state: State) -> Path:
    return saved(folder, "pytorch_model.bin", prefixed("encoder.", state))


def parallel_safetensors(folder: Path, state: State) -> Path:
    save_file(prefixed("module.", state), folder / "ddp.safetensors")
    return folder / "ddp.safetensors"


def hub_safetensors(folder: Path, state: State) -> Path:
    save_file(prefixed("model.net.", state), folder / "model.safetensors", {"format": "pt"})
    return folder / "model.safetensors"


CONTAINERS: tuple[tuple[str, Maker], ...] = tuple(
    (maker.__name__, maker)
    for maker in (
        plain, data_parallel, compiled, compiled_within, fully_sharded, arcface_torch, magface, lightning, deepspeed,
        averaged_model, averaged_only, both_equal, values_beside, hub_bin, parallel_safetensors, hub_safetensors,
    )
)  # fmt: skip


def ir_state(
    *, inner_norm: bool = True, gated: bool = False, affine: bool = False, seed: int = 0
) -> dict[str, torch.Tensor]:
    """A small IR network (units 1, 2, 1, 1; widths 16, 24, 32, 40; features of 20) under its published names.

    Args:
        inner_norm: BatchNorm behind a unit's first convolution (AdaFace, CVLface, TFace); without: face.evoLVe.
        gated: squeeze-excitation at the end of each unit.
        affine: weight and bias of the last norm (face.evoLVe, InsightFace_Pytorch).
    """
    draw = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def kernel(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=draw) / torch.tensor(shape[1:]).prod().sqrt()

    def norm(name: str, width: int, *, free: bool = True) -> None:
        if free:
            state[f"{name}.weight"] = 1 + 0.2 * torch.randn(width, generator=draw)
            state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=draw)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(width, generator=draw)
        state[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=draw)
        state[f"{name}.num_batches_tracked"] = torch.tensor(3)

    kernel("input_layer.0", 16, 3, 3, 3)
    norm("input_layer.1", 16)
    state["input_layer.2.weight"] = 0.3 * torch.rand(16, generator=draw)
    width, unit = 16, 0
    for depth, units in ((16, 1), (24, 2), (32, 1), (40, 1)):
        for _ in range(units):
            at = f"body.{unit}"
            if width != depth:
                kernel(f"{at}.shortcut_layer.0", depth, width, 1, 1)
                norm(f"{at}.shortcut_layer.1", depth)
            norm(f"{at}.res_layer.0", width)
            kernel(f"{at}.res_layer.1", depth, width, 3, 3)
            if inner_norm:
                norm(f"{at}.res_layer.2", depth)
            after = 3 if inner_norm else 2
            state[f"{at}.res_layer.{after}.weight"] = 0.3 * torch.rand(depth, generator=draw)
            kernel(f"{at}.res_layer.{after + 1}", depth, depth, 3, 3)
            norm(f"{at}.res_layer.{after + 2}", depth)
            if gated:
                gate = f"{at}.res_layer.{'se_block' if inner_norm else after + 3}"
                kernel(f"{gate}.fc1", depth // 16, depth, 1, 1)
                kernel(f"{gate}.fc2", depth, depth // 16, 1, 1)
            width, unit = depth, unit + 1
    norm("output_layer.0", 40)
    kernel("output_layer.3", 20, 40 * 49)
    state["output_layer.3.bias"] = 0.1 * torch.randn(20, generator=draw)
    norm("output_layer.4", 20, free=affine)
    return state

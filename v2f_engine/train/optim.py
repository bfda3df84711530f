"""Learning rates and optimisers, as published."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

BETAS = (0.9, 0.99)
LR_DIVISOR = 112
"""lr = blr x effective batch / 112. The published help text says 256; the published code divides by 112."""


def published_lr(base_lr: float, batch: int) -> float:
    """The published rule: `blr * batch / 112`."""
    return base_lr * batch / LR_DIVISOR


def cosine(progress: float, warm_up: float, floor: float = 0.0) -> float:
    """Factor of the learning rate at `progress` in [0, 1]: warm-up, then half a cosine to `floor`."""
    if progress < warm_up:
        return progress / warm_up
    rest = (progress - warm_up) / max(1e-9, 1.0 - warm_up)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, rest)))


def adamw(
    modules: Iterable[nn.Module],
    lr: float,
    weight_decay: float,
    *,
    capturable: bool = False,
    decay_all: bool = False,
) -> torch.optim.AdamW:
    """AdamW with the published betas; vectors (biases, norms) do not decay, unless all are to, as published.

    Args:
        modules: whose parameters that require gradients are trained.
        lr, weight_decay: of AdamW.
        capturable: rate and step counters live on the device, so that a graph of the step reads them anew.
            Fused, on a CPU too: 28 bytes a parameter move instead of the 88 of torch's foreach form.
        decay_all: vectors decay, too.
    """
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad:
                (decay if decay_all or parameter.ndim > 1 else plain).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if capturable:
        rate = torch.tensor(lr, device=(decay or plain)[0].device)
        return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True, capturable=True)
    fused = bool(decay) and decay[0].is_cuda  # one kernel for all parameters
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, fused=fused)


def sgd(
    modules: Iterable[nn.Module], lr: float, momentum: float, weight_decay: float, *, capturable: bool = False
) -> torch.optim.SGD:
    """SGD with momentum; parameters of batch norms do not decay, all others do, as the published recipe has it.

    `capturable`: the rate lives on the device, as `adamw` has it, and one fused kernel moves all parameters.
    """
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in modules:
        for part in module.modules():
            norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
            own = (parameter for parameter in part.parameters(recurse=False) if parameter.requires_grad)
            (plain if norm else decay).extend(own)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if capturable:
        rate = torch.tensor(lr, device=(decay or plain)[0].device)
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
    fused = bool(decay) and decay[0].is_cuda  # one kernel for all parameters
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every parameter group the same rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr

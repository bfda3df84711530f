"""The contract's arguments and their checks, shared by every backend of GroupNorm+SiLU and by the ops that have it as a
prologue."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Arguments(NamedTuple):
    """What `v2f_kernels.group_norm_silu` describes."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    groups: int
    eps: float
    statistics: Tensor | None = None  # [B, groups, 2]
    shift: Tensor | None = None  # [C]
    keep: bool = False

    def check(self) -> None:
        """Raises ValueError unless the arguments fit the contract in `v2f_kernels.group_norm_silu`."""
        check_norm(self.x, self.weight, self.bias, self.groups, self.statistics, known=True)
        if self.shift is not None:
            if self.keep:
                raise ValueError(
                    "keep: x without its shift is not what else would read; leave one of them out"
                )
            if self.shift.shape != self.weight.shape:
                raise ValueError(f"shift: expected {list(self.weight.shape)}, found {list(self.shift.shape)}")
            if torch.is_grad_enabled() and (self.x.requires_grad or self.shift.requires_grad):
                raise ValueError(
                    "shift: has no gradient; add it to x when training, or run under torch.no_grad()"
                )


def check_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    statistics: Tensor | None = None,
    known: bool = False,
) -> None:
    """Raises ValueError unless x [B, C, H, W], weight [C], bias [C], groups and statistics [B, groups, 2] fit.

    Args:
        known: the op differentiates x as if it had computed the statistics; otherwise a gradient is refused.
    """
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(f"x: expected a non-empty [B, C, H, W], found {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x: expected a floating dtype, found {x.dtype}")
    channels = x.shape[1]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups: expected a divisor of the {channels} channels of x, found {groups}")
    for name, value in (("weight", weight), ("bias", bias)):
        if tuple(value.shape) != (channels,):
            raise ValueError(
                f"{name}: expected [{channels}], one per channel of x, found {tuple(value.shape)}"
            )
    if statistics is None:
        return
    expected = (x.shape[0], groups, 2)
    if tuple(statistics.shape) != expected or statistics.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"statistics: expected float32 {expected} (mean, biased variance), "
            f"found {statistics.dtype} {tuple(statistics.shape)}"
        )
    if not known and torch.is_grad_enabled() and x.requires_grad:
        raise ValueError(
            "statistics: given statistics are constants, so the gradient of x would be wrong; "
            "leave them out when training, or run under torch.no_grad()"
        )


def channels_last(name: str, x: Tensor) -> Tensor:
    """x itself if it lies in channels-last memory; otherwise a ValueError naming the remedy."""
    if not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(
            f"{name}: expected channels-last memory, found strides {x.stride()} for shape {tuple(x.shape)}; "
            "call .contiguous(memory_format=torch.channels_last) once, at the model's entrance"
        )
    return x

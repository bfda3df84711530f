"""Half-precision copies of weights, made by one call a step, and their gradients widened by one.

Autocast casts every weight in a kernel of its own where it is used, and widens its gradient in another: at base size
390 kernels of a few microseconds, whatever the batch. The copies here are the same roundings, and so are the gradients.
All gradients stay in half precision until the last is known, so a wrapper that sends them as they come would lose its
overlap: for one rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

READ_ELSEWHERE = ("latent_prior_proj_f.", "feature_token.", "im_decoder.conv_out.")


def cast_where_used(model: nn.Module) -> list[str]:
    """Names of what bf16 autocast, or a module's own cast, rounds at its one use: weights and biases of linear layers,
    weights of convolutions, of those that are trained.

    No part of it is what is read elsewhere as well: `latent_prior_proj_f`, whose dtype decides that of the vectors,
    `feature_token`, and `conv_out`, whose gradient alone `adaptive_weight` asks for.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            found += [(f"{name}.weight", module.weight), (f"{name}.bias", module.bias)]
        elif isinstance(module, nn.Conv2d):
            found.append((f"{name}.weight", module.weight))
    own = [(name, parameter) for name, parameter in found if not name.startswith(READ_ELSEWHERE)]
    return [name for name, parameter in own if parameter is not None and parameter.requires_grad]


def halved(model: nn.Module, names: list[str], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Name -> copy in `dtype`, whose gradient reaches the parameter; for `torch.func.functional_call`."""
    copies = _Halved.apply(dtype, *(model.get_parameter(name) for name in names))  # type: ignore[no-untyped-call]
    return dict(zip(names, copies, strict=True))


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.dtype = weights[0].dtype
        return _cast(weights, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return None, *_cast(gradients, ctx.dtype)


def _cast(tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    made = tuple(torch.empty_like(tensor, dtype=dtype) for tensor in tensors)
    torch._foreach_copy_(made, tensors)
    return made

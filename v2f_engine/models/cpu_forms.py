"""Forms of two ops whose backward is quick on a CPU, for training and steering.

ATen's GroupNorm backward walks channels-last memory one channel at a time; here both directions are sums and
fused multiply-adds over rows `[B, H*W, C]` in x's dtype, which ATen vectorises. Statistics are fp32. A Zen 4
core, bf16, [32, 16, 112, 112]: 42 + 88 ms forward + backward against 18 + 240.

The flash attention of ATen takes 45 ms to go back through [32, 50, 3, 4, 48] in bf16; two batched products 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from v2f_engine.errors import ConfigError
from v2f_engine.models.ops import Bound


def _rows(x: torch.Tensor) -> torch.Tensor:
    """`[B, C, H, W]` channels-last as `[B, H * W, C]`, without a copy."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)


def _image(rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    batch, channels, height, width = shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _by_group(sums: torch.Tensor, groups: int) -> torch.Tensor:
    """`[B, C]` with every channel holding its group's mean over channels."""
    batch, channels = sums.shape
    mean = sums.view(batch, groups, -1).mean(2, keepdim=True)
    return mean.expand(-1, -1, channels // groups).reshape(batch, channels)


class GroupNormSiLU(torch.autograd.Function):
    """`silu(group_norm(x))`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
    ) -> torch.Tensor:
        rows = _rows(x)
        count = rows.shape[1]
        mean = _by_group(rows.sum(1, dtype=torch.float32) / count, groups)
        square = _by_group((rows * rows).sum(1, dtype=torch.float32) / count, groups)
        scale = torch.rsqrt((square - mean * mean).clamp_min(0) + eps)
        factor = scale * weight.float()
        shift = bias.float() - mean * factor
        z = torch.addcmul(shift.to(x.dtype)[:, None], rows, factor.to(x.dtype)[:, None])
        ctx.save_for_backward(rows, z, weight, mean, scale)
        ctx.groups, ctx.shape = groups, x.shape
        return _image(torch.nn.functional.silu(z), x.shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        rows, z, weight, mean, scale = ctx.saved_tensors
        dz = torch.ops.aten.silu_backward(_rows(grad), z)
        count = rows.shape[1]
        total = dz.sum(1, dtype=torch.float32)
        product = (dz * rows).sum(1, dtype=torch.float32)
        normed = (product - mean * total) * scale  # sum of dz * xhat
        wide = weight.float()
        first = _by_group(total * wide, ctx.groups) / count
        second = _by_group(normed * wide, ctx.groups) / count
        # dx = scale * (w dz - first - xhat second), xhat = (x - mean) scale
        on_x = -scale * scale * second
        constant = -scale * first - on_x * mean
        dx = torch.addcmul(constant.to(z.dtype)[:, None], rows, on_x.to(z.dtype)[:, None])
        dx.addcmul_(dz, (scale * wide).to(z.dtype)[:, None])
        return _image(dx, ctx.shape), normed.sum(0), total.sum(0), None, None


def group_norm_silu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    """As the op of that name, for `[B, C, H, W]`."""
    out: torch.Tensor = GroupNormSiLU.apply(  # type: ignore[no-untyped-call]
        x.contiguous(memory_format=torch.channels_last), weight, bias, groups, eps
    )
    return out


def attention(qkv: torch.Tensor, *, dropout: float = 0.0, seed: int = 0) -> torch.Tensor:
    """As the op of that name, without dropout: `[B, N, 3, H, d]` to `[B, N, H * d]`.

    Raises:
        ConfigError: dropout, which this form does not have.
    """
    if dropout:
        raise ConfigError(
            "The CPU training form of attention has no dropout; set dropout=0 or bind_ops(model, {})."
        )
    batch, tokens, _, heads, width = qkv.shape
    query, key, value = qkv.permute(2, 0, 3, 1, 4).reshape(3, batch * heads, tokens, width)
    share = torch.bmm(query * width**-0.5, key.transpose(1, 2)).softmax(-1)
    mixed = torch.bmm(share.to(value.dtype), value).view(batch, heads, tokens, width)
    return mixed.transpose(1, 2).reshape(batch, tokens, heads * width)


_FORMS: dict[str, Callable[..., Any]] = {"group_norm_silu": group_norm_silu, "attention": attention}


def quicken(model: nn.Module) -> None:
    """Binds these forms in every module of `model` that uses the ops; `bind_ops` undoes it."""
    for module in model.modules():
        if isinstance(module, Bound):
            module.ops = tuple(_FORMS.get(n, op) for n, op in zip(module.uses, module.ops, strict=True))

"""GroupNorm+SiLU as sums over rows: the form whose backward is quick on a CPU.

ATen's GroupNorm backward walks channels-last memory one channel at a time; here both directions are sums and
fused multiply-adds over rows `[B, H*W, C]` in x's dtype, which ATen vectorises. A Zen 4 core, bf16,
[32, 16, 112, 112]: 42 + 88 ms forward + backward against 18 + 240.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.group_norm_silu import torch_native
from v2f_kernels.group_norm_silu.checks import Arguments


@takes(Arguments)
def group_norm_silu(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.group_norm_silu`; given statistics, without a gradient of x, or a shift go
    ATen's way."""
    x, weight, bias, groups, eps, statistics, shift, keep = given
    differentiated = torch.is_grad_enabled() and x.requires_grad
    if shift is not None or (statistics is not None and not differentiated):
        known: torch.Tensor | tuple[torch.Tensor, torch.Tensor] = torch_native.group_norm_silu(*given)
        return known
    last = x.contiguous(memory_format=torch.channels_last)
    y: torch.Tensor = _GroupNormSiLU.apply(last, weight, bias, groups, eps)  # type: ignore[no-untyped-call]
    y = y if last is x else y.contiguous()
    return (y, x) if keep else y


class _GroupNormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
    ) -> torch.Tensor:
        rows, wide = _rows(x), _wide(x)
        count = rows.shape[1]
        mean = _by_group(rows.sum(1, dtype=wide) / count, groups)
        square = _by_group((rows * rows).sum(1, dtype=wide) / count, groups)
        scale = torch.rsqrt((square - mean * mean).clamp_min(0) + eps)
        factor = scale * weight.to(wide)
        shift = bias.to(wide) - mean * factor
        z = torch.addcmul(shift.to(x.dtype)[:, None], rows, factor.to(x.dtype)[:, None])
        ctx.save_for_backward(rows, z, weight, mean, scale)
        ctx.groups, ctx.shape = groups, x.shape
        return _image(F.silu(z), x.shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        rows, z, weight, mean, scale = ctx.saved_tensors
        dz = torch.ops.aten.silu_backward(_rows(grad), z)
        count, wide = rows.shape[1], _wide(rows)
        total = dz.sum(1, dtype=wide)
        product = (dz * rows).sum(1, dtype=wide)
        normed = (product - mean * total) * scale  # sum of dz * xhat
        factor = weight.to(wide)
        first = _by_group(total * factor, ctx.groups) / count
        second = _by_group(normed * factor, ctx.groups) / count
        # dx = scale * (w dz - first - xhat second), xhat = (x - mean) scale
        on_x = -scale * scale * second
        constant = -scale * first - on_x * mean
        dx = torch.addcmul(constant.to(z.dtype)[:, None], rows, on_x.to(z.dtype)[:, None])
        dx.addcmul_(dz, (scale * factor).to(z.dtype)[:, None])
        return _image(dx, ctx.shape), normed.sum(0), total.sum(0), None, None


def _wide(x: torch.Tensor) -> torch.dtype:
    """Of sums and statistics."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


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

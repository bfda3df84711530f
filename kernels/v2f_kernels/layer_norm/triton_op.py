"""LayerNorm on a GPU: launches, the registered ops, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.layer_norm.checks import Arguments
from v2f_kernels.layer_norm.triton_norm import layer_norm_backward_kernel, layer_norm_forward_kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDEST = 2048


def _rows(x: Tensor) -> Tensor:
    return x.contiguous().view(-1, x.shape[-1])


def _like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty_like(x, dtype=dtype or x.dtype, memory_format=torch.contiguous_format)


class Norm(NamedTuple):
    """y <- LayerNorm(x)."""

    x: Tensor  # [..., D]
    weight: Tensor  # [D]
    bias: Tensor  # [D]
    eps: float

    def outputs(self) -> Tensor:
        return _like(self.x)

    def launch(self, y: Tensor) -> None:
        _launch(self, None, y, None)


class AddNorm(NamedTuple):
    """(y, total) <- (LayerNorm(total), x + residual)."""

    x: Tensor  # [..., D]
    residual: Tensor  # [..., D]
    weight: Tensor  # [D]
    bias: Tensor  # [D]
    eps: float

    def outputs(self) -> tuple[Tensor, Tensor]:
        return _like(self.x), _like(self.x, torch.promote_types(self.x.dtype, self.residual.dtype))

    def launch(self, y: Tensor, total: Tensor) -> None:
        _launch(self, self.residual, y, total)


def _launch(call: Norm | AddNorm, residual: Tensor | None, y: Tensor, total: Tensor | None) -> None:
    x = _rows(call.x)
    rows, width = x.shape
    block = triton.next_power_of_2(width)
    config = launch_config("layer_norm", "forward", x.device, f"block={block}")
    layer_norm_forward_kernel[(triton.cdiv(rows, config.blocks["ROWS"]),)](
        x, x if residual is None else _rows(residual), call.weight.contiguous(), call.bias.contiguous(),
        y, y if total is None else total, call.eps, rows,
        D=width, RESIDUAL=residual is not None, BLOCK=block, **config.arguments,
    )  # fmt: skip


class Backward(NamedTuple):
    """(gradient of total, dweight, dbias) <- dy, and dtotal, which reached the sum directly."""

    dy: Tensor  # [..., D]
    dtotal: Tensor | None
    total: Tensor
    weight: Tensor
    eps: float

    def outputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D]; fp32 [D]; fp32 [D]."""
        dweight, dbias = (self.total.new_empty(self.total.shape[-1:], dtype=torch.float32) for _ in range(2))
        return _like(self.total), dweight, dbias

    def launch(self, dx: Tensor, dweight: Tensor, dbias: Tensor) -> None:
        """Each program writes its share of dweight and dbias; they are summed here, in a fixed order. The number of
        programs is fixed by shape and configuration, so results repeat."""
        total, dy = _rows(self.total), _rows(self.dy)
        rows, width = total.shape
        block = triton.next_power_of_2(width)
        config = launch_config("layer_norm", "backward", total.device, f"block={block}")
        arguments = config.arguments
        programs = min(arguments.pop("PROGRAMS"), triton.cdiv(rows, arguments["ROWS"]))
        share = triton.cdiv(triton.cdiv(rows, programs), arguments["ROWS"]) * arguments["ROWS"]
        shares = torch.empty((programs, 2, width), dtype=torch.float32, device=total.device)
        layer_norm_backward_kernel[(programs,)](
            dy, dy if self.dtotal is None else _rows(self.dtotal), total, self.weight.contiguous(), dx, shares,
            self.eps, rows, share, D=width, DIRECT=self.dtotal is not None, BLOCK=block, **arguments,
        )  # fmt: skip
        torch.sum(shares[:, 0], 0, out=dweight)
        torch.sum(shares[:, 1], 0, out=dbias)


backward_op = registered("v2f::layer_norm_backward", Backward)


def _norm_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, ctx.eps = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, weight)


def _norm_backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    dx, dweight, dbias = backward_op(dy, None, x, weight, ctx.eps)
    return dx, dweight.to(weight.dtype), dbias.to(ctx.bias_dtype), None


norm_op = registered("v2f::layer_norm", Norm, setup_context=_norm_context, backward=_norm_backward)


def _add_norm_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, residual, weight, bias, ctx.eps = inputs
    ctx.dtypes = x.dtype, residual.dtype, bias.dtype
    ctx.save_for_backward(output[1], weight)
    ctx.set_materialize_grads(False)


def _add_norm_backward(ctx: Any, dy: Tensor | None, dtotal: Tensor | None) -> tuple[Any, ...]:
    total, weight = ctx.saved_tensors
    x_dtype, residual_dtype, bias_dtype = ctx.dtypes
    if dy is None:  # only the sum was used
        assert dtotal is not None
        return dtotal.to(x_dtype), dtotal.to(residual_dtype), None, None, None
    dx, dweight, dbias = backward_op(dy, dtotal, total, weight, ctx.eps)
    return dx.to(x_dtype), dx.to(residual_dtype), dweight.to(weight.dtype), dbias.to(bias_dtype), None


add_norm_op = registered(
    "v2f::add_layer_norm", AddNorm, setup_context=_add_norm_context, backward=_add_norm_backward
)


@takes(Arguments)
def layer_norm(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.layer_norm`."""
    x, weight, bias, eps, residual = given
    tensors = (x, weight, bias) if residual is None else (x, weight, bias, residual)
    require_cuda("layer_norm", *tensors)
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise ValueError(
                f"layer_norm/triton: expected float16, bfloat16 or float32, found {tensor.dtype}"
            )
    if x.shape[-1] > WIDEST:
        raise ValueError(f"layer_norm/triton: expected D <= {WIDEST}, found {x.shape[-1]}; use 'torch'")
    if residual is None:
        return norm_op(x, weight, bias, eps)  # type: ignore[no-any-return]
    return add_norm_op(x, residual, weight, bias, eps)  # type: ignore[no-any-return]

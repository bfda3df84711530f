"""LayerNorm on a GPU: launchers that write into given buffers, the registered ops, the public function."""

from __future__ import annotations

from typing import Any

import torch
import triton

from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels.layer_norm.checks import check_layer_norm
from v2f_kernels.layer_norm.triton_norm import layer_norm_backward_kernel, layer_norm_forward_kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDEST = 2048


def launch_forward(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    y: torch.Tensor,
    total: torch.Tensor | None,
) -> None:
    """y (and, with a residual, total) [R, D] <- x, residual [R, D]; all contiguous."""
    rows, width = x.shape
    block = triton.next_power_of_2(width)
    config = launch_config("layer_norm", "forward", x.device, f"block={block}")
    layer_norm_forward_kernel[(triton.cdiv(rows, config.blocks["ROWS"]),)](
        x, x if residual is None else residual, weight, bias, y, y if total is None else total, eps, rows,
        D=width, RESIDUAL=residual is not None, BLOCK=block, **config.arguments,
    )  # fmt: skip


def n_programs(rows: int, device: torch.device, width: int) -> int:
    """Programs of the backward launch: fixed by the shape and the configuration, so results repeat."""
    config = launch_config("layer_norm", "backward", device, f"block={triton.next_power_of_2(width)}")
    steps = -(-rows // config.blocks["ROWS"])
    return min(config.blocks["PROGRAMS"], steps)


def launch_backward(
    dy: torch.Tensor,
    dtotal: torch.Tensor | None,
    total: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    dx: torch.Tensor,
    partial: torch.Tensor,
) -> None:
    """dx [R, D] and partial [n_programs, 2, D] (shares of dweight and dbias) <- dy, dtotal, total [R, D]."""
    rows, width = total.shape
    block = triton.next_power_of_2(width)
    config = launch_config("layer_norm", "backward", total.device, f"block={block}")
    arguments = {k: v for k, v in config.arguments.items() if k != "PROGRAMS"}
    share = triton.cdiv(triton.cdiv(rows, partial.shape[0]), arguments["ROWS"]) * arguments["ROWS"]
    layer_norm_backward_kernel[(partial.shape[0],)](
        dy, dy if dtotal is None else dtotal, total, weight, dx, partial, eps, rows, share,
        D=width, DIRECT=dtotal is not None, BLOCK=block, **arguments,
    )  # fmt: skip


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(-1, x.shape[-1])


def _like(x: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.empty_like(x, dtype=dtype or x.dtype, memory_format=torch.contiguous_format)


@torch.library.custom_op("v2f::layer_norm", mutates_args=())
def norm_op(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """LayerNorm(x)."""
    y = _like(x)
    launch_forward(_rows(x), None, weight.contiguous(), bias.contiguous(), eps, _rows(y), None)
    return y


@norm_op.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    return _like(x)


@torch.library.custom_op("v2f::add_layer_norm", mutates_args=())
def add_norm_op(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(LayerNorm(x + residual), x + residual)."""
    y, total = _like(x), _like(x, torch.promote_types(x.dtype, residual.dtype))
    parameters = weight.contiguous(), bias.contiguous()
    launch_forward(_rows(x), _rows(residual), *parameters, eps, _rows(y), _rows(total))
    return y, total


@add_norm_op.register_fake
def _(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return _like(x), _like(x, torch.promote_types(x.dtype, residual.dtype))


@torch.library.custom_op("v2f::layer_norm_backward", mutates_args=())
def backward_op(
    dy: torch.Tensor, dtotal: torch.Tensor | None, total: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(gradient of total, dweight fp32, dbias fp32); `dtotal` is what reached the sum directly."""
    flat, dx = _rows(total), _like(total)
    programs = n_programs(flat.shape[0], flat.device, flat.shape[1])
    partial = torch.empty((programs, 2, flat.shape[1]), dtype=torch.float32, device=flat.device)
    direct = None if dtotal is None else _rows(dtotal)
    launch_backward(_rows(dy), direct, flat, weight.contiguous(), eps, _rows(dx), partial)
    return dx, partial[:, 0].sum(0), partial[:, 1].sum(0)


@backward_op.register_fake
def _(
    dy: torch.Tensor, dtotal: torch.Tensor | None, total: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def gradient() -> torch.Tensor:
        return total.new_empty(total.shape[-1:], dtype=torch.float32)

    return _like(total), gradient(), gradient()


def _norm_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, weight, bias, ctx.eps = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, weight)


def _norm_backward(ctx: Any, dy: torch.Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    dx, dweight, dbias = backward_op(dy, None, x, weight, ctx.eps)
    return dx, dweight.to(weight.dtype), dbias.to(ctx.bias_dtype), None


norm_op.register_autograd(_norm_backward, setup_context=_norm_context)


def _add_norm_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, residual, weight, bias, ctx.eps = inputs
    ctx.dtypes = x.dtype, residual.dtype, bias.dtype
    ctx.save_for_backward(output[1], weight)
    ctx.set_materialize_grads(False)


def _add_norm_backward(ctx: Any, dy: torch.Tensor | None, dtotal: torch.Tensor | None) -> tuple[Any, ...]:
    total, weight = ctx.saved_tensors
    x_dtype, residual_dtype, bias_dtype = ctx.dtypes
    if dy is None:  # only the sum was used
        assert dtotal is not None
        return dtotal.to(x_dtype), dtotal.to(residual_dtype), None, None, None
    dx, dweight, dbias = backward_op(dy, dtotal, total, weight, ctx.eps)
    return dx.to(x_dtype), dx.to(residual_dtype), dweight.to(weight.dtype), dbias.to(bias_dtype), None


add_norm_op.register_autograd(_add_norm_backward, setup_context=_add_norm_context)


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    residual: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.layer_norm`."""
    check_layer_norm(x, weight, bias, residual)
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

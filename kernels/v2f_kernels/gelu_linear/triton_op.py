"""Linear + GELU on a GPU: launchers that write into given buffers, the registered ops, the public function."""

from __future__ import annotations

from typing import Any

import torch
import triton

from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels.gelu_linear.checks import check_gelu_linear
from v2f_kernels.gelu_linear.triton_gelu import gelu_backward_kernel, gelu_linear_forward_kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def launch_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, y: torch.Tensor, z: torch.Tensor | None
) -> None:
    """y [R, M] (and z, unless None) <- x [R, K], weight [M, K], bias [M]; all contiguous."""
    (rows, inner), width = x.shape, weight.shape[0]
    exact = x.dtype == torch.float32
    config = launch_config("gelu_linear", "forward", x.device, "fp32" if exact else "half")
    tiles = triton.cdiv(rows, config.blocks["BLOCK_R"]) * triton.cdiv(width, config.blocks["BLOCK_M"])
    gelu_linear_forward_kernel[(tiles,)](
        x, weight, bias, y, y if z is None else z, rows, M=width, K=inner, SAVE=z is not None,
        PRECISION="ieee" if exact else "tf32", **config.arguments,
    )  # fmt: skip


def n_chunks(rows: int, device: torch.device) -> int:
    """Row ranges of the backward launch: fixed by the shape and the configuration, so results repeat."""
    config = launch_config("gelu_linear", "backward", device)
    return min(config.blocks["CHUNKS"], -(-rows // config.blocks["BLOCK_R"]))


def launch_backward(dy: torch.Tensor, z: torch.Tensor, dz: torch.Tensor, partial: torch.Tensor) -> None:
    """dz [R, M] and partial [n_chunks, M] (shares of dbias) <- dy, z [R, M]; all contiguous."""
    rows, width = z.shape
    config = launch_config("gelu_linear", "backward", z.device)
    arguments = {k: v for k, v in config.arguments.items() if k != "CHUNKS"}
    share = triton.cdiv(triton.cdiv(rows, partial.shape[0]), arguments["BLOCK_R"]) * arguments["BLOCK_R"]
    gelu_backward_kernel[(triton.cdiv(width, arguments["BLOCK_M"]), partial.shape[0])](
        dy, z, dz, partial, rows, share, M=width, **arguments
    )


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(-1, x.shape[-1])


@torch.library.custom_op("v2f::gelu_linear", mutates_args=())
def forward_op(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, save: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y, z); z is empty unless `save`. weight has x's dtype."""
    y = torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)
    z = torch.empty(y.shape if save else (0,), dtype=x.dtype, device=x.device)
    parameters = weight.contiguous(), bias.contiguous()
    launch_forward(_rows(x), *parameters, _rows(y), _rows(z) if save else None)
    return y, z


@forward_op.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, save: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    y = x.new_empty((*x.shape[:-1], weight.shape[0]))
    return y, x.new_empty(y.shape if save else (0,))


@torch.library.custom_op("v2f::gelu_linear_backward", mutates_args=())
def backward_op(dy: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dz, dbias fp32)."""
    flat = _rows(z)
    dz = torch.empty_like(z, memory_format=torch.contiguous_format)
    chunks = n_chunks(flat.shape[0], flat.device)
    partial = torch.empty((chunks, flat.shape[1]), dtype=torch.float32, device=flat.device)
    launch_backward(_rows(dy), flat, _rows(dz), partial)
    return dz, partial.sum(0)


@backward_op.register_fake
def _(dy: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    dz = torch.empty_like(z, memory_format=torch.contiguous_format)
    return dz, z.new_empty(z.shape[-1:], dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, weight, bias, save = inputs
    if not save:
        raise RuntimeError("v2f::gelu_linear: a gradient is recorded, so z must be saved; pass save=True")
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, weight, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: torch.Tensor, _: Any) -> tuple[Any, ...]:
    x, weight, z = ctx.saved_tensors
    dz, dbias = backward_op(dy, z)
    dx = dz @ weight if ctx.needs_input_grad[0] else None
    flat = dz.view(-1, dz.shape[-1])
    dweight = flat.T @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
    return dx, dweight, dbias.to(ctx.bias_dtype), None


forward_op.register_autograd(_backward, setup_context=_setup_context)


def gelu_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See the contract in `v2f_kernels.gelu_linear`."""
    check_gelu_linear(x, weight, bias)
    require_cuda("gelu_linear", x, weight, bias)
    if x.dtype not in DTYPES:
        raise ValueError(f"gelu_linear/triton: expected float16, bfloat16 or float32, found {x.dtype}")
    if x.shape[-1] % 8:
        raise ValueError(f"gelu_linear/triton: expected K a multiple of 8, found {x.shape[-1]}; use 'torch'")
    save = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad)
    y: torch.Tensor = forward_op(x, weight.to(x.dtype), bias, save)[0]
    return y

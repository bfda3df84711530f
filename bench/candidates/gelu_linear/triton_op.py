"""Linear + GELU on a GPU: launches, the registered ops, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.gelu_linear.checks import check_gelu_linear

from bench.candidates.gelu_linear.triton_gelu import gelu_backward_kernel, gelu_linear_forward_kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def _rows(x: Tensor) -> Tensor:
    return x.contiguous().view(-1, x.shape[-1])


class Forward(NamedTuple):
    """(y, z) <- x; z is what GELU is taken of, empty unless `save`."""

    x: Tensor  # [..., K]
    weight: Tensor  # [M, K], dtype of x
    bias: Tensor  # [M]
    save: bool

    def outputs(self) -> tuple[Tensor, Tensor]:
        """[..., M]; the same or [0]."""
        y = self.x.new_empty((*self.x.shape[:-1], self.weight.shape[0]))
        return y, self.x.new_empty(y.shape if self.save else (0,))

    def launch(self, y: Tensor, z: Tensor) -> None:
        x = _rows(self.x)
        (rows, inner), width = x.shape, self.weight.shape[0]
        exact = x.dtype == torch.float32
        config = launch_config("gelu_linear", "forward", x.device, "fp32" if exact else "half")
        tiles = triton.cdiv(rows, config.blocks["BLOCK_R"]) * triton.cdiv(width, config.blocks["BLOCK_M"])
        gelu_linear_forward_kernel[(tiles,)](
            x, self.weight.contiguous(), self.bias.contiguous(), y, z if self.save else y, rows, M=width, K=inner,
            SAVE=self.save, PRECISION="ieee" if exact else "tf32", **config.arguments,
        )  # fmt: skip


class Backward(NamedTuple):
    """(dz, dbias) <- dy, z."""

    dy: Tensor  # [..., M]
    z: Tensor  # [..., M]

    def outputs(self) -> tuple[Tensor, Tensor]:
        """[..., M]; fp32 [M]."""
        dz = torch.empty_like(self.z, memory_format=torch.contiguous_format)
        return dz, self.z.new_empty(self.z.shape[-1:], dtype=torch.float32)

    def launch(self, dz: Tensor, dbias: Tensor) -> None:
        """Ranges of rows write their shares of dbias; they are summed here, in a fixed order. Their number is fixed by
        shape and configuration, so results repeat."""
        dy, z = _rows(self.dy), _rows(self.z)
        rows, width = z.shape
        arguments = launch_config("gelu_linear", "backward", z.device).arguments
        chunks = min(arguments.pop("CHUNKS"), triton.cdiv(rows, arguments["BLOCK_R"]))
        share = triton.cdiv(triton.cdiv(rows, chunks), arguments["BLOCK_R"]) * arguments["BLOCK_R"]
        shares = torch.empty((chunks, width), dtype=torch.float32, device=z.device)
        gelu_backward_kernel[(triton.cdiv(width, arguments["BLOCK_M"]), chunks)](
            dy, z, dz, shares, rows, share, M=width, **arguments
        )
        torch.sum(shares, 0, out=dbias)


backward_op = registered("v2f::gelu_linear_backward", Backward)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, save = inputs
    if not save:
        raise RuntimeError("v2f::gelu_linear: a gradient is recorded, so z must be saved; pass save=True")
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, weight, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    x, weight, z = ctx.saved_tensors
    dz, dbias = backward_op(dy, z)
    dx = dz @ weight if ctx.needs_input_grad[0] else None
    flat = dz.view(-1, dz.shape[-1])
    dweight = flat.T @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
    return dx, dweight, dbias.to(ctx.bias_dtype), None


forward_op = registered("v2f::gelu_linear", Forward, setup_context=_setup_context, backward=_backward)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See the contract in `v2f_kernels.gelu_linear`."""
    check_gelu_linear(x, weight, bias)
    require_cuda("gelu_linear", x, weight, bias)
    if x.dtype not in DTYPES:
        raise ValueError(f"gelu_linear/triton: expected float16, bfloat16 or float32, found {x.dtype}")
    if x.shape[-1] % 8:
        raise ValueError(f"gelu_linear/triton: expected K a multiple of 8, found {x.shape[-1]}; use 'torch'")
    save = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad)
    y: Tensor = forward_op(x, weight.to(x.dtype), bias, save)[0]
    return y

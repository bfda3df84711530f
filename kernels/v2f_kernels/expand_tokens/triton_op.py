"""Token expansion on a GPU: launches, the registered ops, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.expand_tokens.checks import ROWS, Arguments
from v2f_kernels.expand_tokens.triton_expand import (
    expand_backward_kernel,
    expand_forward_kernel,
    expand_position_kernel,
)

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDEST = 2048


class Forward(Arguments):
    """tokens <- everything else."""

    __slots__ = ()

    def outputs(self) -> Tensor:
        """[B, 1 + K, D]."""
        batch, width = self.feature.shape
        return self.feature.new_empty((batch, 1 + self.kept.shape[1], width))

    def launch(self, tokens: Tensor) -> None:
        shape = _shape(self.feature, self.kept)
        config = launch_config("expand_tokens", "forward", self.feature.device, f"block={shape['BLOCK']}")
        grid = (triton.cdiv(1 + shape["K"], config.blocks["ROWS"]), self.feature.shape[0])
        expand_forward_kernel[grid](*map(_plain, self[:-1]), tokens, self.eps, **shape, **config.arguments)


class Backward(NamedTuple):
    """Every gradient <- that of the tokens [B, 1 + K, D]; fp32 but for the feature's."""

    dtokens: Tensor
    feature: Tensor
    weight: Tensor
    bias: Tensor
    masked: Tensor
    kept: Tensor
    position: Tensor
    norm_weight: Tensor
    eps: float

    def outputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """dfeature [B, D]; (dweight, dbias) [2, 49]; (dnorm_weight, dnorm_bias) [2, D]; dposition [50, D]."""
        width, wide = self.feature.shape[1], torch.float32
        dfeature = torch.empty_like(self.feature, memory_format=torch.contiguous_format)
        shapes = (2, ROWS), (2, width), (1 + ROWS, width)
        dline, dnorm, dposition = (self.feature.new_empty(shape, dtype=wide) for shape in shapes)
        return dfeature, dline, dnorm, dposition

    def launch(self, dfeature: Tensor, dline: Tensor, dnorm: Tensor, dposition: Tensor) -> None:
        """Each image writes its share of dline and dnorm; they are summed here, in a fixed order."""
        (batch, width), device = self.feature.shape, self.feature.device
        shape = _shape(self.feature, self.kept)
        line = torch.zeros((batch, *dline.shape), dtype=torch.float32, device=device)
        norm = torch.empty((batch, *dnorm.shape), dtype=torch.float32, device=device)
        de = torch.empty(self.dtokens.shape, dtype=torch.float32, device=device)
        slot = torch.full((batch, 1 + ROWS), -1, dtype=torch.int32, device=device)
        config = launch_config("expand_tokens", "backward", device, f"block={shape['BLOCK']}")
        expand_backward_kernel[(batch,)](
            *map(_plain, self[:-1]), dfeature, line, norm, de, slot, self.eps, **shape, **config.arguments
        )
        config = launch_config("expand_tokens", "position", device)
        expand_position_kernel[(triton.cdiv(width, config.blocks["COLUMNS"]), 1 + ROWS)](
            de, slot, dposition, batch, K=shape["K"], D=width, **config.arguments
        )
        torch.sum(line, 0, out=dline)
        torch.sum(norm, 0, out=dnorm)


def _shape(feature: Tensor, kept: Tensor) -> dict[str, int]:
    width = feature.shape[1]
    return {"K": kept.shape[1], "D": width, "BLOCK": triton.next_power_of_2(width)}


def _plain(tensor: Tensor) -> Tensor:
    """As the kernels read it: contiguous, a mask as bytes."""
    tensor = tensor.contiguous()
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


backward_op = registered("v2f::expand_tokens_backward", Backward)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, norm_bias, ctx.eps = inputs
    ctx.norm_bias_dtype = norm_bias.dtype
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dtokens: Tensor) -> tuple[Any, ...]:
    call = Backward._make((dtokens, *ctx.saved_tensors, ctx.eps))
    dfeature, line, norm, dposition = backward_op(*call)
    return (
        dfeature,
        line[0].to(call.weight.dtype),
        line[1].to(call.bias.dtype),
        None,
        None,
        dposition.to(call.position.dtype),
        norm[0].to(call.norm_weight.dtype),
        norm[1].to(ctx.norm_bias_dtype),
        None,
    )


forward_op = registered("v2f::expand_tokens", Forward, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def expand_tokens(given: Arguments) -> Tensor:
    """See the contract in `v2f_kernels.expand_tokens`."""
    *tensors, _ = given
    require_cuda("expand_tokens", *tensors)
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.dtype not in DTYPES:
            raise ValueError(
                f"expand_tokens/triton: expected float16, bfloat16 or float32, found {tensor.dtype}"
            )
    if given.feature.shape[1] > WIDEST:
        raise ValueError(
            f"expand_tokens/triton: expected D <= {WIDEST}, found {given.feature.shape[1]}; use 'torch'"
        )
    tokens: Tensor = forward_op(*given)
    return tokens

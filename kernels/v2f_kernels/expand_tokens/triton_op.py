"""Token expansion on a GPU: launchers that write into given buffers, the registered ops, the public function."""

from __future__ import annotations

from typing import Any

import torch
import triton

from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels.expand_tokens.checks import ROWS, check_expand_tokens
from v2f_kernels.expand_tokens.triton_expand import (
    expand_backward_kernel,
    expand_forward_kernel,
    expand_position_kernel,
)

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDEST = 2048


def _shape(feature: torch.Tensor, kept: torch.Tensor) -> dict[str, int]:
    width = feature.shape[1]
    return {"K": kept.shape[1], "D": width, "BLOCK": triton.next_power_of_2(width)}


def launch_forward(
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
    tokens: torch.Tensor,
) -> None:
    """tokens [B, 1 + K, D] <- everything else; all contiguous, masked as uint8."""
    shape = _shape(feature, kept)
    config = launch_config("expand_tokens", "forward", feature.device, f"block={shape['BLOCK']}")
    grid = (triton.cdiv(1 + shape["K"], config.blocks["ROWS"]), feature.shape[0])
    expand_forward_kernel[grid](
        feature, weight, bias, masked, kept, position, norm_weight, norm_bias, tokens, eps,
        **shape, **config.arguments,
    )  # fmt: skip


def launch_backward(
    dtokens: torch.Tensor,
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
    dfeature: torch.Tensor,
    line: torch.Tensor,
    norm: torch.Tensor,
    dposition: torch.Tensor,
) -> None:
    """Writes dfeature [B, D], each image's shares line [B, 2, 49] (dweight, dbias) and norm [B, 2, D]
    (dnorm_weight, dnorm_bias), and dposition [50, D]; the last three fp32, `line` zeroed beforehand."""
    shape, device = _shape(feature, kept), feature.device
    batch, width = feature.shape
    de = torch.empty(dtokens.shape, dtype=torch.float32, device=device)
    slot = torch.full((batch, 1 + ROWS), -1, dtype=torch.int32, device=device)
    config = launch_config("expand_tokens", "backward", device, f"block={shape['BLOCK']}")
    expand_backward_kernel[(batch,)](
        dtokens, feature, weight, bias, masked, kept, position, norm_weight,
        dfeature, line, norm, de, slot, eps, **shape, **config.arguments,
    )  # fmt: skip
    config = launch_config("expand_tokens", "position", device)
    expand_position_kernel[(triton.cdiv(width, config.blocks["COLUMNS"]), 1 + ROWS)](
        de, slot, dposition, batch, K=shape["K"], D=width, **config.arguments
    )


@torch.library.custom_op("v2f::expand_tokens", mutates_args=())
def forward_op(
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """tokens [B, 1 + K, D]."""
    batch, width = feature.shape
    tokens = torch.empty((batch, 1 + kept.shape[1], width), dtype=feature.dtype, device=feature.device)
    launch_forward(
        feature.contiguous(), weight.contiguous(), bias.contiguous(), masked.contiguous().view(torch.uint8),
        kept.contiguous(), position.contiguous(), norm_weight.contiguous(), norm_bias.contiguous(), eps, tokens,
    )  # fmt: skip
    return tokens


@forward_op.register_fake
def _(
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    return feature.new_empty((feature.shape[0], 1 + kept.shape[1], feature.shape[1]))


@torch.library.custom_op("v2f::expand_tokens_backward", mutates_args=())
def backward_op(
    dtokens: torch.Tensor,
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dfeature, (dweight, dbias) [2, 49], (dnorm_weight, dnorm_bias) [2, D], dposition); fp32 but dfeature."""
    batch, width = feature.shape
    wide = feature.new_empty((), dtype=torch.float32)
    dfeature = torch.empty_like(feature, memory_format=torch.contiguous_format)
    line = wide.new_zeros((batch, 2, ROWS))
    norm = wide.new_empty((batch, 2, width))
    dposition = wide.new_empty((1 + ROWS, width))
    launch_backward(
        dtokens.contiguous(), feature.contiguous(), weight.contiguous(), bias.contiguous(),
        masked.contiguous().view(torch.uint8), kept.contiguous(), position.contiguous(),
        norm_weight.contiguous(), eps, dfeature, line, norm, dposition,
    )  # fmt: skip
    return dfeature, line.sum(0), norm.sum(0), dposition


@backward_op.register_fake
def _(
    dtokens: torch.Tensor,
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    wide = feature.new_empty((), dtype=torch.float32)
    width = feature.shape[1]
    dfeature = torch.empty_like(feature, memory_format=torch.contiguous_format)
    return dfeature, wide.new_empty((2, ROWS)), wide.new_empty((2, width)), wide.new_empty((1 + ROWS, width))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, norm_bias, ctx.eps = inputs
    ctx.norm_bias_dtype = norm_bias.dtype
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dtokens: torch.Tensor) -> tuple[Any, ...]:
    feature, weight, bias, masked, kept, position, norm_weight = ctx.saved_tensors
    dfeature, line, norm, dposition = backward_op(
        dtokens, feature, weight, bias, masked, kept, position, norm_weight, ctx.eps
    )
    return (
        dfeature,
        line[0].to(weight.dtype),
        line[1].to(bias.dtype),
        None,
        None,
        dposition.to(position.dtype),
        norm[0].to(norm_weight.dtype),
        norm[1].to(ctx.norm_bias_dtype),
        None,
    )


forward_op.register_autograd(_backward, setup_context=_setup_context)


def expand_tokens(
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """See the contract in `v2f_kernels.expand_tokens`."""
    check_expand_tokens(feature, weight, bias, masked, kept, position, norm_weight, norm_bias)
    floating = (feature, weight, bias, position, norm_weight, norm_bias)
    require_cuda("expand_tokens", *floating, masked, kept)
    for tensor in floating:
        if tensor.dtype not in DTYPES:
            raise ValueError(
                f"expand_tokens/triton: expected float16, bfloat16 or float32, found {tensor.dtype}"
            )
    if feature.shape[1] > WIDEST:
        raise ValueError(
            f"expand_tokens/triton: expected D <= {WIDEST}, found {feature.shape[1]}; use 'torch'"
        )
    tokens: torch.Tensor = forward_op(
        feature, weight, bias, masked, kept, position, norm_weight, norm_bias, eps
    )
    return tokens

"""What the compile gate compiles of this op: generation (K = 44) and training (K = 24); see `_triton.aot`."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels.expand_tokens.triton_op import launch_backward, launch_forward

BATCH = 8
Inputs = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor
]


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _inputs(width: int, kept: int, dtype: torch.dtype, parameters: torch.dtype) -> Inputs:
    line = _empty(49, dtype=parameters)
    masked, rows = _empty(BATCH, 49, dtype=torch.uint8), _empty(BATCH, kept, dtype=torch.int64)
    position, norm = _empty(50, width, dtype=parameters), _empty(width, dtype=parameters)
    return _empty(BATCH, width, dtype=dtype), line, line, masked, rows, position, norm


def _forward(width: int, kept: int, dtype: torch.dtype, parameters: torch.dtype) -> None:
    inputs = _inputs(width, kept, dtype, parameters)
    tokens = _empty(BATCH, 1 + kept, width, dtype=dtype)
    launch_forward(*inputs, inputs[-1], 1e-6, tokens)


def _backward(width: int, kept: int, dtype: torch.dtype, parameters: torch.dtype) -> None:
    inputs = _inputs(width, kept, dtype, parameters)
    dtokens, shares = _empty(BATCH, 1 + kept, width, dtype=dtype), _empty(BATCH, 2, 49)
    norm, dposition = _empty(BATCH, 2, width), _empty(50, width)
    launch_backward(dtokens, *inputs, 1e-6, inputs[0], shares, norm, dposition)


F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
CASES = {
    "forward K=44 D=768 float16": partial(_forward, 768, 44, F16, F16),
    "forward K=24 D=768 bfloat16, float32 weights": partial(_forward, 768, 24, BF16, F32),
    "forward K=24 D=1280 bfloat16, float32 weights": partial(_forward, 1280, 24, BF16, F32),
    "forward K=24 D=768 float32": partial(_forward, 768, 24, F32, F32),
    "backward K=24 D=768 bfloat16, float32 weights": partial(_backward, 768, 24, BF16, F32),
    "backward K=24 D=1280 bfloat16, float32 weights": partial(_backward, 1280, 24, BF16, F32),
    "backward K=24 D=768 float32": partial(_backward, 768, 24, F32, F32),
}

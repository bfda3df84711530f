"""What the compile gate compiles of this op: generation (K = 44) and training (K = 24); see `_triton.aot`."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels.expand_tokens.triton_op import Backward, Forward

BATCH = 8


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _call(width: int, kept: int, dtype: torch.dtype, parameters: torch.dtype) -> Forward:
    line, norm = _empty(49, dtype=parameters), _empty(width, dtype=parameters)
    masked, rows = _empty(BATCH, 49, dtype=torch.bool), _empty(BATCH, kept, dtype=torch.int64)
    feature, position = _empty(BATCH, width, dtype=dtype), _empty(50, width, dtype=parameters)
    return Forward(feature, line, line, masked, rows, position, norm, norm, 1e-6)


def _forward(width: int, kept: int, dtype: torch.dtype, parameters: torch.dtype) -> None:
    run(_call(width, kept, dtype, parameters))


def _backward(width: int, kept: int, dtype: torch.dtype, parameters: torch.dtype) -> None:
    *tensors, _, eps = _call(width, kept, dtype, parameters)
    run(Backward._make((_empty(BATCH, 1 + kept, width, dtype=dtype), *tensors, eps)))


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


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    _forward(sizes["D"], 44, dtype, dtype)


def _training(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for launched in (_forward, _backward):
        launched(sizes["D"], 24, dtype, F32)


BY_SHAPE = {"expand_tokens": (_frozen, _training)}

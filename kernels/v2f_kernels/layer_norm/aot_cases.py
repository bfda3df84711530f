"""What the compile gate compiles of this op: widths of mini, base and huge; see `_triton.aot`."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels.layer_norm.triton_op import AddNorm, Backward, Norm

ROWS = 3200


def _empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _forward(width: int, dtype: torch.dtype, residual: bool, parameters: torch.dtype) -> None:
    x, weight = _empty(ROWS, width, dtype=dtype), _empty(width, dtype=parameters)
    run(AddNorm(x, x, weight, weight, 1e-6) if residual else Norm(x, weight, weight, 1e-6))


def _backward(width: int, dtype: torch.dtype, residual: bool, parameters: torch.dtype) -> None:
    x, weight = _empty(ROWS, width, dtype=dtype), _empty(width, dtype=parameters)
    run(Backward(x, x if residual else None, x, weight, 1e-6))


F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
CASES = {
    "forward D=768 float16": partial(_forward, 768, F16, False, F16),
    "forward D=768 float16 residual": partial(_forward, 768, F16, True, F16),
    "forward D=192 float16 residual": partial(_forward, 192, F16, True, F16),
    "forward D=768 bfloat16 residual, float32 weights": partial(_forward, 768, BF16, True, F32),
    "forward D=1280 bfloat16 residual, float32 weights": partial(_forward, 1280, BF16, True, F32),
    "forward D=768 float32 residual": partial(_forward, 768, F32, True, F32),
    "backward D=768 bfloat16, float32 weights": partial(_backward, 768, BF16, False, F32),
    "backward D=768 bfloat16 residual, float32 weights": partial(_backward, 768, BF16, True, F32),
    "backward D=1280 bfloat16 residual, float32 weights": partial(_backward, 1280, BF16, True, F32),
    "backward D=768 float32 residual": partial(_backward, 768, F32, True, F32),
}


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for residual in (False, True):
        _forward(sizes["D"], dtype, residual, dtype)


def _training(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for residual in (False, True):
        for launched in (_forward, _backward):
            launched(sizes["D"], dtype, residual, F32)


BY_SHAPE = {"layer_norm": (_frozen, _training)}

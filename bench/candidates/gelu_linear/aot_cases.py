"""What the compile gate compiles of this op: the MLPs of mini, base and huge; see `_triton.aot`."""

from __future__ import annotations

from functools import partial

import torch
from v2f_kernels._triton.register import run

from bench.candidates.gelu_linear.triton_op import Backward, Forward

ROWS = 3200


def _empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _forward(inner: int, dtype: torch.dtype, save: bool) -> None:
    weight, bias = _empty(4 * inner, inner, dtype=dtype), _empty(4 * inner, dtype=dtype)
    run(Forward(_empty(ROWS, inner, dtype=dtype), weight, bias, save))


def _backward(inner: int, dtype: torch.dtype) -> None:
    z = _empty(ROWS, 4 * inner, dtype=dtype)
    run(Backward(z, z))


F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
CASES = {
    "forward K=768 float16": partial(_forward, 768, F16, False),
    "forward K=192 float16": partial(_forward, 192, F16, False),
    "forward K=768 bfloat16 saving": partial(_forward, 768, BF16, True),
    "forward K=768 float32 saving": partial(_forward, 768, F32, True),
    "backward K=768 bfloat16": partial(_backward, 768, BF16),
    "backward K=768 float32": partial(_backward, 768, F32),
}


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    _forward(sizes["K"], dtype, False)


def _training(sizes: dict[str, int], dtype: torch.dtype) -> None:
    _forward(sizes["K"], dtype, True)
    _backward(sizes["K"], dtype)


BY_SHAPE = {"gelu_linear": (_frozen, _training)}

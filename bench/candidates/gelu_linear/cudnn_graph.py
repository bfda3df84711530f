"""Linear and exact GELU as one kernel of cuDNN: matmul, bias, erf GELU; compiled by cuDNN at run time.

cuDNN 9.28 builds it for an H200 with wgmma, 128x128x64 tiles, 168 registers and no spill; nothing of it is precompiled
(seen without a card, `tests/kernels/test_cudnn_plans.py`). The hidden activation is written once instead of written,
read and written again. The gradient is torch's, of a product that is computed again: only y is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from v2f_kernels._cudnn.library import cudnn
from v2f_kernels._cudnn.plans import DTYPES, aligned, plan_for, require
from v2f_kernels._triton.register import registered
from v2f_kernels.gelu_linear.checks import check_gelu_linear

from bench.candidates.gelu_linear.torch_backward import backward, setup_context

cudnn()  # without it this module cannot be imported, and the message says what to install


class GeluLinear(NamedTuple):
    """A plan: rows [R, K] times weight [M, K], all dense."""

    rows: int
    inner: int
    width: int
    dtype: torch.dtype

    @property
    def precompiled(self) -> bool:
        return False

    def describe(self, graph: Any, library: Any) -> dict[str, Any]:
        """See `v2f_kernels._cudnn.plans.Description`; operands x, weight, bias, y."""
        rows, inner, width, _ = self
        dtype = getattr(library.data_type, DTYPES[self.dtype])

        def tensor(name: str, dim: list[int], stride: list[int]) -> Any:
            return graph.tensor(name=name, dim=dim, stride=stride, data_type=dtype)

        x = tensor("x", [1, rows, inner], [rows * inner, inner, 1])
        weight = tensor(
            "weight", [1, inner, width], [inner * width, 1, inner]
        )  # torch's [M, K], read as [K, M]
        bias = tensor("bias", [1, 1, width], [width, width, 1])
        y = graph.gelu(input=graph.bias(input=graph.matmul(A=x, B=weight), bias=bias))
        y.set_output(True).set_data_type(dtype).set_dim([1, rows, width]).set_stride([rows * width, width, 1])
        return {"x": x, "weight": weight, "bias": bias, "y": y}


class Forward(NamedTuple):
    """y <- GELU(x weight^T + bias)."""

    x: Tensor  # [..., K]
    weight: Tensor  # [M, K], dtype of x
    bias: Tensor  # [M], dtype of x

    def outputs(self) -> Tensor:
        """[..., M]."""
        return self.x.new_empty((*self.x.shape[:-1], self.weight.shape[0]))

    def launch(self, y: Tensor) -> None:
        width, inner = self.weight.shape
        rows = self.x.numel() // inner
        if not rows:
            return
        named = {"x": self.x, "weight": self.weight, "bias": self.bias}
        given = {name: aligned(tensor.contiguous()) for name, tensor in named.items()}
        plan_for(GeluLinear(rows, inner, width, y.dtype), y.device).run({**given, "y": y}, y.device)


forward_op = registered("v2f::gelu_linear_cudnn", Forward, setup_context=setup_context, backward=backward)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See the contract in `v2f_kernels.gelu_linear`."""
    check_gelu_linear(x, weight, bias)
    require("gelu_linear", x.dtype, x, weight, bias)
    y: Tensor = forward_op(x, weight.to(x.dtype), bias.to(x.dtype))
    return y

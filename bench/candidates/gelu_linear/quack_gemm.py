"""Linear and exact GELU by quack (`quack-kernels`, CuTe DSL, Hopper and later): a contender where it is installed.

Its configuration is quack's default for the shape and not searched for (`tuned=False`), so that a call compiles one
kernel and a second process the same one. Only the API was read; nothing of it has run here or on a card.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from v2f_kernels._op import BackendUnavailable
from v2f_kernels._triton.register import registered
from v2f_kernels.gelu_linear.checks import check_gelu_linear

from bench.candidates.gelu_linear.torch_backward import backward, setup_context

try:
    from quack.gemm_interface import gemm_act
except ImportError as error:
    raise ImportError(f"{error}: pip install quack-kernels (97 MB with what it needs)") from error


class Forward(NamedTuple):
    """y <- GELU(x weight^T + bias)."""

    x: Tensor  # [..., K]
    weight: Tensor  # [M, K], dtype of x
    bias: Tensor  # [M], dtype of x

    def outputs(self) -> Tensor:
        """[..., M]."""
        return self.x.new_empty((*self.x.shape[:-1], self.weight.shape[0]))

    def launch(self, y: Tensor) -> None:
        gemm_act(
            self.x.reshape(-1, self.x.shape[-1]).contiguous(), self.weight.contiguous().T, bias=self.bias,
            activation="gelu_erf", postact_out=y.view(-1, y.shape[-1]), store_preact=False, tuned=False,
        )  # fmt: skip


forward_op = registered("v2f::gelu_linear_quack", Forward, setup_context=setup_context, backward=backward)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See the contract in `v2f_kernels.gelu_linear`.

    Raises:
        BackendUnavailable: not on a GPU of compute capability 9.0 or later. ValueError: another dtype than fp16, bf16.
    """
    check_gelu_linear(x, weight, bias)
    if x.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(f"gelu_linear/quack: expected float16 or bfloat16, found {x.dtype}; use 'torch'")
    if not x.is_cuda or torch.cuda.get_device_capability(x.device) < (9, 0):
        raise BackendUnavailable(
            f"gelu_linear/quack needs a GPU of sm_90 or later, found {x.device}; use 'torch'"
        )
    y: Any = forward_op(x, weight.to(x.dtype), bias.to(x.dtype))
    return y

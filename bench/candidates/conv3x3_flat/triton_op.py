"""The 3x3 convolution over rows with shared zero borders on a GPU: registered op, public function.

Three launches, or five: with a norm its scale and shift; the pass that lays the rows flat; the convolution; with
`out_groups` the merge of its tiles' moments. Gradients are those of the implicit product beside it: cuDNN's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from v2f_kernels._contract import NORM, STATISTICS, joins, takes
from v2f_kernels._triton.launch import require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.conv3x3.checks import Arguments

from bench.candidates.conv3x3 import triton_op as implicit
from bench.candidates.conv3x3_flat.launch import convolved, laid_flat, require_accelerator

OP = "conv3x3_flat"


class Forward(implicit.Forward):
    """(y, statistics of y) <- conv(SiLU(GroupNorm(x))) + bias + residual; all in channels-last memory."""

    __slots__ = ()

    def launch(self, y: Tensor, moments: Tensor) -> None:
        x, weight = self.x, self.weight.contiguous(memory_format=torch.channels_last)
        require_cuda(OP, x)
        require_accelerator("conv3x3/triton_flat", "choose the backend 'torch' or 'triton'", x.device)
        kernel = "float32" if x.dtype == torch.float32 else "product"
        matrix = weight.permute(0, 2, 3, 1).view(weight.shape[0], -1)
        flat = laid_flat(OP, x, self._terms())
        convolved(OP, kernel, flat, matrix, y, moments, bias=self.bias, residual=self.residual)


flat_op = registered(
    "v2f::conv3x3_flat", Forward, setup_context=implicit.keep_for_backward, backward=implicit.backward
)


@joins(NORM, STATISTICS)
@takes(Arguments)
def conv3x3(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.conv3x3`; x and residual in channels-last memory, C a multiple of 16."""
    return implicit.called(flat_op, given)

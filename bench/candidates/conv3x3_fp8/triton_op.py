"""The 8-bit convolution on a GPU: registered op, public function.

Launches: scale and shift of the norm; the pass that lays e4m3 rows flat; the convolution; with `out_groups` the merge
of its tiles' moments. Without `statistics` of x, the two that sum them come first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import launch_scale_shift, statistics_op

from bench.candidates.conv3x3_flat.launch import convolved, laid_flat, require_accelerator
from bench.candidates.conv3x3_fp8.quantise import ACTIVATION_SCALE, Arguments

OP = "conv3x3_fp8"
MULTIPLE = 32
"""Channels that an 8-bit matrix instruction reads at a time: rows of fewer are filled up with zeros."""


class Forward(NamedTuple):
    """(y, statistics of y) <- conv(e4m3(SiLU(GroupNorm(x)))) + bias + residual; all in channels-last memory."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # e4m3 [O, C, 3, 3]
    scale: Tensor  # [O]
    norm_weight: Tensor  # [C]
    norm_bias: Tensor  # [C]
    statistics: Tensor  # [B, G, 2], of x
    eps: float
    bias: Tensor | None  # [O]
    residual: Tensor | None  # [B, O, H, W]
    out_groups: int  # 0: statistics of y are not wanted

    def outputs(self) -> tuple[Tensor, Tensor]:
        """[B, O, H, W] channels-last; float32 [B, out_groups, 2]."""
        x = self.x
        shape = (x.shape[0], self.weight.shape[0], *x.shape[2:])
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        return y, x.new_empty((x.shape[0], self.out_groups, 2), dtype=torch.float32)

    def launch(self, y: Tensor, moments: Tensor) -> None:
        x = self.x
        require_cuda(OP, x)
        require_accelerator(OP, "use conv3x3", x.device)
        terms = x.new_empty((x.shape[0], 2, x.shape[1]), dtype=torch.float32)
        launch_scale_shift(self.norm_weight, self.norm_bias, self.statistics, self.eps, terms)
        flat = laid_flat(OP, x, terms, ACTIVATION_SCALE, MULTIPLE)
        convolved(
            OP, "product", flat, self._matrix(), y, moments, bias=self.bias, residual=self.residual,
            scale=self.scale, x_scale=ACTIVATION_SCALE,
        )  # fmt: skip

    def _matrix(self) -> Tensor:
        """e4m3 [O, 9 C], each tap's channels filled up to `MULTIPLE` (a copy at every call, where that is needed)."""
        rows = self.weight.permute(0, 2, 3, 1)
        missing = -rows.shape[3] % MULTIPLE
        if missing:  # not every build fills 8-bit floats; the byte 0 is 0.0
            rows = F.pad(rows.view(torch.uint8), (0, missing)).view(torch.float8_e4m3fn)
        return rows.reshape(rows.shape[0], -1)


fp8_op = registered("v2f::conv3x3_fp8", Forward)


@takes(Arguments)
def conv3x3_fp8(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `bench.candidates.conv3x3_fp8`; x, weight and residual in channels-last memory."""
    x, weight, scale, norm, bias, residual, statistics, out_groups = given
    for name, tensor in (("x", x), ("weight", weight), ("residual", residual)):
        if tensor is not None:
            channels_last(name, tensor)
    if statistics is None:
        statistics = statistics_op(x, norm[2])
    y, moments = fp8_op(
        x, weight, scale, norm[0], norm[1], statistics, norm[3], bias, residual, out_groups or 0
    )
    return y if out_groups is None else (y, moments)

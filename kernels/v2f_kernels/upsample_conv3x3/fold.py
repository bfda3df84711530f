"""The exact fold of (nearest 2x, 3x3 convolution) into one transposed convolution, and the checks of both
forms."""

from __future__ import annotations

from typing import Any

import torch

from v2f_kernels.conv3x3.checks import check_out_groups

# Along one axis output 2i + p takes tap k = 2t + 1 - p of source pixel i + p - t, t in {0, 1}. The taps of the 3x3
# kernel that meet at k are those with k + tap in {2, 3}: the 4x4 kernel is the flipped 3x3 one convolved with a 2x2
# square of ones. So it is made by four additions of slices, on the weight's own device: a matrix of ones and zeros
# would come from the host at every step, a copy that a CUDA graph cannot hold.
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def fold_weights(weight: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The transposed convolution's weight [C, O, 4, 4] (stride 2, padding 1) for a 3x3 weight [O, C, 3, 3].

    Sums in fp64 and rounds once, to `dtype` or the weight's own, and so does its gradient. Memory is channels-last
    (O innermost), which is what both cuDNN and the Triton kernel read.
    """
    if weight.ndim != 4 or tuple(weight.shape[2:]) != (3, 3):
        raise ValueError(f"weight: expected [O, C, 3, 3], found {tuple(weight.shape)}")
    folded: torch.Tensor = _Fold.apply(weight, dtype or weight.dtype)  # type: ignore[no-untyped-call]
    return folded


class _Fold(torch.autograd.Function):
    """Written out because autograd would fill a whole [C, O, 4, 4] for each slice on the way back."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        ctx.dtype = weight.dtype
        flipped = weight.transpose(0, 1).flip(2, 3).double()
        size = (*flipped.shape[:2], 4, 4)
        folded = torch.empty(
            size, dtype=torch.float64, device=weight.device, memory_format=torch.channels_last
        ).zero_()
        for row, column in CORNERS:
            folded[:, :, row : row + 3, column : column + 3] += flipped
        return folded.to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        wide = gradient.double()
        total = sum(wide[:, :, row : row + 3, column : column + 3] for row, column in CORNERS)
        assert isinstance(total, torch.Tensor), "a sum of tensors"
        return total.flip(2, 3).transpose(0, 1).to(ctx.dtype), None


def check_upsample(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out_groups: int | None, folded: bool
) -> None:
    """Raises ValueError unless x [B, C, H, W], weight, bias and groups fit; `folded` says which form
    weight has."""
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(f"x: expected a non-empty [B, C, H, W], found {tuple(x.shape)}")
    own, side = (0, 4) if folded else (1, 3)
    fits = weight.ndim == 4 and weight.shape[own] == x.shape[1] and tuple(weight.shape[2:]) == (side, side)
    if not fits:
        form = f"[{x.shape[1]}, O, 4, 4] from fold_weights" if folded else f"[O, {x.shape[1]}, 3, 3]"
        raise ValueError(f"weight: expected {form}, found {tuple(weight.shape)}")
    if weight.dtype != x.dtype:
        raise ValueError(f"weight: expected the dtype of x, {x.dtype}, found {weight.dtype}")
    out_channels = weight.shape[1 - own]
    if bias is not None and tuple(bias.shape) != (out_channels,):
        raise ValueError(f"bias: expected [{out_channels}], found {tuple(bias.shape)}")
    check_out_groups(out_channels, out_groups)

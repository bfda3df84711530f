"""The exact fold of (nearest 2x, 3x3 convolution) into one transposed convolution, and the checks of both
forms."""

from __future__ import annotations

import torch

from v2f_kernels.conv3x3.checks import check_out_groups

# Row k: which taps of the 3x3 kernel, along one axis, meet at tap k of the 4x4 kernel. Output 2i+p takes tap
# k = 2t + 1 - p of source pixel i + p - t, t in {0, 1}.
TAPS = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def fold_weights(weight: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The transposed convolution's weight [C, O, 4, 4] (stride 2, padding 1) for a 3x3 weight [O, C, 3, 3].

    Sums in fp64 and rounds once, to `dtype` or the weight's own. Memory is channels-last (O innermost),
    which is what both cuDNN and the Triton kernel read.
    """
    if weight.ndim != 4 or tuple(weight.shape[2:]) != (3, 3):
        raise ValueError(f"weight: expected [O, C, 3, 3], found {tuple(weight.shape)}")
    taps = torch.tensor(TAPS, dtype=torch.float64, device=weight.device)
    folded = torch.einsum("ocij,ki,lj->cokl", weight.double(), taps, taps)
    return folded.to(dtype or weight.dtype).contiguous(memory_format=torch.channels_last)


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

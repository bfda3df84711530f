"""The specification of structural similarity: plain torch by its definition, the window in two dimensions.

fp64 inside: variances are differences of means of squares, which cancel; fp64 loses nothing there that fp32 would show.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.ssim.checks import C1, C2, check_ssim, taps, widened


def ssim(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """See the contract in `v2f_kernels.ssim`."""
    check_ssim(left, right)
    channels = left.shape[1]
    a, b = left.double(), right.double()
    line = torch.tensor(taps(), dtype=torch.float64, device=left.device)
    window = (line[:, None] * line).expand(channels, 1, -1, -1)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(values, window, groups=channels)

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a * mean_a + mean(b * b) - mean_b * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1)
    structure = (2 * (mean(a * b) - mean_a * mean_b) + C2) / (variances + C2)
    return (luminance * structure).mean().to(widened(left).dtype)

"""Structural similarity in torch's own operators: the window is separable, so two one-dimensional passes of stacked
moments.

On a GPU that is 94 kernels of a training step's both directions, and channels-last images of three channels get
cuDNN's depthwise convolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.ssim.checks import C1, C2, SIGMA, WINDOW, check_ssim, widened


def ssim(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """See the contract in `v2f_kernels.ssim`."""
    check_ssim(left, right)
    channels = left.shape[1]
    a, b = widened(left), widened(right)
    taps = torch.arange(WINDOW, device=left.device, dtype=a.dtype) - WINDOW // 2
    window = torch.exp(-taps.square() / (2 * SIGMA**2))
    window = window / window.sum()
    stacked = torch.cat([a, b, a * a, b * b, a * b])
    column = window.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    row = window.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    blurred = F.conv2d(F.conv2d(stacked, column, groups=channels), row, groups=channels)
    mean_a, mean_b, square_a, square_b, product = blurred.chunk(5)
    variance_a, variance_b = square_a - mean_a * mean_a, square_b - mean_b * mean_b
    covariance = product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return (luminance * structure).mean()

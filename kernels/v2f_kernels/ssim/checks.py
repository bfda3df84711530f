"""The window, the two constants, and the check that every backend makes."""

from __future__ import annotations

import math

import torch

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def taps() -> tuple[float, ...]:
    """The window along one axis; sums to 1."""
    heights = [math.exp(-((k - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for k in range(WINDOW)]
    return tuple(height / math.fsum(heights) for height in heights)


def check_ssim(left: torch.Tensor, right: torch.Tensor) -> None:
    """Raises ValueError unless both are [B, C, H, W] of one shape and floating dtype that hold a window."""
    if left.ndim != 4 or left.numel() == 0 or min(left.shape[2:]) < WINDOW:
        raise ValueError(
            f"left: expected a non-empty [B, C, H, W] of at least {WINDOW} x {WINDOW} pixels, found {tuple(left.shape)}"
        )
    if right.shape != left.shape:
        raise ValueError(
            f"right: expected the shape of left, {tuple(left.shape)}, found {tuple(right.shape)}"
        )
    if not left.is_floating_point() or right.dtype != left.dtype:
        raise ValueError(f"expected one floating dtype, found {left.dtype} and {right.dtype}")


def widened(image: torch.Tensor) -> torch.Tensor:
    """Half precision as float32."""
    return image.float() if image.dtype in (torch.float16, torch.bfloat16) else image

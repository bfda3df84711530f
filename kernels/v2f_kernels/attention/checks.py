"""The contract's checks and the dropout mask's constants, shared by every backend."""

from __future__ import annotations

import torch

ROW = 64
"""Counters of the dropout mask are laid out for rows of 64, the largest N."""


def check_attention(qkv: torch.Tensor, dropout: float, seed: int | torch.Tensor) -> None:
    """Raises ValueError unless qkv [B, N, 3, H, d], dropout and seed are within the contract."""
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"qkv: expected [B, N, 3, H, d], found {tuple(qkv.shape)}")
    if not 1 <= qkv.shape[1] <= ROW:
        raise ValueError(f"qkv: expected 1 to {ROW} tokens, found {qkv.shape[1]} in {tuple(qkv.shape)}")
    if not qkv.is_floating_point():
        raise ValueError(f"qkv: expected a floating dtype, found {qkv.dtype}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout: expected a probability in [0, 1), found {dropout}")
    if isinstance(seed, torch.Tensor):
        if seed.numel() != 1 or seed.dtype != torch.int64:
            raise ValueError(f"seed: expected one int64, found {seed.dtype} {tuple(seed.shape)}")
    elif not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected 0 <= seed < 2**64, found {seed}")


def drop_below(dropout: float) -> int:
    """The 32-bit word below which a weight is dropped."""
    return min(round(dropout * 2**32), 2**32 - 1)

"""Attention written out; the contract is in this folder's `__init__.py`."""

from __future__ import annotations

import numpy as np
import torch

from v2f_kernels.philox.reference import philox4x32

ROW = 64
"""Counters are laid out for rows of 64, the largest N."""


def attention(qkv: torch.Tensor, *, dropout: float = 0.0, seed: int = 0) -> torch.Tensor:
    """See the contract in `v2f_kernels.attention`."""
    batch, tokens, _, heads, depth = qkv.shape
    exact = qkv if qkv.dtype == torch.float64 else qkv.float()
    q, k, v = exact.permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) * depth**-0.5).softmax(-1)
    if dropout > 0.0:
        keep = dropout_mask(batch, heads, tokens, dropout, seed).to(qkv.device)
        weights = weights * keep / (1.0 - dropout)
    return (weights @ v).transpose(1, 2).reshape(batch, tokens, heads * depth).to(qkv.dtype)


def dropout_mask(batch: int, heads: int, tokens: int, dropout: float, seed: int) -> torch.Tensor:
    """bool [B, H, N, N], True where a weight survives."""
    row = np.arange(tokens, dtype=np.int64)
    head = np.arange(batch * heads, dtype=np.int64)
    place = (head[:, None, None] * ROW + row[:, None]) * ROW + row
    zero = np.zeros_like(place)
    counter = np.stack([place & 0xFFFFFFFF, place >> 32, zero, zero], -1).astype(np.uint32)
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    uniform = (philox4x32(counter, key)[..., 0] >> np.uint32(8)) * np.float32(2**-24)
    return torch.from_numpy(uniform >= np.float32(dropout)).view(batch, heads, tokens, tokens)

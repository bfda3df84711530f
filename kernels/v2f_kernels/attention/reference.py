"""Attention written out; the contract is in this folder's `__init__.py`."""

from __future__ import annotations

import numpy as np
import torch

from v2f_kernels.attention.checks import ROW, check_attention, drop_below
from v2f_kernels.philox.reference import philox4x32


def attention(qkv: torch.Tensor, *, dropout: float = 0.0, seed: int | torch.Tensor = 0) -> torch.Tensor:
    """See the contract in `v2f_kernels.attention`."""
    check_attention(qkv, dropout, seed)
    batch, tokens, _, heads, depth = qkv.shape
    exact = qkv if qkv.dtype == torch.float64 else qkv.float()
    q, k, v = exact.permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) * depth**-0.5).softmax(-1)
    if dropout > 0.0:
        keep = dropout_mask(batch, heads, tokens, dropout, seed).to(qkv.device)
        weights = weights * keep / (1.0 - dropout)
    out: torch.Tensor = (weights @ v).transpose(1, 2).reshape(batch, tokens, heads * depth).to(qkv.dtype)
    return out


def dropout_mask(
    batch: int, heads: int, tokens: int, dropout: float, seed: int | torch.Tensor
) -> torch.Tensor:
    """bool [B, H, N, N], True where a weight survives."""
    key = int(seed) % 2**64
    blocks = -(-tokens // 4)
    row = (np.arange(batch * heads)[:, None] * ROW + np.arange(tokens)) * (ROW // 4)
    place = row[:, :, None] + np.arange(blocks)
    counter = np.zeros((*place.shape, 4), np.uint32)
    counter[..., 0], counter[..., 1] = place & 0xFFFFFFFF, place >> 32
    words = philox4x32(counter, np.array([key & 0xFFFFFFFF, key >> 32], np.uint32))
    keep = words.reshape(batch, heads, tokens, 4 * blocks)[..., :tokens] >= np.uint32(drop_below(dropout))
    return torch.from_numpy(keep)

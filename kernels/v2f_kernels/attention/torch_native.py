"""Attention through torch's own scaled_dot_product_attention, in qkv's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.attention.reference import dropout_mask


def attention(qkv: torch.Tensor, *, dropout: float = 0.0, seed: int = 0) -> torch.Tensor:
    """See the contract in `v2f_kernels.attention`."""
    batch, tokens, _, heads, depth = qkv.shape
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    if dropout == 0.0:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        # torch's own dropout draws from global state; the contract's mask is a function of the seed.
        keep = dropout_mask(batch, heads, tokens, dropout, seed).to(qkv.device)
        weights = (q @ k.transpose(-1, -2) / depth**0.5).softmax(-1, dtype=torch.float32)
        out = (weights * keep / (1.0 - dropout)).to(v.dtype) @ v
    return out.transpose(1, 2).reshape(batch, tokens, heads * depth)

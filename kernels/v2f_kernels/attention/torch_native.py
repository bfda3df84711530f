"""Attention in torch's own operators and in qkv's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.attention.checks import check_attention
from v2f_kernels.attention.reference import dropout_mask


def attention(qkv: torch.Tensor, *, dropout: float = 0.0, seed: int | torch.Tensor = 0) -> torch.Tensor:
    """See the contract in `v2f_kernels.attention`; scaled_dot_product_attention where nothing is dropped."""
    check_attention(qkv, dropout, seed)
    if dropout > 0.0:
        # torch's own dropout draws from global state; the contract's mask is a function of the seed.
        return attention_written_out(qkv, dropout=dropout, seed=seed)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def attention_written_out(
    qkv: torch.Tensor, *, dropout: float = 0.0, seed: int | torch.Tensor = 0
) -> torch.Tensor:
    """Two products and a softmax, nothing fused: the yardstick of the kernel's error in the same dtype."""
    batch, tokens, _, heads, depth = qkv.shape
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) * depth**-0.5).softmax(-1)
    if dropout > 0.0:
        keep = dropout_mask(batch, heads, tokens, dropout, seed).to(qkv.device)
        weights = weights * keep / (1.0 - dropout)
    out: torch.Tensor = (weights @ v).transpose(1, 2).reshape(batch, tokens, heads * depth)
    return out

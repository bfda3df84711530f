"""The feature masked autoencoder: one identity vector to fifty tokens.

Token 0 is the projected vector; tokens 1..49 are the vector expanded by a learned outer product, some of
them masked. Encoder and decoder are pre-norm vision transformers without cross attention. Parameter names
are the published ones, including the two parameters the published network never reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from v2f_kernels._linear import linear as linear_op
from v2f_kernels._shapes import shape_class

from v2f_engine.models.ops import Bound

NORM_EPS = 1e-6
TOKENS = 50

LinearFactory = Callable[[int, int], nn.Module]


class Linear(nn.Linear):
    """`nn.Linear`, quicker on a CPU in bf16 where no gradient is asked for, with the same bits."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear_op(input, self.weight, self.bias)


class LoRALinear(nn.Module):
    """`base(x) + alpha / r * B A x`: the low-rank update of Vec2Face+.

    Args:
        in_features, out_features: of `base`.
        rank, alpha: r and alpha; the published checkpoint has 8 and 32.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = Linear(in_features, out_features)
        self.A = nn.Parameter(torch.empty(rank, in_features))
        self.B = nn.Parameter(torch.zeros(out_features, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.A, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x) + (x @ self.A.T) @ self.B.T * self.scale
        return out

    def merged(self) -> Linear:
        """The same map as one Linear without gradients; the sum in fp64, rounded once."""
        linear = Linear(self.base.in_features, self.base.out_features, device="meta")
        update = self.scale * self.B.double() @ self.A.double()
        weight = (self.base.weight.double() + update).to(self.base.weight.dtype)
        linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
        linear.bias = self.base.bias
        return linear


class Attention(Bound):
    """Multi-head self-attention without mask."""

    uses = ("attention",)

    def __init__(self, width: int, heads: int, dropout: float, linear: LinearFactory) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = linear(width, 3 * width)
        self.proj = linear(width, width)
        self.depth = width // heads

    def shapes(self) -> tuple[str, ...]:
        return (shape_class("attention", N=TOKENS, d=self.depth),)

    def forward(self, x: torch.Tensor, seed: int | None) -> torch.Tensor:
        batch, tokens, width = x.shape
        (attention,) = self.ops
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        drop = self.dropout if self.training else 0.0
        out: torch.Tensor = self.proj(attention(qkv, dropout=drop, seed=seed or 0))
        return out


class MLP(Bound):
    """Linear, exact GELU, dropout, Linear; four times as wide inside."""

    uses = ("gelu_linear",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, 4 * width)
        self.fc2 = Linear(4 * width, width)

    def shapes(self) -> tuple[str, ...]:
        return (shape_class("gelu_linear", K=self.fc1.in_features, M=self.fc1.out_features),)

    def forward(self, x: torch.Tensor, drop: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        (gelu_linear,) = self.ops
        out: torch.Tensor = self.fc2(drop(gelu_linear(x, self.fc1.weight, self.fc1.bias)))
        return out


class Block(nn.Module):
    """The parameters of one pre-norm block; `run_blocks` fuses each residual with the next norm."""

    def __init__(self, width: int, heads: int, dropout: float, linear: LinearFactory) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads, dropout, linear)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width)


def run_blocks(
    x: torch.Tensor,
    blocks: Sequence[Block],
    final: nn.LayerNorm,
    layer_norm: Callable[..., Any],
    drop: Callable[[torch.Tensor], torch.Tensor],
    seed: int | None,
) -> torch.Tensor:
    """`final(x + sum of branches)` of pre-norm blocks, each residual addition fused with the norm after it.

    Args:
        x: `[B, N, D]`.
        drop: dropout of the projection, of the MLP's hidden layer and of its output.
        seed: of the attention dropout of the first block; block i uses `seed + i`.
    """
    first = blocks[0].norm1
    h = layer_norm(x, first.weight, first.bias, NORM_EPS)
    for index, block in enumerate(blocks):
        branch = drop(block.attn(h, None if seed is None else seed + index))
        h, x = layer_norm(branch, block.norm2.weight, block.norm2.bias, NORM_EPS, residual=x)
        following = blocks[index + 1].norm1 if index + 1 < len(blocks) else final
        h, x = layer_norm(drop(block.mlp(h, drop)), following.weight, following.bias, NORM_EPS, residual=x)
    out: torch.Tensor = h
    return out


class Positions(nn.Embedding):
    """An embedding that is not drawn while it has no memory: for that torch imports its compiler, 1.5 s of a start."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class TokenEmbedding(nn.Module):
    """Learned positions and the norm after them."""

    position_ids: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("position_ids", torch.arange(TOKENS, device="cpu")[None])
        self.position_embeddings = Positions(TOKENS, width)
        self.LayerNorm = nn.LayerNorm(width, eps=NORM_EPS)


class UnusedPatchEmbedding(nn.Module):
    """A convolution the published checkpoints carry and the published network never calls."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 16, 16)

"""The baseline: a generator's forward pass as the published scripts run it.

Eager fp32 in NCHW, the whole network under autograd, attention written out with an explicit maximum,
`x * sigmoid(x)`, one op at a time. It computes with the very parameters of our model, so both sides do the
same arithmetic; `bench/generation/compare.py` checks that their images agree before it prints a speed-up.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.models.fmae import Block
from v2f_engine.models.image_decoder import ImageDecoder, ResidualBlock
from v2f_engine.models.vec2face import Vec2Face


def _transformer(x: torch.Tensor, blocks: nn.ModuleList, final: nn.LayerNorm) -> torch.Tensor:
    for block in blocks:
        assert isinstance(block, Block)
        x = x + _attention(block, block.norm1(x))
        x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
    return final(x)


def _attention(block: Block, x: torch.Tensor) -> torch.Tensor:
    batch, tokens, width = x.shape
    heads = block.attn.heads
    qkv = block.attn.qkv(x).reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    scores = qkv[0].float() @ qkv[1].float().transpose(-2, -1) * (width // heads) ** -0.5
    weights = (scores - scores.max(dim=-1, keepdim=True)[0]).softmax(dim=-1)
    return block.attn.proj((weights @ qkv[2]).transpose(1, 2).reshape(batch, tokens, width))


def _swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


def _residual(block: ResidualBlock, x: torch.Tensor) -> torch.Tensor:
    h = block.conv1(_swish(block.norm1(x)))
    h = block.conv2(_swish(block.norm2(h)))
    return h + (x if block.nin_shortcut is None else block.nin_shortcut(h))


def _image(decoder: ImageDecoder, grid: torch.Tensor) -> torch.Tensor:
    x = decoder.conv_in(grid)
    x = _residual(decoder.mid.block_2, _residual(decoder.mid.block_1, x))
    for level in reversed(list(decoder.up)):
        for block in level.block:
            x = _residual(block, x)
        if level.upsample is not None:
            x = level.upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return decoder.conv_out(_swish(decoder.norm_out(x)))


def published_forward(
    model: Vec2Face, vectors: torch.Tensor, noise: torch.Tensor, n_masked: int, n_dropped: int
) -> torch.Tensor:
    """Images `[B, 3, 112, 112]` of the published algorithm: autograd on, one mask count for the batch."""
    feature = model.latent_prior_proj_f(vectors)
    rows = model.feature_token(feature[:, :, None]).transpose(1, 2)
    rank = noise.argsort(dim=1).argsort(dim=1)
    dropped, masked = rank < n_dropped, rank < n_masked
    rows[masked & ~dropped] = feature[:, None].expand_as(rows)[masked & ~dropped]
    embedding = model.token_emb
    full = torch.cat([feature[:, None], rows], dim=1) + embedding.position_embeddings(embedding.position_ids)
    full = embedding.LayerNorm(full)
    batch, _, width = full.shape
    keep = torch.cat([torch.ones_like(dropped[:, :1]), ~dropped], dim=1)
    x = full[keep.nonzero(as_tuple=True)].reshape(batch, -1, width)
    x = model.decoder_embed(_transformer(x, model.blocks, model.norm))
    after = x[:, :1].repeat(1, full.shape[1], 1)
    after[keep.nonzero(as_tuple=True)] = x.reshape(-1, width)
    hidden = torch.cat([torch.zeros_like(masked[:, :1]), masked], dim=1)
    after = torch.where(hidden[:, :, None], x[:, :1], after) + model.decoder_pos_embed_learned
    tokens = _transformer(after, model.decoder_blocks, model.decoder_norm)
    grid = model.im_decoder_proj(tokens[:, 1:]).transpose(1, 2).reshape(batch, -1, 7, 7)
    return _image(model.im_decoder, grid)

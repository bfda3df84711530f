"""The published start of a generator: what `initialize_weights` of Vec2Face's network leaves, by distribution."""

from __future__ import annotations

import torch
from torch import nn

from v2f_engine.models.vec2face import Vec2Face

POSITIONS_STD = 0.02


@torch.no_grad()
def xavier(model: Vec2Face, generator: torch.Generator) -> None:
    """In place: every Linear uniform in +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010) with bias 0, qkv as one
    matrix; both tables of positions N(0, 0.02); norms 1 and 0. Convolutions of the image decoder keep torch's start.

    `feature_token`, a Linear of 1 to 49, so begins with std sqrt(2 / 50) = 0.2 and bias 0. The unread patch embedding's
    kernel is drawn as a matrix `[D, 3 * 16 * 16]`.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(model.patch_embed.proj.weight.flatten(1), generator=generator)
    for table in (model.token_emb.position_embeddings.weight, model.decoder_pos_embed_learned):
        nn.init.normal_(table, std=POSITIONS_STD, generator=generator)

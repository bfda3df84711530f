"""Vec2Face: identity vectors to faces. The module draws no random number: noise and counts are arguments.

Source: Wu et al., "Vec2Face: Scaling Face Dataset Generation with Loosely Constrained Vectors", ICLR 2025
(arXiv 2409.02979); Vec2Face+ (arXiv 2507.17192) for the LoRA layers and the pose condition.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.arguments import PATH, SWITCH, WORD, takes
from v2f_engine.config import a_path
from v2f_engine.errors import ConfigError
from v2f_engine.models.fmae import (
    NORM_EPS,
    TOKENS,
    Block,
    Linear,
    LinearFactory,
    LoRALinear,
    TokenEmbedding,
    UnusedPatchEmbedding,
    run_blocks,
)
from v2f_engine.models.image_decoder import GRID as GRID
from v2f_engine.models.image_decoder import ImageDecoder
from v2f_engine.models.ops import Bound
from v2f_engine.models.row_order import kept_rows, row_ranks
from v2f_engine.models.vec2face_config import Vec2FaceConfig as Vec2FaceConfig


class Vec2FaceOutput(NamedTuple):
    """What one forward pass gives.

    Args:
        images: `[B, 3, 112, 112]`, unclipped, nominally in [-1, 1].
        tokens: `[B, 50, D]`, output of `decoder_norm`.
        target_tokens: `[B, 50, D]`, projected feature and expanded rows before masking.
        mask: bool `[B, 50]`, True where a row was masked or dropped; column 0 is never.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    target_tokens: torch.Tensor
    mask: torch.Tensor


class Vec2Face(Bound):
    """The generator, with the published parameter names."""

    uses = ("expand_tokens", "layer_norm")

    def __init__(self, config: Vec2FaceConfig) -> None:
        super().__init__()
        self.config = config
        self.origin: dict[str, Any] = {}
        """What is known of where the weights came from; `from_pretrained` fills it, `save_pretrained` hands it on."""
        self.wide_blocks = (
            False  # transformer blocks in fp32 with autocast off: the published AMP, training only
        )
        width = config.width
        linear: LinearFactory = Linear
        if config.lora_rank:
            linear = partial(LoRALinear, rank=config.lora_rank, alpha=config.lora_alpha)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, TOKENS, width))
        self.token_emb = TokenEmbedding(width)
        self.latent_prior_proj_f = nn.Linear(config.vector_dim, width)
        self.feature_token = nn.Linear(1, TOKENS - 1)
        self.center_token = nn.Linear(width, TOKENS - 1)
        self.patch_embed = UnusedPatchEmbedding(width)
        self.blocks = nn.ModuleList(
            Block(width, config.encoder_heads, config.dropout, linear) for _ in range(config.encoder_blocks)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.decoder_embed = Linear(width, width)
        self.decoder_blocks = nn.ModuleList(
            Block(width, config.decoder_heads, config.dropout, linear) for _ in range(config.decoder_blocks)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.im_decoder_proj = Linear(width, config.z_channels)
        self.im_decoder = ImageDecoder(
            config.z_channels,
            config.base_channels,
            config.multipliers,
            config.residual_blocks,
            config.norm_groups,
        )

    @classmethod
    @takes(model=PATH, fetch=SWITCH, revision=WORD)
    def from_pretrained(
        cls, model: str | Path, *, fetch: bool = False, revision: str | None = None
    ) -> Vec2Face:
        """The generator of a name, a file, a folder of `save_pretrained`, or a repository `OWNER/NAME` of the Hub.

        Args:
            fetch: allow huggingface_hub to download what is not on this machine; nothing else does.
            revision: branch, tag or commit of a repository.

        Returns:
            fp32, on the CPU, in eval mode; a pose network in the same file is `Engine.load`'s.

        Raises:
            ModelNotFound: unknown, or not on this machine.
            CheckpointError: weights that are broken, unsafe or do not fit.
            MissingDependency: a repository without huggingface_hub.
        """
        from v2f_engine.models.pretrained import loaded

        return loaded(model, fetch, revision)

    def save_pretrained(
        self, save_directory: str | Path, *, config: Any = None, model_card_kwargs: Any = None
    ) -> None:
        """Writes a folder that `from_pretrained`, `Engine.load` and the Hub read: see `models.pretrained`.

        Args:
            save_directory: new, or without a model in it.
            config, model_card_kwargs: given by huggingface_hub; the network's own shape and card stand.

        Raises:
            OutputFolderError, DiskFull: it holds a model, or cannot be written.
        """
        from v2f_engine.models.pretrained import saved

        saved(self, a_path("save_directory", save_directory))

    def push_to_hub(self, repo_id: str, *, private: bool = True, **how: Any) -> str:
        """Puts the folder of `save_pretrained` into a repository of the Hub, by `huggingface_hub.ModelHubMixin`.

        Args:
            repo_id: `OWNER/NAME`; made where it is missing.
            private: whether a repository made now is seen by its owner alone.
            how: further arguments of `ModelHubMixin.push_to_hub`: `commit_message`, `token`, `branch`, `create_pr`.

        Returns:
            the commit's address.

        Raises:
            MissingDependency, ConfigError: without huggingface_hub, or where the Hub refuses.
        """
        from v2f_engine.models.pretrained import pushed

        return pushed(self, repo_id, private, how)

    def shapes(self) -> tuple[str, ...]:
        return tuple(shape_class(op, D=self.config.width) for op in self.uses)

    def initialise(self, generator: torch.Generator) -> None:
        """Start of a training: N(0, 0.02) for transformers and positions, torch's own for convolutions."""
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2 or name.startswith(("im_decoder.", "feature_token")):
                continue
            with torch.no_grad():
                parameter.normal_(0.0, 0.02, generator=generator)
        for module in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.feature_token.weight.normal_(0.0, 1.0, generator=generator)
            self.feature_token.bias.normal_(0.0, 1.0, generator=generator)

    def grid(
        self,
        vectors: torch.Tensor,
        noise: torch.Tensor,
        n_masked: torch.Tensor,
        n_dropped: int,
        condition: torch.Tensor | None = None,
        dropout_seed: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """All before the image decoder: grid `[B, z, 7, 7]`, tokens, feature `[B, D]`, mask `[B, 50]`."""
        expand_tokens, _ = self.ops
        drop = self._dropout(vectors.device, dropout_seed)
        feature = self.latent_prior_proj_f(vectors.to(self.latent_prior_proj_f.weight.dtype))
        rank = row_ranks(noise)
        masked = rank < n_masked[:, None]
        kept = kept_rows(rank, n_dropped)
        embedding = self.token_emb
        x = drop(
            expand_tokens(
                feature.float() if self.wide_blocks else feature,
                self.feature_token.weight[:, 0],
                self.feature_token.bias,
                masked,
                kept,
                embedding.position_embeddings.weight,
                embedding.LayerNorm.weight,
                embedding.LayerNorm.bias,
                NORM_EPS,
            )
        )
        seed = None if dropout_seed is None else (dropout_seed << 8) % 2**64  # room for 256 blocks a call
        x = self._through(x, self.blocks, self.norm, drop, seed)
        if condition is None:
            x = self.decoder_embed(x)
            filler = x[:, :1]
        else:
            filler = condition.to(x.dtype)
        # Scatter kept rows back to their places, then overwrite every masked one: no data-dependent shapes.
        width = x.shape[2]
        rows = filler.expand(-1, TOKENS - 1, -1).scatter(1, kept[:, :, None].expand(-1, -1, width), x[:, 1:])
        hidden = masked | (rank < n_dropped)
        rows = torch.where(hidden[:, :, None], filler, rows)
        # Under autocast the positions make the decoder's stream fp32. In bf16 it would save 0.4 of 82 ms a step
        # (traced, batch 128) and cost precision: tokens 1.14 % off those of fp32 instead of 0.98, a
        # norm's gradient 2.1 instead of 1.0.
        full = torch.cat([x[:, :1], rows], dim=1) + self.decoder_pos_embed_learned
        seed = None if seed is None else (seed + len(self.blocks)) % 2**64
        tokens = self._through(full, self.decoder_blocks, self.decoder_norm, drop, seed)
        flat = self.im_decoder_proj(tokens[:, 1:])
        grid = flat.transpose(1, 2).reshape(flat.shape[0], -1, GRID, GRID)
        mask = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], dim=1)
        return grid.contiguous(memory_format=torch.channels_last), tokens, feature, mask

    def _through(
        self, x: torch.Tensor, blocks: nn.ModuleList, final: nn.LayerNorm, drop: Any, seed: int | None
    ) -> torch.Tensor:
        listed: list[Block] = list(blocks)  # type: ignore[arg-type]
        if not self.wide_blocks:
            return run_blocks(x, listed, final, self.ops[1], drop, seed)
        with torch.autocast(x.device.type, enabled=False):
            return run_blocks(x.float(), listed, final, self.ops[1], drop, seed)

    def forward(
        self,
        vectors: torch.Tensor,
        noise: torch.Tensor,
        n_masked: torch.Tensor,
        n_dropped: int,
        condition: torch.Tensor | None = None,
        dropout_seed: int | None = None,
    ) -> Vec2FaceOutput:
        """Faces and tokens.

        Args:
            vectors: `[B, 512]`, un-normalised features (norm about 22).
            noise: `[B, 49]` in [0, 1): its order decides which rows are dropped and masked; ties by index.
            n_masked: int64 `[B]`, masked rows of each image, at least `n_dropped`.
            n_dropped: rows that never enter the encoder; static, it decides every shape.
            condition: `[B, 1, D]` from the pose model of Vec2Face+; it takes the mask token's place and
                `decoder_embed` is skipped, as published.
            dropout_seed: seed of every dropout of this call; required in training when `dropout > 0`.

        Raises:
            ConfigError: training with dropout and no seed.
        """
        grid, tokens, feature, mask = self.grid(vectors, noise, n_masked, n_dropped, condition, dropout_seed)
        weight, bias = self.feature_token.weight, self.feature_token.bias
        expanded = weight[None] * feature[:, None] + bias[None, :, None]
        target = torch.cat([feature[:, None], expanded], dim=1)
        return Vec2FaceOutput(self.im_decoder(grid), tokens, target, mask)

    def decode(
        self,
        vectors: torch.Tensor,
        noise: torch.Tensor,
        n_masked: torch.Tensor,
        n_dropped: int,
        condition: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images only, uint8 `[B, 112, 112, 3]`: what generation calls. Not differentiable."""
        return self.im_decoder.bytes(self.grid(vectors, noise, n_masked, n_dropped, condition)[0])

    def _dropout(self, device: torch.device, seed: int | None) -> Any:
        p = self.config.dropout
        if not self.training or p == 0.0:
            return lambda x: x
        if seed is None:
            raise ConfigError(
                "Training with dropout needs dropout_seed: this module draws nothing by itself."
            )
        generator = torch.Generator(device).manual_seed(seed % 2**63)

        def drop(x: torch.Tensor) -> torch.Tensor:
            keep = torch.empty_like(x).bernoulli_(1.0 - p, generator=generator)
            return x * keep / (1.0 - p)

        return drop

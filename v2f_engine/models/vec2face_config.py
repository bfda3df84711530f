"""The shape of a Vec2Face: four named sizes, checked when made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from v2f_engine.config import at_least, between
from v2f_engine.errors import ConfigError

_COUNTS = (
    "width",
    "encoder_blocks",
    "encoder_heads",
    "decoder_blocks",
    "decoder_heads",
    "z_channels",
    "base_channels",
    "residual_blocks",
    "norm_groups",
    "vector_dim",
)


@dataclass(frozen=True)
class Vec2FaceConfig:
    """Shape of the network.

    Args:
        width: D, channels of a token.
        encoder_blocks, encoder_heads, decoder_blocks, decoder_heads: of the two transformers.
        z_channels: channels of the 7x7 grid given to the image decoder.
        base_channels, multipliers, residual_blocks, norm_groups: of the image decoder.
        dropout: of attention, projection and MLP in training; 0.1 as published.
        lora_rank: rank of the Vec2Face+ update on qkv and proj of all blocks; 0 for none.
        lora_alpha: its scale is alpha / rank.
        vector_dim: length of an identity vector.
    """

    width: int = 768
    encoder_blocks: int = 12
    encoder_heads: int = 12
    decoder_blocks: int = 8
    decoder_heads: int = 16
    z_channels: int = 256
    base_channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    residual_blocks: int = 2
    norm_groups: int = 32
    dropout: float = 0.1
    lora_rank: int = 0
    lora_alpha: float = 32.0
    vector_dim: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        for name in _COUNTS:
            at_least(name, getattr(self, name), 1)
        at_least("lora_rank", self.lora_rank, 0)
        between("dropout", self.dropout, 0.0, 0.99)
        if len(self.multipliers) != 5:
            raise ConfigError(f"multipliers: expected 5 (7 to 112 pixels), found {self.multipliers}.")
        for heads in (self.encoder_heads, self.decoder_heads):
            if self.width % heads:
                raise ConfigError(f"width {self.width} is not a multiple of {heads} heads.")
        for multiplier in self.multipliers:
            if self.base_channels * multiplier % self.norm_groups:
                channels = self.base_channels * multiplier
                raise ConfigError(
                    f"{channels} channels are not a multiple of {self.norm_groups} norm groups."
                )

    @classmethod
    def base(cls) -> Vec2FaceConfig:
        """The released size: 174.1 M parameters."""
        return cls()

    @classmethod
    def large(cls) -> Vec2FaceConfig:
        """436.3 M parameters; never released."""
        return cls(width=1024, encoder_blocks=24, encoder_heads=16)

    @classmethod
    def huge(cls) -> Vec2FaceConfig:
        """821.4 M parameters; never released."""
        return cls(width=1280, encoder_blocks=32, encoder_heads=16)

    @classmethod
    def mini(cls) -> Vec2FaceConfig:
        """The embedded size, 5.3 M parameters: two CPU cores can train it."""
        return cls(
            width=192,
            encoder_blocks=4,
            encoder_heads=4,
            decoder_blocks=4,
            decoder_heads=4,
            z_channels=128,
            base_channels=16,
            multipliers=(1, 1, 2, 4, 8),
            residual_blocks=1,
            norm_groups=8,
            dropout=0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints and manifests."""
        return {**asdict(self), "multipliers": list(self.multipliers)}

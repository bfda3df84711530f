"""The generator's own contract: randomness is an argument, per-image counts, static shapes, stable ties."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from v2f_engine.errors import ConfigError
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

TINY = Vec2FaceConfig(
    width=32,
    encoder_blocks=2,
    encoder_heads=2,
    decoder_blocks=2,
    decoder_heads=4,
    z_channels=8,
    base_channels=8,
    multipliers=(1, 1, 2, 2, 4),
    residual_blocks=2,
    norm_groups=4,
    dropout=0.2,
)


@pytest.fixture(scope="module")
def model() -> Vec2Face:
    torch.manual_seed(3)
    made = Vec2Face(TINY)
    made.initialise(torch.Generator().manual_seed(5))
    return made.eval()


def inputs(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    vectors = torch.randn(batch, 512, generator=generator)
    noise = torch.rand(batch, 49, generator=generator)
    return vectors, noise, torch.tensor([5, 17, 30, 49])[:batch]


@torch.no_grad()
def test_shapes_and_mask_counts(model: Vec2Face) -> None:
    vectors, noise, n_masked = inputs()
    out = model(vectors, noise, n_masked, 5)
    assert out.images.shape == (4, 3, 112, 112)
    assert out.tokens.shape == out.target_tokens.shape == (4, 50, 32)
    assert out.mask.sum(1).tolist() == n_masked.tolist()
    assert not out.mask[:, 0].any()


@torch.no_grad()
def test_masked_rows_are_those_of_smallest_noise(model: Vec2Face) -> None:
    vectors, noise, n_masked = inputs()
    mask = model(vectors, noise, n_masked, 5).mask[:, 1:]
    for row, values, count in zip(mask, noise, n_masked.tolist(), strict=True):
        assert set(row.nonzero()[:, 0].tolist()) == set(values.argsort()[:count].tolist())


@torch.no_grad()
def test_equal_noise_masks_the_lowest_rows(model: Vec2Face) -> None:
    vectors, _, _ = inputs(1)
    mask = model(vectors, torch.full((1, 49), 0.5), torch.tensor([7]), 3).mask
    assert mask[0].nonzero()[:, 0].tolist() == list(range(1, 8))


@torch.no_grad()
def test_dropped_rows_count_as_masked(model: Vec2Face) -> None:
    vectors, noise, _ = inputs(1)
    assert model(vectors, noise, torch.tensor([0]), 6).mask.sum() == 6


@torch.no_grad()
def test_images_do_not_depend_on_their_batch(model: Vec2Face) -> None:
    vectors, noise, n_masked = inputs()
    together = model(vectors, noise, n_masked, 5).images
    for i in range(4):
        alone = model(vectors[i : i + 1], noise[i : i + 1], n_masked[i : i + 1], 5).images
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=2e-5 * float(together.abs().max()))


@torch.no_grad()
def test_masked_count_changes_the_image(model: Vec2Face) -> None:
    vectors, noise, _ = inputs(1)
    few, many = (model(vectors, noise, torch.tensor([n]), 5).images for n in (5, 40))
    assert not torch.allclose(few, many, rtol=1e-3)


@torch.no_grad()
def test_condition_replaces_the_mask_token_and_skips_decoder_embed(model: Vec2Face) -> None:
    vectors, noise, n_masked = inputs()
    condition = torch.randn(4, 1, 32, generator=torch.Generator().manual_seed(1))
    before = model(vectors, noise, n_masked, 40, condition=condition).tokens
    saved = model.decoder_embed.weight.clone()
    model.decoder_embed.weight.mul_(2.0)
    try:
        assert torch.equal(model(vectors, noise, n_masked, 40, condition=condition).tokens, before)
    finally:
        model.decoder_embed.weight.copy_(saved)
    other = model(vectors, noise, n_masked, 40, condition=condition.flip(2)).tokens
    assert not torch.allclose(other, before, rtol=1e-3)


def test_nothing_is_drawn_from_global_state(model: Vec2Face) -> None:
    vectors, noise, n_masked = inputs()
    before = torch.get_rng_state()
    training = model.train()
    first = training(vectors, noise, n_masked, 25, dropout_seed=7).tokens
    again = training(vectors, noise, n_masked, 25, dropout_seed=7).tokens
    other = training(vectors, noise, n_masked, 25, dropout_seed=8).tokens
    model.eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_with_dropout_needs_a_seed(model: Vec2Face) -> None:
    vectors, noise, n_masked = inputs()
    try:
        with pytest.raises(ConfigError, match="dropout_seed"):
            model.train()(vectors, noise, n_masked, 25)
    finally:
        model.eval()


def test_every_live_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = Vec2Face(dataclasses.replace(TINY, dropout=0.0)).train()
    with torch.no_grad():
        for parameter in model.parameters():  # zero-initialised positions and norms hide nothing
            parameter.add_(0.05 * torch.randn(parameter.shape))
    vectors, noise, n_masked = inputs()
    out = model(vectors, noise, n_masked, 25)
    (out.images.square().mean() + out.target_tokens.mean()).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {
        "center_token.weight",
        "center_token.bias",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
    }


def test_training_under_autocast_follows_fp32() -> None:
    torch.manual_seed(0)
    model = Vec2Face(dataclasses.replace(TINY, dropout=0.0)).train()
    vectors, noise, n_masked = inputs()

    def gradient(enabled: bool) -> torch.Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = model(vectors, noise, n_masked, 25)
        (out.images.float().square().mean() + out.tokens.float()[..., 0].mean()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    exact, found = gradient(False), gradient(True)
    assert found.dtype == torch.float32
    assert float(torch.cosine_similarity(exact, found, 0)) > 0.99


def test_bytes_are_the_rounded_images(model: Vec2Face) -> None:
    vectors, noise, n_masked = inputs()
    with torch.no_grad():
        images = model(vectors, noise, n_masked, 5).images
        found = model.decode(vectors, noise, n_masked, 5)
    expected = ((images.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1)
    assert found.dtype == torch.uint8
    assert int((found.float() - expected).abs().max()) <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"encoder_heads": 0},
        {"encoder_heads": 7},
        {"multipliers": (1, 2)},
        {"norm_groups": 5},
        {"dropout": 1.0},
        {"lora_rank": -1},
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(TINY, **change)


def test_configuration_survives_json() -> None:
    for config in (Vec2FaceConfig.base(), Vec2FaceConfig.mini(), TINY):
        assert Vec2FaceConfig(**config.to_json()) == config

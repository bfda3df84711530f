"""Folds are identities: fp64 to rounding, layer by layer and end to end, and the original stays as it was."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from random_weights import randomised
from torch import nn

from v2f_engine.models.fmae import LoRALinear
from v2f_engine.models.fold import fold_norm, fold_shortcut, freeze
from v2f_engine.models.image_decoder import ResidualBlock, Upsample
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

CONFIG = Vec2FaceConfig(
    width=32,
    encoder_blocks=2,
    encoder_heads=2,
    decoder_blocks=1,
    decoder_heads=4,
    z_channels=8,
    base_channels=8,
    norm_groups=4,
    lora_rank=3,
)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max())


def test_shortcut_goes_into_conv2() -> None:
    block = randomised(ResidualBlock(8, 12, 4, 7)).double()
    x = torch.randn(2, 8, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    folded = freeze(block)
    assert folded.nin_shortcut is None
    assert relative(folded(x), block(x)) < 1e-13
    h = F.conv2d(x.repeat(1, 2, 1, 1)[:, :12], block.conv2.weight, padding=1)
    weight = fold_shortcut(block.conv2.weight, block.nin_shortcut.weight)
    direct = F.conv2d(x.repeat(1, 2, 1, 1)[:, :12], weight, padding=1)
    assert relative(direct, h + F.conv2d(h, block.nin_shortcut.weight)) < 1e-13


def test_upsampling_and_convolution_become_one() -> None:
    upsample = randomised(Upsample(6, 7)).double()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = F.conv2d(
        F.interpolate(x, scale_factor=2.0), upsample.conv.weight, upsample.conv.bias, padding=1
    )
    folded = freeze(upsample)
    assert folded.folded is not None
    assert folded.conv.weight is None
    assert relative(upsample(x), expected) < 1e-13
    assert relative(folded(x), expected) < 1e-13


def test_lora_merges() -> None:
    layer = randomised(LoRALinear(10, 14, 4, 32.0)).double()
    x = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert layer.scale == 8.0
    merged = layer.merged()
    assert relative(merged(x), layer(x)) < 1e-13
    assert not any(p.requires_grad for p in [merged.weight])


def test_batch_norm_goes_into_a_convolution_with_and_without_bias() -> None:
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for bias in (False, True):
        conv = randomised(nn.Conv2d(3, 5, 3, padding=1, bias=bias)).double()
        norm = randomised(nn.BatchNorm2d(5)).double()
        weight, shift = fold_norm(conv.weight, conv.bias, norm)
        assert relative(F.conv2d(x, weight, shift, padding=1), norm(conv(x))) < 1e-13


@pytest.mark.parametrize("lora_rank", [0, 3])
def test_frozen_generator_computes_the_same(lora_rank: int) -> None:
    model = randomised(Vec2Face(dataclasses.replace(CONFIG, lora_rank=lora_rank))).double()
    generator = torch.Generator().manual_seed(6)
    vectors = torch.randn(3, 512, generator=generator, dtype=torch.float64)
    arguments = (vectors, torch.rand(3, 49, generator=generator), torch.tensor([10, 20, 49]), 5)
    with torch.no_grad():
        expected = model(*arguments)
    found = freeze(model)(*arguments)
    assert relative(found.images, expected.images) < 1e-12
    assert relative(found.tokens, expected.tokens) < 1e-12
    assert not found.images.requires_grad


def test_freezing_leaves_the_original_alone_and_shares_what_it_can() -> None:
    model = randomised(Vec2Face(CONFIG)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = freeze(model, dtype=torch.bfloat16)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not frozen.training
    assert {p.dtype for p in frozen.parameters()} == {torch.bfloat16}
    assert frozen.im_decoder.up[1].upsample.folded.dtype == torch.bfloat16
    same = freeze(model)
    assert same.norm.weight.data_ptr() == model.norm.weight.data_ptr()


@pytest.mark.parametrize("se", [False, True])
def test_frozen_recogniser_computes_the_same(se: bool) -> None:
    config = IResNetConfig(layers=(1, 2, 1, 1), widths=(16, 16, 24, 32), se=se, input_size=32)
    model = randomised(IResNet(config)).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = model(x)
    frozen = freeze(model)
    assert relative(frozen(x), expected) < 1e-12
    norms = [name for name, module in frozen.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(name.endswith(".bn1") and name.startswith("layer") for name in norms)


def test_half_precision_stays_near() -> None:
    model = randomised(Vec2Face(CONFIG))
    generator = torch.Generator().manual_seed(8)
    vectors = torch.randn(2, 512, generator=generator)
    arguments = (vectors, torch.rand(2, 49, generator=generator), torch.tensor([10, 20]), 5)
    with torch.no_grad():
        expected = model(*arguments).images
    found = freeze(model, dtype=torch.bfloat16)(*arguments).images
    assert float((found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()) < 0.06


def test_a_frozen_recogniser_is_not_folded_twice() -> None:
    frozen = freeze(IResNet(IResNetConfig(layers=(1, 1, 1, 1), widths=(8, 8, 8, 8), input_size=32)))
    with pytest.raises(TypeError, match="folded before"):
        freeze(frozen)

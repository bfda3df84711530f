"""Every loss term against a value worked out by hand or by another route."""

import math

import numpy as np
import pytest
import torch

from v2f_engine.errors import ConfigError
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.perceptual import RecogniserView, map_distance
from v2f_engine.train.losses import (
    PRESETS,
    LossWeights,
    critic_loss,
    fooling_loss,
    identity_loss,
    ssim,
    token_loss,
)
from v2f_engine.train.optim import cosine, published_lr


def test_published_weights() -> None:
    assert PRESETS["published-2024"] == LossWeights(1, 0, 2.0, 1, 1, 1, 1, 0.5, 0.8, 4)
    assert PRESETS["published-2025"] == LossWeights(1, 0, 0.2, 0.1, 1, 1, 1, 0.8)
    assert PRESETS["plus"] == LossWeights(1, 0, 0.4, 1, 1, 1, 0, 1)
    with pytest.raises(ConfigError, match="pixel"):
        LossWeights(pixel=-1)


def test_total_is_the_weighted_sum() -> None:
    terms = {"pixel": torch.tensor(2.0), "identity": torch.tensor(3.0)}
    assert LossWeights(pixel=0.5, identity=2).total(terms).item() == 7.0


def test_identity_and_token() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert identity_loss(features, torch.tensor([[5.0, 0.0], [1.0, 0.0]])).item() == pytest.approx(
        (0 + 1 - math.sqrt(0.5)) / 2, abs=1e-6
    )
    tokens = torch.zeros(1, 50, 2)
    target = torch.full((1, 50, 2), 2.0, requires_grad=True)
    with torch.no_grad():
        target[:, 0] = 100.0  # the feature row does not count
    loss = token_loss(tokens.requires_grad_(), target)
    assert loss.item() == 4.0
    loss.backward()
    assert target.grad is None


def test_ssim_by_definition() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(1, 3, 11, 11, generator=generator) for _ in range(2))
    taps = np.arange(11) - 5
    window = np.exp(-(taps**2) / 4.5)
    window = np.outer(window, window) / window.sum() ** 2
    values = []
    for x, y in zip(a[0].numpy().astype(float), b[0].numpy().astype(float), strict=True):
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        cov = (window * (x - mx) * (y - my)).sum()
        values.append((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert ssim(a, b).item() == pytest.approx(np.mean(values), abs=1e-5)
    assert ssim(a, a).item() == pytest.approx(1.0, abs=1e-6)


def test_adversarial_terms() -> None:
    real, fake = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 1.0])
    assert critic_loss(real, fake).item() == pytest.approx(0.5 * (0.125 + 0.5))
    assert fooling_loss(fake).item() == pytest.approx(0.25)
    assert fooling_loss(fake, published=True).item() == pytest.approx(-0.5)


def test_perceptual_distance() -> None:
    left = [torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)]
    assert map_distance(left, left).item() == 0.0
    right = [torch.tensor([-4.0, 3.0]).view(1, 2, 1, 1)]
    assert map_distance(left, right).item() == pytest.approx(2.0)
    zero = torch.zeros(1, 2, 1, 1, requires_grad=True)
    map_distance([zero], left).sum().backward()
    assert torch.isfinite(zero.grad).all()  # where the published loss gave NaN


def test_the_view_is_frozen_and_agrees_with_the_recogniser() -> None:
    recogniser = IResNet(IResNetConfig((1, 1, 1, 1), (4, 4, 8, 8), stem_stride=2))
    view = RecogniserView(recogniser)
    images = torch.rand(2, 3, 112, 112)
    maps, features = view(images)
    assert [m.shape[1] for m in maps] == [4, 4, 8]
    assert torch.equal(features, recogniser(images))
    assert not any(p.requires_grad for p in view.parameters())


def test_learning_rate() -> None:
    assert published_lr(4e-5, 128) == pytest.approx(4.571e-5, rel=1e-3)
    assert cosine(0.05, 0.1) == 0.5
    assert cosine(0.1, 0.1) == 1.0
    assert cosine(1.0, 0.1, floor=0.02) == pytest.approx(0.02)

"""Sizes, keys and shapes of the recogniser family."""

from __future__ import annotations

import pytest
import torch

from v2f_engine.errors import ConfigError
from v2f_engine.models.iresnet import LAYERS, IResNet, IResNetConfig


def build(config: IResNetConfig) -> IResNet:
    with torch.device("meta"):
        return IResNet(config)


@pytest.mark.parametrize(
    ("name", "millions"), [("iresnet18", 24.03), ("iresnet50", 43.59), ("iresnet100", 65.16)]
)
def test_parameters_of_published_depths(name: str, millions: float) -> None:
    count = sum(p.numel() for p in build(IResNetConfig.named(name)).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.006)


def test_depths_are_insightfaces() -> None:
    assert LAYERS["iresnet200"] == (6, 26, 60, 6)
    assert set(LAYERS) == {f"iresnet{n}" for n in (18, 34, 50, 100, 200)}


def test_se_gates_the_first_block_of_each_stage() -> None:
    model = build(IResNetConfig.named("iresnet50", se=True))
    gated = [key for key in model.state_dict() if ".attn." in key]
    assert gated == [f"layer{n}.0.attn.{fc}.weight" for n in (1, 2, 3, 4) for fc in ("fc1", "fc2")]


def test_se_acts_on_the_shortcut() -> None:
    torch.manual_seed(0)
    model = IResNet(IResNetConfig(layers=(1, 1, 1, 1), widths=(16,) * 4, se=True, input_size=32)).eval()
    x = torch.randn(2, 3, 32, 32)
    block = model.layer1[0]
    with torch.no_grad():
        stem = model.prelu(model.bn1(model.conv1(x)))
        branch = block.bn3(block.conv2(block.prelu(block.bn2(block.conv1(block.bn1(stem))))))
        shortcut = block.downsample(stem)
        gate = torch.sigmoid(block.attn.fc2(torch.relu(block.attn.fc1(shortcut.mean((2, 3), True)))))
        torch.testing.assert_close(block(stem), branch + shortcut * gate)


@pytest.mark.parametrize(("stride", "size", "grid"), [(1, 112, 7), (2, 112, 4), (1, 32, 2)])
def test_grid_and_features(stride: int, size: int, grid: int) -> None:
    config = IResNetConfig((1, 1, 1, 1), (8, 8, 16, 24), stem_stride=stride, feature_dim=40, input_size=size)
    model = IResNet(config).eval()
    assert config.grid == grid
    with torch.no_grad():
        stages = model.stages(torch.zeros(2, 3, size, size))
        features = model(torch.zeros(2, 3, size, size))
    assert [tuple(s.shape[1:]) for s in stages][-1] == (24, grid, grid)
    assert features.shape == (2, 40)


@pytest.mark.parametrize("change", [{"layers": (0, 1, 1, 1)}, {"widths": (8, 8, 8, -1)}, {"stem_stride": 0}])
def test_impossible_shapes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        IResNetConfig(**change)


def test_unknown_depth_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'iresnet50'"):
        IResNetConfig.named("iresnet51")

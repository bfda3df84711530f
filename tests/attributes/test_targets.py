"""Targets, goals, 6DRepNet's layout, estimators and attributes from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.attributes.control import AttributeControl
from v2f_engine.attributes.estimators import (
    Estimator,
    EstimatorConfig,
    load_estimator,
    save_estimator,
)
from v2f_engine.attributes.from_file import attribute_from_file
from v2f_engine.attributes.goals import Goal, draw_goals
from v2f_engine.attributes.sixd import (
    RepVGGConfig,
    SixDRepNet,
    euler,
    fold_branches,
    is_sixd,
    load_sixd,
    orthonormal,
)
from v2f_engine.attributes.targets import (
    Attribute,
    Objective,
    feature_norm,
    identity_cosine,
    pose,
    published_plus,
)
from v2f_engine.errors import CheckpointError, ConfigError, ModelNotFound
from v2f_engine.models.checkpoint_file import read_checkpoint

EXAMPLE = Path(__file__).parents[2] / "examples" / "brightness_attribute.py"


class Fixed(nn.Module):
    """A recogniser or estimator whose output does not depend on the image."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output
        self.runs = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.output + 0.0 * images.sum()


IMAGES = torch.zeros(3, 3, 112, 112)


def judge(
    attribute: Attribute, goal: float, identity: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    identity = torch.ones(3, 2) if identity is None else identity
    judged = Objective([attribute])(IMAGES, torch.full((3, 1), goal), identity)
    return judged.loss, judged.values[:, 0], judged.met, judged.kept


def test_identity_as_published_and_with_the_hinge_of_plus() -> None:
    identity = torch.tensor([[1.0, 0.0]] * 3)
    features = torch.tensor([[2.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    loss, value, met, kept = judge(identity_cosine(Fixed(features)), 1.0, identity)
    torch.testing.assert_close(value, torch.tensor([1.0, 0.8, 0.6]))
    torch.testing.assert_close(loss, torch.tensor([0.0, 20.0, 40.0]))
    assert met.tolist() == kept.tolist() == [True, True, False]
    loss, *_ = judge(identity_cosine(Fixed(features), hinge=True), 1.0, identity)
    torch.testing.assert_close(loss, torch.tensor([0.0, 0.0, 0.4]))  # distance counts only above 0.3


def test_quality_is_the_length_of_a_feature_and_more_is_no_fault() -> None:
    features = torch.tensor([[30.0, 0.0], [0.0, 26.5], [12.0, 16.0]])
    loss, value, met, kept = judge(feature_norm(Fixed(features)), 27.0)
    torch.testing.assert_close(value, torch.tensor([30.0, 26.5, 20.0]))
    torch.testing.assert_close(loss, torch.tensor([0.0, 0.5, 7.0]))
    assert met.tolist() == [True, True, False]
    assert kept.all()  # quality is not required


def test_yaw_signed_and_of_the_magnitude() -> None:
    estimator = Fixed(torch.tensor([[-40.0, 1.0], [44.0, 2.0], [10.0, 3.0]]))
    loss, value, met, _ = judge(pose(estimator, ("yaw", "pitch"), "yaw"), 45.0)
    torch.testing.assert_close(loss, torch.tensor([85.0, 1.0, 35.0]))
    assert met.tolist() == [False, True, False]
    loss, _, met, _ = judge(pose(estimator, ("yaw", "pitch"), "yaw", compare="magnitude"), 45.0)
    torch.testing.assert_close(loss, torch.tensor([5.0, 1.0, 35.0]))
    assert met.tolist() == [True, True, False]
    value = judge(pose(estimator, ("yaw", "pitch"), "pitch"), 0.0)[1]
    assert value.tolist() == [1.0, 2.0, 3.0]
    plus = published_plus(pose(estimator, ("yaw", "pitch"), "yaw"))
    torch.testing.assert_close(judge(plus, 45.0)[0], torch.tensor([85.0, 1.0, 35.0]) / 90)


def test_terms_add_up_and_a_shared_network_runs_once() -> None:
    network = Fixed(torch.tensor([[3.0, 4.0]] * 3))
    objective = Objective([identity_cosine(network), feature_norm(network, 10.0)])
    judged = objective(IMAGES, torch.tensor([[1.0, 10.0]] * 3), torch.tensor([[3.0, 4.0]] * 3))
    assert network.runs == 1
    torch.testing.assert_close(judged.loss, torch.full((3,), 5.0))
    assert judged.values.shape == (3, 2)
    free = objective(IMAGES, torch.tensor([[1.0, torch.nan]] * 3), torch.tensor([[3.0, 4.0]] * 3))
    torch.testing.assert_close(free.loss, torch.zeros(3))  # no goal: measured, not judged
    assert free.met.all()


def test_objectives_and_attributes_are_checked() -> None:
    one = Attribute.from_callable("a", lambda x: x.mean((1, 2, 3)))
    with pytest.raises(ConfigError, match="different names"):
        Objective([one, one])
    with pytest.raises(ConfigError, match="did you mean 'equal'"):
        Attribute.from_callable("a", lambda x: x, compare="equals")
    with pytest.raises(ConfigError, match=r"one value an image"):
        judge(Attribute.from_callable("a", lambda x: x), 0.0)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (24, Goal((24.0,))),
        ("24", Goal((24.0,))),
        ("-60:60", Goal((), -60.0, 60.0)),
        ("-45,0,45", Goal((-45.0, 0.0, 45.0))),
    ],
)
def test_goals_as_they_are_typed(typed: str | float, expected: Goal) -> None:
    assert Goal.of(typed) == expected


@pytest.mark.parametrize("typed", ["sixty", "1:2:3", "60:-60", "nan", "", None])
def test_goals_that_are_none(typed: str) -> None:
    with pytest.raises(ConfigError):
        Goal.of(typed, "--yaw")


def test_goals_are_drawn_by_image_alone() -> None:
    goals = {"yaw": Goal.of("-60:60"), "quality": Goal.of("22,26"), "mine": Goal.of("0:1")}
    place = np.arange(4000)
    drawn = draw_goals(goals, 3, place // 50, place % 50)
    part = draw_goals({"yaw": goals["yaw"]}, 3, place[7:9] // 50, place[7:9] % 50)
    np.testing.assert_array_equal(part["yaw"], drawn["yaw"][7:9])  # other attributes and rows play no part
    assert -60 <= drawn["yaw"].min() < -58
    assert 58 < drawn["yaw"].max() <= 60
    assert abs(drawn["yaw"].mean()) < 2
    assert set(drawn["quality"].tolist()) == {22.0, 26.0}
    assert abs((drawn["quality"] == 22).mean() - 0.5) < 0.03
    assert abs(np.corrcoef(drawn["yaw"], drawn["mine"])[0, 1]) < 0.05


def turn(axis: str, degrees: float) -> torch.Tensor:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    table = {
        "yaw": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "pitch": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "roll": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return torch.tensor(table[axis], dtype=torch.float64)


def test_six_numbers_make_a_rotation_and_its_angles_come_back() -> None:
    rotation = turn("roll", 12) @ turn("yaw", -37) @ turn("pitch", 21)
    torch.testing.assert_close(euler(rotation[None])[0], torch.tensor([-37.0, 21.0, 12.0]).double())
    six = torch.cat([rotation[:, 0] * 3, rotation[:, 1] * 0.2 + rotation[:, 0]])[None]
    torch.testing.assert_close(orthonormal(six)[0], rotation)


def test_the_published_6drepnet_has_its_keys_and_size() -> None:
    """RepVGG-B1g2 in one-branch form: 28 blocks, 157.3 MB of float32, as the released file."""
    with torch.device("meta"):
        model = SixDRepNet()
    keys = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert len(keys) == 2 * 28 + 2
    assert keys["layer0.rbr_reparam.weight"] == (64, 3, 3, 3)
    assert keys["layer1.0.rbr_reparam.weight"] == (128, 64, 3, 3)
    assert keys["layer1.1.rbr_reparam.weight"] == (128, 64, 3, 3)  # every second one has two groups
    assert keys["layer4.0.rbr_reparam.weight"][0] == 2048
    assert keys["linear_reg.weight"] == (6, 2048)
    assert sum(4 * p.numel() for p in model.parameters()) == 157_293_592


def test_training_branches_fold_exactly() -> None:
    torch.manual_seed(0)
    for groups, same in ((1, True), (2, True), (2, False)):
        out = 8 if same else 12
        dense = nn.Conv2d(8, out, 3, 1, 1, groups=groups, bias=False).double()
        one = nn.Conv2d(8, out, 1, groups=groups, bias=False).double()
        norms = {"rbr_dense.bn": nn.BatchNorm2d(out), "rbr_1x1.bn": nn.BatchNorm2d(out)}
        if same:
            norms["rbr_identity"] = nn.BatchNorm2d(8)
        state = {"rbr_dense.conv.weight": dense.weight, "rbr_1x1.conv.weight": one.weight}
        for name, norm in norms.items():
            norm.double().eval()
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.uniform_(norm.bias)
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
            state |= {f"{name}.{key}": value for key, value in norm.state_dict().items()}
        x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
        expected = norms["rbr_dense.bn"](dense(x)) + norms["rbr_1x1.bn"](one(x))
        if same:
            expected = expected + norms["rbr_identity"](x)
        weight, bias = fold_branches({key: value.detach() for key, value in state.items()})
        found = F.conv2d(x.float(), weight, bias, padding=1, groups=groups)
        torch.testing.assert_close(found, expected.float(), atol=2e-5, rtol=1e-5)


def test_6drepnet_sees_bgr_in_zero_to_one() -> None:
    torch.manual_seed(0)
    model = SixDRepNet(RepVGGConfig((1, 2, 1, 1), (4, 4, 8, 8, 16)))
    seen: list[torch.Tensor] = []
    model.layer0.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.stack([torch.full((112, 112), v) for v in (-1.0, 0.0, 0.5)])[None]
    rotation = model.rotation(images)
    assert seen[0][0, :, 0, 0].tolist() == [0.75, 0.5, 0.0]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3)[None], atol=1e-5, rtol=0)


def test_a_6drepnet_of_another_size_or_kind_is_refused(tmp_path: Path) -> None:
    small = SixDRepNet(RepVGGConfig((1, 2, 1, 1), (4, 4, 8, 8, 16)))
    torch.save(small.state_dict(), tmp_path / "small.pth")
    assert is_sixd(read_checkpoint(tmp_path / "small.pth"))
    with pytest.raises(CheckpointError, match="missing"):
        load_sixd(tmp_path / "small.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="expected a 6DRepNet"):
        load_sixd(tmp_path / "other.pth")


def small_estimator() -> Estimator:
    torch.manual_seed(0)
    estimator = Estimator(EstimatorConfig(("yaw", "pitch"), (25.0, 10.0), (0.0, 5.0), (4, 6), shrink=4))
    for norm in estimator.norms:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        norm.running_mean.uniform_(-0.5, 0.5)
    return estimator.eval()


def test_estimators_fold_and_go_through_a_file(tmp_path: Path) -> None:
    estimator = small_estimator()
    save_estimator(tmp_path / "mine.safetensors", estimator, {"training": {"steps": 1}}, precision="fp32")
    loaded = load_estimator(tmp_path / "mine.safetensors")
    images = torch.rand(3, 3, 112, 112) * 2 - 1
    torch.testing.assert_close(loaded.model(images), estimator(images), atol=1e-4, rtol=1e-4)
    assert loaded.model.config == estimator.config
    assert loaded.head["training"] == {"steps": 1}
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in loaded.model.modules())


def test_the_embedded_estimators_load_and_are_small() -> None:
    pose_estimator, quality = load_estimator("pose"), load_estimator("quality")
    assert pose_estimator.model.config.outputs == ("yaw", "pitch")
    assert quality.model.config.outputs == ("quality",)
    assert pose_estimator.path.stat().st_size + quality.path.stat().st_size < 3_000_000


def test_estimator_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="neither"):
        load_estimator(tmp_path / "none.safetensors")
    recogniser = Path(__file__).parents[2] / "v2f_engine" / "assets" / "mini" / "recogniser.safetensors"
    with pytest.raises(CheckpointError, match="expected an estimator"):
        load_estimator(recogniser)


@pytest.mark.parametrize(
    "wrong",
    [{"widths": (4,)}, {"scale": (1.0, 2.0)}, {"shrink": 0}, {"widths": (0, 4)}],
)
def test_estimator_shapes_are_checked(wrong: dict[str, object]) -> None:
    shape = {"outputs": ("yaw",), "scale": (1.0,), "offset": (0.0,), "widths": (4, 4)}
    with pytest.raises(ConfigError):
        EstimatorConfig(**{**shape, **wrong})  # type: ignore[arg-type]


def test_the_example_attribute_loads_and_measures() -> None:
    attribute = attribute_from_file(f"{EXAMPLE}:Brightness")
    images = torch.stack([torch.full((3, 112, 112), v) for v in (-1.0, 0.0, 1.0)])
    judged = Objective([attribute])(images, torch.full((3, 1), 127.5), torch.ones(3, 2))
    torch.testing.assert_close(judged.values[:, 0], torch.tensor([0.0, 127.5, 255.0]))
    assert judged.met.tolist() == [False, True, False]


def test_attribute_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("Thing = 3\nraise_me = 1\n")
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    for typed, message in (
        ("nowhere.py:Name", "file.py:Name"),
        (str(bad), "file.py:Name"),
        (f"{bad}:Missing", "has no Missing"),
        (f"{bad}:Thing", "expected an Attribute, found int"),
        (f"{broken}:Thing", "ZeroDivisionError"),
    ):
        with pytest.raises(ConfigError, match=message):
            attribute_from_file(typed)


def test_control_without_goals_or_with_unknown_uses_is_refused() -> None:
    with pytest.raises(ConfigError, match="without a goal"):
        AttributeControl()
    with pytest.raises(ConfigError, match="did you mean 'images'"):
        AttributeControl({"yaw": 3}, use="image")
    with pytest.raises(ConfigError, match="min_cosine"):
        AttributeControl({"yaw": 3}, min_cosine=2.0)

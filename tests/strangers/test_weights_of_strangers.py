"""Weights as trainers leave them: the exact network, or a refusal that says what stands there and what to do."""

from __future__ import annotations

import pickle
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from weight_files import CONTAINERS, OPTIMISER, Maker, ir_state, prefixed

from v2f_engine.errors import CheckpointError
from v2f_engine.models.embedder import open_embedder
from v2f_engine.models.features import extract_features
from v2f_engine.models.fold import freeze
from v2f_engine.models.iresnet import IResNet, IResNetConfig, as_rgb
from v2f_engine.models.weights import convert, load_recogniser

SMALL = IResNetConfig((1, 2, 1, 1), (8, 8, 16, 16), feature_dim=24)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(4)
    return IResNet(SMALL).state_dict()


def is_exactly(path: Path | str, state: State) -> None:
    found = load_recogniser(path).model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def refused(path: Path | str, match: str) -> str:
    with pytest.raises(CheckpointError, match=match) as caught:
        load_recogniser(path)
    return str(caught.value)


@pytest.mark.parametrize(("name", "make"), CONTAINERS)
def test_every_container_holds_the_network(name: str, make: Maker, state: State, tmp_path: Path) -> None:
    path = make(tmp_path, state)
    is_exactly(path, state)
    convert(path, tmp_path / "ours.safetensors")
    is_exactly(tmp_path / "ours.safetensors", state)


def test_what_was_taken_and_set_aside_is_said(state: State, tmp_path: Path) -> None:
    makers = dict(CONTAINERS)
    assert load_recogniser(makers["plain"](tmp_path, state)).notes == ()
    notes = load_recogniser(makers["lightning"](tmp_path, state)).notes
    assert notes == (
        "weights taken from 'state_dict.model.backbone'",
        "set aside, not part of the network: head.kernel [24, 4], head.t [1], callbacks.ModelCheckpoint",
    )
    assert (
        load_recogniser(makers["both_equal"](tmp_path, state)).notes[1] == "equal to the last bit: model_ema"
    )
    assert "bgr --mean 0 --std 255" in load_recogniser(makers["magface"](tmp_path, state)).notes[-1]


@pytest.mark.parametrize("flat", [False, True])
def test_two_networks_that_differ_are_asked_about(flat: bool, state: State, tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in state.items()}
    if flat:
        path = tmp_path / "both.safetensors"
        save_file({**prefixed("model.", state), **prefixed("model_ema.", other)}, path)
    else:
        path = tmp_path / "both.pth"
        torch.save({"model": prefixed("module.", state), "model_ema": other}, path)
    said = refused(path, "holds 2 networks.*tensors of the first two that differ are not equal. Say which")
    assert f"{path}#model_ema" in said
    is_exactly(f"{path}#model_ema", other)
    is_exactly(f"{path}#model", state)
    refused(f"{path}#teacher", "has no networks at 'teacher'; found networks at 'model")
    assert load_recogniser(f"{path}#model_ema").name == "both#model_ema"


def test_a_compiled_copy_beside_the_plain_one_is_another_network(state: State, tmp_path: Path) -> None:
    other = {name: value * 2 for name, value in state.items()}
    torch.save({**state, **prefixed("_orig_mod.", other)}, tmp_path / "both.pth")
    refused(tmp_path / "both.pth", "holds 2 networks")
    is_exactly(f"{tmp_path / 'both.pth'}#_orig_mod", other)


def test_a_projection_behind_the_backbone_is_not_dropped(state: State, tmp_path: Path) -> None:
    """Its features would be others than the backbone's; dropping it in silence is a wrong recogniser."""
    path = tmp_path / "projected.pth"
    torch.save({**prefixed("backbone.", state), "neck.0.weight": torch.zeros(8, 24)}, path)
    refused(path, "1 parts that may belong to it: neck.0.weight")
    is_exactly(f"{path}#backbone", state)
    torch.save({"backbone": state, "projector": {"weight": torch.zeros(8, 24)}}, path)
    refused(path, "1 parts that may belong to it: projector")
    is_exactly(f"{path}#backbone", state)


PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "features.",
    "features.module.",
    "encoder.",
    "net.",
)
WRAPPERS = ("state_dict", "state_dict_backbone", "model", "model_ema", "ema_state_dict", "ema", "net", "network",
            "backbone")  # fmt: skip
HEADS = ("head.kernel", "module.fc.weight", "classifier.weight", "margin.weight", "criterion.kernel")
DAMAGES = (
    "nothing",
    "a key missing",
    "a key renamed",
    "a shape changed",
    "a second network",
    "a neck beside",
)


def test_any_nesting_is_exact_or_refused(state: State, tmp_path: Path) -> None:
    """240 files: up to three prefixes, up to two wrappers, a head, in both formats, damaged in one of six ways."""
    draw, exact = random.Random(16), 0
    for case in range(240):
        damage = DAMAGES[case % len(DAMAGES)]
        table = dict(state)
        name = draw.choice([key for key in state if "num_batches" not in key])
        if damage == "a key missing":
            del table[name]
        elif damage == "a key renamed":
            table[name + "x"] = table.pop(name)
        elif damage == "a shape changed":
            table[name] = torch.zeros(*table[name].shape, 2)
        prefix = "".join(draw.choice(PREFIXES) for _ in range(draw.randrange(4)))
        whole: State = prefixed(prefix, table)
        if damage == "a second network":
            whole |= prefixed("teacher.", {key: value + 1 for key, value in state.items()})
        if damage == "a neck beside":
            whole |= {"neck.projection": torch.zeros(24, 24)}
        if draw.random() < 0.5 and prefix:
            whole |= {draw.choice(HEADS): torch.zeros(24, 4)}
        if case % 4 == 0:
            path = tmp_path / "case.safetensors"
            save_file(whole, path)
        else:
            content: object = whole
            for _ in range(draw.randrange(3)):
                content = {draw.choice(WRAPPERS): content, "epoch": 3, "optimizer": OPTIMISER}
            path = tmp_path / draw.choice(("case.pth", "case.ckpt", "case.pth.tar", "case.pt"))
            torch.save(content, path)
        if damage == "nothing":
            is_exactly(path, state)
            exact += 1
        else:
            said = refused(path, "case")
            assert str(path) in said, damage
    print(f"240 nested checkpoints: {exact} exact, {240 - exact} refused by name")


def by_hand(state: State, x: torch.Tensor) -> torch.Tensor:
    """Features of an IR network written out in functions, after net.py of AdaFace and model_irse.py of face.evoLVe."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        return F.batch_norm(
            x, state[f"{name}.running_mean"], state[f"{name}.running_var"], weight, bias, eps=1e-5
        )

    x = F.conv2d(x, state["input_layer.0.weight"], padding=1)
    x = F.prelu(norm("input_layer.1", x), state["input_layer.2.weight"])
    for unit, stride in enumerate((2, 2, 1, 2, 2)):
        at = f"body.{unit}.res_layer"
        if f"body.{unit}.shortcut_layer.0.weight" in state:
            short = F.conv2d(x, state[f"body.{unit}.shortcut_layer.0.weight"], stride=stride)
            short = norm(f"body.{unit}.shortcut_layer.1", short)
        else:
            short = F.max_pool2d(x, 1, stride)
        y = F.conv2d(norm(f"{at}.0", x), state[f"{at}.1.weight"], padding=1)
        after = 2
        if f"{at}.2.running_mean" in state:
            y, after = norm(f"{at}.2", y), 3
        y = F.prelu(y, state[f"{at}.{after}.weight"])
        y = norm(
            f"{at}.{after + 2}", F.conv2d(y, state[f"{at}.{after + 1}.weight"], stride=stride, padding=1)
        )
        gate = next(
            (name for name in (f"{at}.se_block", f"{at}.{after + 3}") if f"{name}.fc1.weight" in state), None
        )
        if gate:
            mean = F.adaptive_avg_pool2d(y, 1)
            inner = F.relu(F.conv2d(mean, state[f"{gate}.fc1.weight"]))
            y = y * torch.sigmoid(F.conv2d(inner, state[f"{gate}.fc2.weight"]))
        x = y + short
    x = norm("output_layer.0", x).flatten(1)
    return norm("output_layer.4", F.linear(x, state["output_layer.3.weight"], state["output_layer.3.bias"]))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("inner_norm", [True, False])
def test_ir_networks_compute_what_theirs_do(inner_norm: bool, gated: bool, tmp_path: Path) -> None:
    state = ir_state(inner_norm=inner_norm, gated=gated, affine=not inner_norm)
    torch.save(state, tmp_path / "ir.pth")
    loaded = load_recogniser(tmp_path / "ir.pth")
    assert loaded.config.layers == (1, 2, 1, 1)
    assert loaded.config.shortcut == "subsampled"
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = by_hand(state, images)
        torch.testing.assert_close(loaded.model(images), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(freeze(loaded.model)(images), wanted, rtol=1e-3, atol=1e-3)
    convert(tmp_path / "ir.pth", tmp_path / "ours.safetensors")
    again = load_recogniser(tmp_path / "ours.safetensors")
    assert again.config == loaded.config
    is_exactly(tmp_path / "ours.safetensors", loaded.model.state_dict())
    with pytest.raises(CheckpointError, match="convert it to .safetensors"):
        convert(tmp_path / "ir.pth", tmp_path / "theirs.pth")
    plain = convert(tmp_path / "ir.pth", tmp_path / "half.safetensors", precision="fp16")
    assert len(plain) == 64


def test_adaface_gets_bgr_and_cvlface_rgb(tmp_path: Path) -> None:
    state = ir_state()
    table = {**prefixed("model.", state), "head.kernel": torch.zeros(20, 4), "head.t": torch.zeros(1)}
    content = {"state_dict": table, "hyper_parameters": {"arch": "ir_50"}, "optimizer_states": [OPTIMISER]}
    torch.save(content, tmp_path / "adaface.ckpt")
    save_file(prefixed("model.net.", state), tmp_path / "cvlface.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        bgr, rgb = by_hand(state, x.flip(1)).numpy(), by_hand(state, x).numpy()
    close = {"rtol": 1e-4, "atol": 1e-4}
    adaface = open_embedder(tmp_path / "adaface.ckpt")
    assert adaface.describe()["channels"] == "bgr"
    np.testing.assert_allclose(adaface(images), bgr, **close)
    np.testing.assert_allclose(open_embedder(tmp_path / "adaface.ckpt", channels="rgb")(images), rgb, **close)
    network = load_recogniser(tmp_path / "adaface.ckpt").model
    np.testing.assert_allclose(extract_features(network, images), bgr, **close)
    np.testing.assert_allclose(extract_features(as_rgb(network), images), bgr, **close)
    np.testing.assert_allclose(as_rgb(network)(x).detach(), bgr, **close)
    np.testing.assert_allclose(open_embedder(tmp_path / "cvlface.safetensors")(images), rgb, **close)
    assert "does not say its channels" in load_recogniser(tmp_path / "cvlface.safetensors").notes[-1]


def test_parts_of_ir_networks_are_refused_by_name(tmp_path: Path) -> None:
    state = ir_state()
    path = tmp_path / "ir.pth"
    torch.save({name: value for name, value in state.items() if not name.startswith("body.4.")}, path)
    refused(path, "4 units in 3 stages")
    torch.save({**state, "body.0.res_layer.1.weight": torch.zeros(4, 16, 1, 1)}, path)
    refused(path, "units of three convolutions")
    torch.save({name: value for name, value in state.items() if name != "body.1.res_layer.2.bias"}, path)
    refused(path, "1 keys are missing: layer2.0.bn2.bias")
    torch.save({**state, "output_layer.3.weight": torch.zeros(20, 40 * 196)}, path)
    refused(path, "pictures of 224x224")


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (
            ("net.patch_embed.proj.weight", "net.blocks.0.attn.rpe_k.weight"),
            "ViT with KPRPE, which also needs landmarks",
        ),
        (("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), "a vision transformer"),
        (("net.mobilenet.features.0.0.weight", "net.patch_emb.weight"), "a part-fViT of CVLface"),
        (("features.0.1.attn.relative_position_bias_table", "head.weight"), "a Swin transformer"),
        (("conv2d_1a.conv.weight", "repeat_1.0.branch0.conv.weight"), "facenet-pytorch's InceptionResnetV1"),
        (("conv1.conv.weight", "conv_6_dw.conv.weight"), "MobileFaceNet"),
        (
            ("conv1.weight", "layer1.0.bn1.weight", "layer1.0.conv1.weight", "fc.weight"),
            "torchvision's ResNet",
        ),
    ],
)
def test_foreign_networks_are_called_by_name(keys: tuple[str, ...], name: str, tmp_path: Path) -> None:
    torch.save({key: torch.zeros(2, 2) for key in keys}, tmp_path / "x.pth")
    said = refused(tmp_path / "x.pth", name)
    assert "AdaFace, CVLface" in said  # what is supported


class Calls:
    """A pickle that calls `function` when it is loaded."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("function", [eval, getattr, exec, compile, __import__, open])
@pytest.mark.parametrize("bare", [False, True])
def test_what_runs_is_refused_in_our_own_words(
    function: object, bare: bool, state: State, tmp_path: Path
) -> None:
    path, evil = tmp_path / "evil.pth", Calls(function, "1/0")
    if bare:
        path.write_bytes(pickle.dumps({"state_dict": evil}, protocol=4))
    else:
        torch.save({"state_dict": state, "x": evil}, path)
    said = refused(path, "holds more than weights .*a function that would be called while loading")
    for advice in (
        "weights_only",
        "add_safe_globals",
        "trust",
        "etch it again",
        "in an environment you can spare",
    ):
        assert advice not in said


def test_unknown_operations_are_refused_in_our_own_words(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth", pickle_protocol=4)
    said = refused(tmp_path / "x.pth", r"holds more than weights \(pickle operation FRAME\)")
    assert "weights_only" not in said


def test_parts_of_a_sharded_checkpoint_are_named(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    refused(
        index, r"index of a checkpoint in 2 files \(model-00001-of-00002.safetensors, model-00002.*2 tensors"
    )
    index.write_text("{}")
    refused(index, "JSON text, not weights")


def test_prefixes_do_not_hide_a_partial_match(state: State, tmp_path: Path) -> None:
    half: State = OrderedDict(list(prefixed("module.", state).items())[: len(state) // 2])
    torch.save(half, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "keys are missing|lacks")

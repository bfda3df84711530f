"""The published network under weights by name: outputs, gradient, keys, and the way through files."""

from __future__ import annotations

import argparse
import math

import numpy as np
import pytest
import torch
from golden_weights import GOLDEN, fill, published_keys, relative_rms

from v2f_engine.models.discriminator import PatchDiscriminator
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.ops import bind_ops
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig, Vec2FaceOutput
from v2f_engine.models.weights import LoadedModel, load_generator

BOUND = 1e-5


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "public.npz") as record:
        return dict(record)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The base model after a round trip through the layout of the released v1 checkpoint."""
    path = tmp_path_factory.mktemp("v1") / "vec2face_generator.pth"
    model = fill(Vec2Face(Vec2FaceConfig.base()))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == published_keys("checkpoint_keys_base.txt")
    torch.save({"model_vec2face": model.state_dict()}, path)
    del model
    loaded = load_generator(path)
    path.unlink()
    return loaded


def forward(
    model: Vec2Face, golden: dict[str, np.ndarray], case: str, **extra: torch.Tensor
) -> Vec2FaceOutput:
    minimum, ratio = float(golden[f"{case}.mask_ratio_min"]), float(golden[f"{case}.mask_ratio"])
    noise = torch.from_numpy(golden[f"{case}.noise"])
    vectors = extra.pop("vectors", torch.from_numpy(golden[f"{case}.vectors"]))
    n_masked = torch.full((len(noise),), math.ceil(49 * ratio))
    return model(vectors, noise, n_masked, math.ceil(49 * minimum), **extra)


def test_base_configuration_is_read_from_the_published_shapes(base: LoadedModel) -> None:
    assert base.config == Vec2FaceConfig.base()
    assert sum(p.numel() for p in base.model.parameters()) == 174_126_998
    assert len(base.model.state_dict()) == 349


@pytest.mark.parametrize("case", ["base.generate", "base.train"])
def test_base_outputs(base: LoadedModel, golden: dict[str, np.ndarray], case: str) -> None:
    with torch.no_grad():
        out = forward(base.model, golden, case)
    assert np.array_equal(out.mask.numpy(), golden[f"{case}.mask"].astype(bool))
    assert relative_rms(out.tokens[:, :, ::16], golden[f"{case}.tokens"]) < BOUND
    assert relative_rms(out.target_tokens[:, :, ::16], golden[f"{case}.target_tokens"]) < BOUND
    assert relative_rms(out.images[:, :, ::2, ::2], golden[f"{case}.images"]) < BOUND


def test_base_gradient(base: LoadedModel, golden: dict[str, np.ndarray]) -> None:
    vectors = torch.from_numpy(golden["base.train.vectors"]).requires_grad_()
    images = forward(base.model, golden, "base.train", vectors=vectors).images
    (gradient,) = torch.autograd.grad(images.square().mean(), vectors)
    assert relative_rms(gradient, golden["base.train.grad_vectors"]) < BOUND


def test_plus(golden: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The pose checkpoint as its training script writes it, command line arguments included."""
    path = tmp_path_factory.mktemp("plus") / "pose_model.pth"
    generator = fill(Vec2Face(Vec2FaceConfig(lora_rank=8)))
    pose = fill(PoseModel(), "v2f-golden-public:pose:")
    keys = {key: tuple(value.shape) for key, value in generator.state_dict().items()}
    keys |= {"pose." + key: tuple(value.shape) for key, value in pose.state_dict().items()}
    assert keys == published_keys("checkpoint_keys_plus_pose.txt")
    content = {"epoch": 9, "model_vec2face": generator.state_dict(), "pose_model": pose.state_dict()}
    torch.save({**content, "args": argparse.Namespace(lora_r=8, lr=1e-4)}, path)
    del generator, pose, content
    loaded = load_generator(path)
    path.unlink()
    assert loaded.config == Vec2FaceConfig(lora_rank=8, lora_alpha=32.0)
    assert loaded.pose is not None
    bind_ops(loaded.model, {"attention": "reference"})  # ill-conditioned: see tests/golden/README.md
    landmarks = torch.from_numpy(golden["plus.landmarks"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        condition = loaded.pose((landmarks / 255 - 0.5) / 0.5)
        out = forward(loaded.model, golden, "plus", condition=condition)
    assert relative_rms(condition, golden["plus.condition"]) < BOUND
    assert np.array_equal(out.mask.numpy(), golden["plus.mask"].astype(bool))
    # Recorded on AVX-512. The network is as ill-conditioned as its weights are random: AVX2's order of sums moves the
    # tokens by 8e-4, while the condition that goes in stays within the bound.
    bound = BOUND if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 5e-3
    assert relative_rms(out.tokens[:, :, ::16], golden["plus.tokens"]) < bound
    assert relative_rms(out.images[:, :, ::2, ::2], golden["plus.images"]) < bound


@pytest.mark.parametrize("depth", ["50", "100"])
def test_iresnet(golden: dict[str, np.ndarray], depth: str) -> None:
    model = fill(IResNet(IResNetConfig.named(f"iresnet{depth}")))
    with torch.no_grad():
        features = model(torch.from_numpy(golden[f"iresnet{depth}.images"]).float())
    assert relative_rms(features, golden[f"iresnet{depth}.features"]) < BOUND


def test_discriminator(golden: dict[str, np.ndarray]) -> None:
    model = fill(PatchDiscriminator())
    keys = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert keys == published_keys("checkpoint_keys_discriminator.txt")
    with torch.no_grad():
        logits = model(torch.from_numpy(golden["discriminator.images"]).float())
    assert relative_rms(logits, golden["discriminator.logits"]) < BOUND


@pytest.mark.parametrize(
    ("config", "parameters", "keys"),
    [(Vec2FaceConfig.large(), 436_341_142, 493), (Vec2FaceConfig.huge(), 821_383_062, 589)],
)
def test_unreleased_sizes(config: Vec2FaceConfig, parameters: int, keys: int) -> None:
    with torch.device("meta"):
        model = Vec2Face(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == keys

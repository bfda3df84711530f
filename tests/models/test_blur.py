"""The filter before strides against the same written out, in every form that a recogniser is computed in; what files
say of it; and what it is for: a face moved by a pixel turns its feature less."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from random_weights import randomised
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from v2f_engine.errors import CheckpointError
from v2f_engine.models.features import extract_features
from v2f_engine.models.fold import freeze
from v2f_engine.models.frozen_iresnet import FrozenIResNet
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.iresnet_block import Block, blurred
from v2f_engine.models.onnx_embedder import OnnxEmbedder
from v2f_engine.models.weights import convert, load_recogniser, save_weights

SMALL = IResNetConfig((1, 1, 1, 1), (4, 6, 6, 8), stem_stride=2, feature_dim=8, input_size=32, blur=True)
LINE = (0.25, 0.5, 0.25)


def by_hand(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 2 1) / 4 over rows and over columns of `[B, C, H, W]`, zero beyond the edge, one product at a time."""
    out = np.zeros_like(x)
    for i, row in enumerate(LINE):
        for j, column in enumerate(LINE):
            for y in range(x.shape[2]):
                for z in range(x.shape[3]):
                    if 0 <= y + i - 1 < x.shape[2] and 0 <= z + j - 1 < x.shape[3]:
                        out[:, :, y, z] += row * column * x[:, :, y + i - 1, z + j - 1]
    return out


def filtered(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(by_hand(x.double().numpy()))


def recogniser(config: IResNetConfig, seed: int = 0) -> IResNet:
    """In fp64, norms and slopes away from where they begin."""
    return randomised(IResNet(config).double(), seed).requires_grad_(False)


def pictures(side: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, 3, side, side, generator=generator, dtype=torch.float64) * 2 - 1


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 1, 1, 1), (1, 4, 2, 1)])
@pytest.mark.parametrize("learning", [False, True])
def test_the_filter_as_written_out(shape: tuple[int, ...], learning: bool) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(learning):
        np.testing.assert_allclose(blurred(x, 2).numpy(), by_hand(x.numpy()), atol=1e-15)
        assert blurred(x, 1) is x
        for dtype, bound in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
            assert blurred(x.to(dtype), 3).dtype == dtype
            assert relative(blurred(x.to(dtype), 3), filtered(x.to(dtype))) < bound


def test_its_gradient_and_the_gradients_gradient() -> None:
    x = torch.randn(
        2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: blurred(x, 2), x)
    assert torch.autograd.gradgradcheck(lambda x: blurred(x, 2), x)


def test_channels_last_stays_so_both_ways() -> None:
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = blurred(x, 2)
    assert out.is_contiguous(memory_format=torch.channels_last)
    (slope,) = torch.autograd.grad(out, x, torch.ones_like(out).contiguous(memory_format=torch.channels_last))
    assert slope.is_contiguous(memory_format=torch.channels_last)


class HostData(TorchDispatchMode):
    """How many tensors were made of Python numbers."""

    found = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found += function is torch.ops.aten.lift_fresh.default
        return function(*args, **(kwargs or {}))


def test_it_takes_nothing_from_the_host() -> None:
    """On a GPU that would be a copy in every call, which a CUDA graph cannot hold."""
    with HostData() as seen:
        blurred(torch.randn(1, 2, 4, 4, requires_grad=True), 2).sum().backward()
    assert seen.found == 0


def written_out(model: IResNet, images: torch.Tensor) -> torch.Tensor:
    """The whole recogniser: convolutions without a stride, the filter before each that has one, pixels left out."""

    def strided(x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        seen = filtered(x) if stride > 1 else x
        return F.conv2d(seen, weight, padding=padding)[:, :, ::stride, ::stride]

    x = strided(images, model.conv1.weight, model.config.stem_stride, 1)
    x = model.prelu(model.bn1(x))
    for stage in (1, 2, 3, 4):
        for block in model.get_submodule(f"layer{stage}").children():
            assert isinstance(block, Block)
            stride = block.conv2.stride[0]
            h = block.prelu(block.bn2(block.conv1(block.bn1(x))))
            h = block.bn3(strided(h, block.conv2.weight, stride, 1))
            if isinstance(block.downsample, torch.nn.Sequential):
                x = block.downsample[1](strided(x, block.downsample[0].weight, stride, 0))
            elif stride > 1:
                x = filtered(x)[:, :, ::stride, ::stride]
            if block.attn is not None and block.gate == "shortcut":
                x = block.attn(x)
            elif block.attn is not None:
                h = block.attn(h)
            x = h + x
    return model.head(x)


KINDS: list[dict[str, Any]] = [
    {},
    {"stem_stride": 1, "se": True, "widths": (16, 16, 17, 16)},
    {"shortcut": "subsampled", "widths": (6, 6, 6, 8)},
    {
        "shortcut": "subsampled",
        "se": True,
        "gate": "branch",
        "inner_norm": False,
        "layers": (1, 2, 1, 1),
        "widths": (16, 16, 16, 17),
    },
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_form_computes_the_written_one(kind: dict[str, Any]) -> None:
    """As trained, folded for inference and frozen for a loss: in fp64 to rounding, and the same in fp32."""
    config = IResNetConfig(**{**vars(SMALL), **kind})
    model, images = recogniser(config), pictures(config.input_size)
    wanted = written_out(model, images)
    # A filter that is missing anywhere is seen.
    plain = recogniser(IResNetConfig(**{**vars(config), "blur": False}))
    assert relative(plain(images), wanted) > 1e-3
    assert relative(model(images), wanted) < 1e-12
    with torch.enable_grad():
        assert relative(model(images.requires_grad_()).detach(), wanted) < 1e-12
    images = images.detach()
    assert relative(FrozenIResNet(model, torch.float64)(images), wanted) < 1e-12
    assert relative(freeze(model)(images), wanted) < 1e-12
    small, narrow = model.float(), images.float()
    for form in (small, FrozenIResNet(small, torch.float32), freeze(small)):
        assert relative(form(narrow), wanted) < 1e-5


def test_an_onnx_graph_of_it_computes_the_same(tmp_path: Path) -> None:
    """By torch's own exporter, since recognisers have no exporter of ours; read as a stranger's graph is."""
    model = recogniser(IResNetConfig(**{**vars(SMALL), "input_size": 112})).float()
    example = torch.zeros(2, 3, 112, 112)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            tmp_path / "r.onnx",
            input_names=["x"],
            dynamic_axes={"x": {0: "B"}},
            dynamo=False,
        )
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    found = OnnxEmbedder(tmp_path / "r.onnx", None, "cpu")(images)
    wanted = extract_features(model, images)
    np.testing.assert_allclose(found, wanted, atol=2e-5 * float(np.abs(wanted).max()))


# --- files ----------------------------------------------------------------------------------------------


def test_a_file_says_that_it_blurs(tmp_path: Path) -> None:
    model = recogniser(SMALL).float()
    save_weights(tmp_path / "r.safetensors", {"model": model}, {"kind": "iresnet", "config": SMALL.to_json()})
    convert(tmp_path / "r.safetensors", tmp_path / "again.safetensors")
    for name in ("r", "again"):
        loaded = load_recogniser(tmp_path / f"{name}.safetensors")
        assert loaded.config == SMALL
        x = pictures(32).float()
        assert torch.equal(loaded.model.eval()(x), model(x))


def test_a_published_container_cannot_say_it(tmp_path: Path) -> None:
    """Read back, its features would be those of another network: cosine 0.9 and less, without a word."""
    model = recogniser(SMALL).float()
    save_weights(tmp_path / "r.safetensors", {"model": model}, {"kind": "iresnet", "config": SMALL.to_json()})
    with pytest.raises(
        CheckpointError, match=r"blurs before its strides, which a \.pth cannot state.*safetensors"
    ):
        convert(tmp_path / "r.safetensors", tmp_path / "r.pth")
    assert not (tmp_path / "r.pth").exists()


def test_files_from_before_load_as_they_were(tmp_path: Path) -> None:
    """Neither a file of ours without the entry nor a published one blurs; both say the same words as before."""
    before = IResNetConfig(**{**vars(SMALL), "blur": False})
    assert "blur" not in before.to_json()
    assert "blur" not in IResNetConfig.named("iresnet50", se=True).to_json()
    model = recogniser(before).float()
    save_weights(
        tmp_path / "r.safetensors", {"model": model}, {"kind": "iresnet", "config": before.to_json()}
    )
    loaded = load_recogniser(tmp_path / "r.safetensors")
    assert loaded.config == before
    x = pictures(32).float()
    assert torch.equal(loaded.model.eval()(x), model(x))
    published = IResNetConfig((1, 1, 1, 1), (4, 6, 6, 8), feature_dim=8)
    torch.save(IResNet(published).state_dict(), tmp_path / "p.pth")
    assert load_recogniser(tmp_path / "p.pth").config == published
    assert not published.blur
    assert load_recogniser(tmp_path / "p.pth").model.state_dict().keys() == IResNet(SMALL).state_dict().keys()


def test_an_entry_nobody_knows_is_still_refused(tmp_path: Path) -> None:
    model = recogniser(SMALL).float()
    save_weights(tmp_path / "r.safetensors", {"model": model}, {"kind": "iresnet", "config": SMALL.to_json()})
    with safe_open(tmp_path / "r.safetensors", "pt") as file:
        head = {name: text.replace('"blur"', '"smears"') for name, text in (file.metadata() or {}).items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert any('"smears"' in text for text in head.values())
    save_file(tensors, tmp_path / "x.safetensors", head)
    with pytest.raises(CheckpointError, match="unknown entries.*smears"):
        load_recogniser(tmp_path / "x.safetensors")


# --- what it is for -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_pixels_shift_turns_a_feature_less(seed: int) -> None:
    """1 - cosine of the features of pictures and of the same a pixel aside: a smaller share with the filter."""
    torch.manual_seed(seed)
    config = {**vars(SMALL), "input_size": 64, "widths": (8, 12, 12, 16), "feature_dim": 32}
    sharp = IResNet(IResNetConfig(**{**config, "blur": False}))
    smooth = IResNet(IResNetConfig(**config))
    smooth.load_state_dict(sharp.state_dict())
    coarse = torch.rand(8, 3, 17, 17) * 2 - 1
    scene = F.interpolate(coarse, size=68, mode="bicubic").clamp(-1, 1) + 0.1 * torch.randn(8, 3, 68, 68)
    turned = []
    for model in (sharp, smooth):
        with torch.no_grad():
            model.train()(scene[..., :64, :64])  # statistics of its norms
            model.eval()
            still = model(scene[..., :64, :64])
            apart = [model(scene[..., y : y + 64, x : x + 64]) for y, x in ((0, 1), (1, 0), (1, 1))]
        turned.append(float(np.mean([1 - F.cosine_similarity(still, a).mean() for a in apart])))
    assert turned[1] < 0.8 * turned[0], turned

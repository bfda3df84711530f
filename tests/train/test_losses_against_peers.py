"""Loss terms against other implementations and closed forms: SSIM, LPIPS, the GAN and its published leak."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pytorch_msssim import SSIM
from safetensors.torch import save_file

from v2f_engine.errors import CheckpointError, ModelNotFound
from v2f_engine.models.perceptual import Lpips, load_lpips
from v2f_engine.train.losses import PRESETS, adaptive_weight, ssim

TAPS = (2, 7, 14, 21, 28)
"""torchvision's numbers of the convolutions whose ReLU is compared."""
POOLS = (4, 9, 16, 23)
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_ssim_equals_pytorch_msssim(scale: float) -> None:
    """Value and gradient, as the published code calls it."""
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(3, 3, 112, 112, generator=generator).requires_grad_()
    right = (left.detach() + scale * torch.randn(left.shape, generator=generator)).clamp(0, 1)
    theirs = SSIM(data_range=1, size_average=True, channel=3)(left, right)
    (wanted,) = torch.autograd.grad(theirs, left)
    ours = ssim(left, right)
    (found,) = torch.autograd.grad(ours, left)
    assert ours.item() == pytest.approx(theirs.item(), abs=2e-6)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-8)


@pytest.fixture(scope="module")
def vgg() -> dict[str, torch.Tensor]:
    """Random VGG16 weights under torchvision's names, of a scale that keeps the maps alive."""
    generator = torch.Generator().manual_seed(1)
    tensors, before = {}, 3
    for number, width in zip(CONVOLUTIONS, WIDTHS, strict=True):
        weight = torch.randn(width, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
        tensors[f"features.{number}.weight"] = weight
        tensors[f"features.{number}.bias"] = torch.randn(width, generator=generator) * 0.1
        before = width
    return tensors


@pytest.fixture(scope="module")
def heads() -> dict[str, torch.Tensor]:
    """Random linear layers under the lpips package's names, some weights 0 as there."""
    generator = torch.Generator().manual_seed(2)
    return {
        f"lin{k}.model.1.weight": torch.rand(1, WIDTHS[(1, 3, 6, 9, 12)[k]], 1, 1, generator=generator)
        .sub(0.3)
        .relu()
        for k in range(5)
    }


def by_hand(
    vgg: dict[str, torch.Tensor],
    heads: dict[str, torch.Tensor],
    a: torch.Tensor,
    b: torch.Tensor,
    layers: int,
) -> torch.Tensor:
    """LPIPS 0.1 written out: scaling, VGG16, x / (|x| + 1e-10), squares, 1x1 convolution, mean over positions."""

    def maps(x: torch.Tensor) -> list[torch.Tensor]:
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.450]
        ).view(1, 3, 1, 1)
        found = []
        for number in range(30):
            if number in POOLS:
                x = F.max_pool2d(x, 2)
            elif number in CONVOLUTIONS:
                x = F.relu(
                    F.conv2d(x, vgg[f"features.{number}.weight"], vgg[f"features.{number}.bias"], padding=1)
                )
                if number in TAPS:
                    found.append(x)
        return found

    total = torch.zeros(len(a), 1, 1, 1)
    for k, (x, y) in enumerate(list(zip(maps(a), maps(b), strict=True))[:layers]):
        unit = [m / (m.square().sum(1, keepdim=True).sqrt() + 1e-10) for m in (x, y)]
        total = total + F.conv2d((unit[0] - unit[1]) ** 2, heads[f"lin{k}.model.1.weight"]).mean(
            (2, 3), keepdim=True
        )
    return total.flatten()


@pytest.mark.parametrize("layout", ["two files", "lpips package", "timm"])
def test_lpips_equals_its_formula(
    vgg: dict[str, torch.Tensor], heads: dict[str, torch.Tensor], tmp_path: Path, layout: str
) -> None:
    if layout == "two files":
        save_file(vgg | {"classifier.0.weight": torch.zeros(4, 4)}, tmp_path / "vgg16.safetensors")
        torch.save(heads, tmp_path / "lpips.pth")
        path, layers = tmp_path, 5
    elif layout == "lpips package":
        ends = {2: 1, 7: 2, 14: 3, 21: 4, 28: 5}
        renamed = {}
        for name, value in vgg.items():
            number = int(name.split(".")[1])
            stage = next(ends[end] for end in sorted(ends) if number <= end)
            renamed[f"net.slice{stage}.{number}.{name.split('.')[2]}"] = value
        path, layers = tmp_path / "all.pth", 4
        torch.save(renamed | heads | {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}, path)
    else:
        path, layers = tmp_path / "all.safetensors", 5
        save_file(vgg | {f"lins.{k}.model.1.weight": heads[f"lin{k}.model.1.weight"] for k in range(5)}, path)
    model = load_lpips(path, layers)
    generator = torch.Generator().manual_seed(3)
    a = (torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1).requires_grad_()
    b = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    wanted = by_hand(vgg, heads, a, b, layers)
    found = model(a, b)
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=1e-6)
    for mine, theirs in zip(
        torch.autograd.grad(found.sum(), a), torch.autograd.grad(wanted.sum(), a), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-7)
    with torch.no_grad():  # real images' maps can be kept
        assert torch.equal(model.distance(model.maps(a), model.maps(b)), model(a, b))
    assert not any(p.requires_grad for p in model.parameters())


def test_lpips_of_flat_maps_has_a_gradient(vgg: dict[str, torch.Tensor]) -> None:
    """All-zero maps: where the published loss of 2024 gave NaN and lost its fifth layer."""
    model = Lpips()
    with torch.no_grad():
        for parameter in model.features.parameters():
            parameter.zero_()
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)
    model(image, torch.ones(1, 3, 32, 32)).sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


def test_lpips_weights_that_do_not_fit(
    vgg: dict[str, torch.Tensor], heads: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFound):
        load_lpips(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="found none"):
        load_lpips(tmp_path)
    save_file(vgg, tmp_path / "vgg16.safetensors")
    with pytest.raises(CheckpointError, match=r"heads\.0.*lin0\.model\.1\.weight"):
        load_lpips(tmp_path)
    short = heads | {"lin2.model.1.weight": torch.ones(1, 255, 1, 1)}
    save_file(short, tmp_path / "heads.safetensors")
    with pytest.raises(CheckpointError, match=r"heads\.2 \[256\]"):
        load_lpips(tmp_path)


def test_presets_of_2024() -> None:
    assert (PRESETS["published-2024"].gan_adaptive, PRESETS["published-2024"].vgg_layers) == (0.8, 4)
    assert all(PRESETS[name].gan_adaptive == 0 for name in ("published-2025", "plus"))
    assert all(PRESETS[name].vgg_layers == 5 for name in ("published-2025", "plus"))


def test_adaptive_weight_closed_form() -> None:
    last = torch.tensor([3.0, 4.0], requires_grad=True)
    reconstruction, adversarial = 0.5 * last.square().sum(), 2 * last[0]  # gradients of length 5 and 2
    weight = adaptive_weight(reconstruction, adversarial, last)
    assert weight.item() == pytest.approx(5 / (2 + 1e-4))
    assert not weight.requires_grad
    assert adaptive_weight(1e9 * reconstruction, adversarial, last).item() == pytest.approx(1e4)
    (reconstruction + weight * adversarial).backward()  # both graphs stay usable

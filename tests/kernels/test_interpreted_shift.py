"""A norm that adds the bias which the convolution before left to it, under the interpreter."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
import torch
from v2f_kernels._judge import judge
from v2f_kernels.group_norm_silu import OP as NORM
from v2f_kernels.group_norm_silu.reference import group_statistics

pytestmark = pytest.mark.interpreter

EPS = 1e-6
HOME = "v2f_kernels.group_norm_silu"


def noise(*shape: int, seed: int, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
    drawn = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)
    return drawn.contiguous(memory_format=torch.channels_last) if drawn.ndim == 4 else drawn


def check(shape: tuple[int, ...], dtype: torch.dtype, backend: str = "triton", given: bool = False) -> None:
    """Against the reference in fp64; shifts of channels far apart, so that the variance of a group lives on them."""
    batch, channels, height, width, groups = shape
    x = noise(batch, channels, height, width, seed=0, dtype=dtype)
    terms = [noise(channels, seed=seed, dtype=dtype) for seed in (1, 2)]
    shift = noise(channels, seed=3, dtype=dtype, scale=3)
    found = []
    for name, wide in ((backend, False), ("reference", True), ("torch", False)):
        one, weight, bias, moved = (t.double() if wide else t for t in (x, *terms, shift))
        known = group_statistics(x.double() + shift.double()[:, None, None], groups) if given else None
        known = known if wide or known is None else known.float()
        found.append(NORM.backend(name)(one, weight, bias, groups, EPS, known, moved))
    verdict = judge(*found, factor=4.0 if dtype == torch.float32 else 2.0)
    assert verdict.passed, verdict


def two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = import_module(f"{HOME}.triton_op")
    monkeypatch.setattr(gpu, "SINGLE_PASS_PIXELS", 0)
    monkeypatch.setattr(gpu, "_chunk", lambda config, channels: 32)
    monkeypatch.setattr(gpu, "_tile", lambda config, channels: {"BLOCK_P": 16, "BLOCK_C": 128})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("way", ["one pass", "two passes", "given", "resident"])
@pytest.mark.parametrize(
    "shape", [(1, 32, 3, 5, 8), (3, 48, 9, 4, 8), (1, 128, 7, 11, 32)], ids=lambda s: "x".join(map(str, s))
)
def test_norm(
    shape: tuple[int, ...], way: str, dtype: torch.dtype, poisoned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "two passes":
        two_passes(monkeypatch)
    check(shape, dtype, "triton_resident" if way == "resident" else "triton", given=way == "given")


def test_the_registered_op_passes_opcheck_and_gradients_are_refused() -> None:
    x, shift, one = noise(1, 16, 2, 3, seed=0, dtype=torch.float32), torch.ones(16), torch.ones(16)
    op = import_module(f"{HOME}.triton_op").shifted_op
    torch.library.opcheck(op, (x, shift, one, one, None, 4, EPS))
    torch.library.opcheck(op, (x, shift, one, one, group_statistics(x + 1, 4), 4, EPS))
    with pytest.raises(ValueError, match="shift: has no gradient"):
        NORM.backend("triton")(x.requires_grad_(), one, one, 4, EPS, None, shift)
    with pytest.raises(ValueError, match=r"shift: expected \[16\], found \[8\]"):
        NORM.backend("triton")(x.detach(), one, one, 4, EPS, None, shift[:8])


FAULTS = {
    "the mean does not move": ("triton_moments", "merge_moments_kernel", "mean - near + shift[None, :]", "mean - near"),
    "the variance does not move": (
        "triton_moments", "merge_moments_kernel", "mean - centre + shift[None, :]", "mean - centre",
    ),
    "what is normalised does not move": ("triton_apply", "apply_kernel", "mean -= tl.load(shift", "_ = tl.load(shift"),
    "one pass does not move": ("triton_apply", "single_pass_kernel", "x + shift[None", "x + 0 * shift[None"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_an_injected_fault_is_seen(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one line of a kernel wrong the same check must fail."""
    home, kernel, right, wrong = FAULTS[fault]
    original, launcher = import_module(f"{HOME}.{home}"), import_module(f"{HOME}.triton_op")
    assert original.__file__ is not None
    source = Path(original.__file__).read_text()
    assert source.count(right) == 1
    path = tmp_path / "broken.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("broken_shift", path)
    assert spec is not None
    assert spec.loader is not None
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    monkeypatch.setattr(launcher, kernel, getattr(broken, kernel))
    if kernel != "single_pass_kernel":
        two_passes(monkeypatch)
    shape = 2, 128, 7, 5, 32
    with pytest.raises(AssertionError):
        check(shape, torch.float32)
    monkeypatch.setattr(launcher, kernel, getattr(original, kernel))
    check(shape, torch.float32)

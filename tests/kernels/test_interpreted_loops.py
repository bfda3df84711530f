"""Loops that turn more than once, and groups without variance, under Triton's interpreter.

Launch configurations of a GPU make every loop of a small case turn once, so a sum that forgets the turns before
would not be seen; here blocks are so small that each loop turns three times, the last time partly filled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from v2f_kernels._triton.launch import LaunchConfig
from v2f_kernels.conv3x3 import OP as CONV
from v2f_kernels.gelu_linear import OP as GELU
from v2f_kernels.group_norm_silu import OP as NORM
from v2f_kernels.layer_norm import OP as LAYER_NORM
from v2f_kernels.to_uint8 import OP as TAIL

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned")]

EPS = 1e-6
Judge = Callable[..., None]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def configured(monkeypatch: pytest.MonkeyPatch, op: str, **blocks: dict[str, int]) -> list[str]:
    """Launches kernels of `op` (its package) with these blocks; the kernels that asked, as they ask."""
    asked: list[str] = []

    def config(name: str, kernel: str, *more: object) -> LaunchConfig:
        asked.append(kernel)
        return LaunchConfig(4, 1, blocks[kernel], "test")

    monkeypatch.setattr(f"{op}.triton_op.launch_config", config)
    return asked


def test_every_sum_of_a_group_norm_goes_over_all_turns(
    judge_op: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """143 pixels of 16 channels: 12 chunks of 12 pixels in tiles of 4, merged 4 at a time."""
    tile = {"TILE": 4 * 16, "CHUNK": 12 * 16}
    asked = configured(
        monkeypatch, "v2f_kernels.group_norm_silu", moments={**tile, "DEPTH": 1}, apply=tile, backward_sums=tile,
        backward_apply=tile, merge={"TILE": 4 * 4},
    )  # fmt: skip
    monkeypatch.setattr("v2f_kernels.group_norm_silu.triton_op.SINGLE_PASS_PIXELS", 0)
    x = (draw(2, 16, 13, 11) * 2 + 5).contiguous(memory_format=torch.channels_last)
    judge_op(NORM, {"x": x, "weight": draw(16, seed=1), "bias": draw(16, seed=2)}, groups=4, eps=EPS)
    assert {"moments", "merge", "apply", "backward_sums", "backward_apply"} <= set(asked)


def test_every_sum_of_linear_and_gelu_goes_over_all_turns(
    judge_op: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 columns in steps of 16; 23 rows in two shares of 12, four at a time."""
    asked = configured(
        monkeypatch, "bench.candidates.gelu_linear", forward={"BLOCK_R": 16, "BLOCK_M": 16, "BLOCK_K": 16, "GROUP": 2},
        backward={"BLOCK_R": 4, "BLOCK_M": 16, "CHUNKS": 2},
    )  # fmt: skip
    judge_op(GELU, {"x": draw(23, 40), "weight": draw(24, 40, seed=1) / 40**0.5, "bias": draw(24, seed=2)})
    assert {"forward", "backward"} <= set(asked)


def against_reference(op: Any, inputs: dict[str, torch.Tensor], **fixed: Any) -> None:
    """Output and gradients of `triton` are finite, and those of the reference in fp64."""
    found = []
    for backend, wide in (("triton", False), ("reference", True)):
        leaves = {k: (v.double() if wide else v).detach().clone().requires_grad_() for k, v in inputs.items()}
        y = op.backend(backend)(**leaves, **fixed)
        y = y[0] if isinstance(y, tuple) else y
        gradients = torch.autograd.grad(y, list(leaves.values()), draw(*y.shape, seed=7).to(y.dtype))
        found.append([y.detach(), *gradients])
    for name, mine, exact in zip(("output", *inputs), *found, strict=True):
        assert mine.isfinite().all(), name
        torch.testing.assert_close(
            mine.double(), exact, rtol=2e-4, atol=2e-4 * float(exact.abs().max()), msg=name
        )


def flat_group() -> dict[str, torch.Tensor]:
    """Of four groups of four channels the second is the same everywhere; its mean is no power of two."""
    x = draw(2, 16, 5, 7)
    x[:, 4:8] = 3.0
    return {"x": x, "weight": draw(16, seed=1), "bias": draw(16, seed=2)}


@pytest.mark.parametrize("single_pass_pixels", [0, 1024], ids=["two passes", "one pass"])
def test_a_group_without_variance(single_pass_pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2f_kernels.group_norm_silu.triton_op.SINGLE_PASS_PIXELS", single_pass_pixels)
    against_reference(NORM, flat_group(), groups=4, eps=EPS)


def test_a_group_without_variance_before_a_convolution() -> None:
    group = flat_group()
    weight = draw(16, 16, 3, 3, seed=3) / 12

    def convolved(backend: str, dtype: torch.dtype) -> torch.Tensor:
        wide = {name: value.to(dtype) for name, value in group.items()}
        y = CONV.backend(backend)(
            wide["x"], weight.to(dtype), norm=(wide["weight"], wide["bias"], 4, EPS), out_groups=4
        )
        out: torch.Tensor = y[0] if isinstance(y, tuple) else y
        return out

    found, exact = convolved("triton", torch.float32), convolved("reference", torch.float64)
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


def test_a_group_without_variance_in_the_last_layer() -> None:
    group = flat_group()
    arguments = (*group.values(), 4, EPS, draw(3, 16, 3, 3, seed=3) / 12, torch.zeros(3))
    found, exact = (TAIL.backend(name)(*arguments).int() for name in ("triton", "reference"))
    assert exact.float().std() > 20
    assert (found - exact).abs().max() <= 1


def test_a_row_without_variance() -> None:
    x = draw(5, 48)
    x[2] = 3.0
    against_reference(LAYER_NORM, {"x": x, "weight": draw(48, seed=1), "bias": draw(48, seed=2)}, eps=EPS)

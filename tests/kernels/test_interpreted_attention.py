"""The attention kernels under Triton's interpreter: every output and gradient against the fp64 oracle."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from v2f_kernels.attention import OP
from v2f_kernels.attention.reference import attention as reference
from v2f_kernels.attention.torch_native import attention_written_out

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned")]

Named = dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def run(function: Callable[..., torch.Tensor], qkv: torch.Tensor, dout: torch.Tensor, **kwargs: Any) -> Any:
    leaf = qkv.detach().clone().requires_grad_()
    out = function(leaf, **kwargs)
    out.backward(dout.to(out.dtype))
    assert leaf.grad is not None
    return out.detach(), leaf.grad


def compare(shape: tuple[int, ...], dtype: torch.dtype, **kwargs: Any) -> Named:
    batch, tokens, _, heads, depth = shape
    random = torch.Generator().manual_seed(tokens * depth)
    qkv = torch.randn(shape, generator=random).to(dtype)
    dout = torch.randn((batch, tokens, heads * depth), generator=random).to(dtype)
    out, grad = run(OP.backend("triton"), qkv, dout, **kwargs)
    exact_out, exact_grad = run(reference, qkv.double(), dout, **kwargs)
    native_out, native_grad = run(attention_written_out, qkv, dout, **kwargs)
    named = {"out": (out, exact_out, native_out)}
    for part, name in enumerate(("dq", "dk", "dv")):
        named[name] = (grad[:, :, part], exact_grad[:, :, part], native_grad[:, :, part])
    return named


SHAPES = [
    (1, 1, 1, 64),
    (3, 25, 1, 64),
    (1, 45, 2, 64),
    (1, 50, 2, 48),
    (3, 50, 1, 48),
    (1, 33, 1, 32),
    (1, 64, 1, 80),
]
DEPTHS = [1, 16, 24, 40, 48, 80, 96, 100, 128]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_against_oracle(
    shape: tuple[int, int, int, int], dtype: torch.dtype, dropout: float, assert_judged: Callable[..., None]
) -> None:
    batch, tokens, heads, depth = shape
    # 2**63 + 9: both halves of the key are used, and the registered op takes signed numbers.
    assert_judged(compare((batch, tokens, 3, heads, depth), dtype, dropout=dropout, seed=2**63 + 9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_head_dimension_against_oracle(
    depth: int, dtype: torch.dtype, assert_judged: Callable[..., None]
) -> None:
    # Two heads of one entry are 66 elements, and torch's error on so few is luck: on a CPU without AVX-512 dq came to
    # 1.48 of what is allowed, with other seeds to 0.36 and 0.41; with sixteen heads to 0.31, 0.46 and 0.48.
    heads = 16 if depth == 1 else 2
    assert_judged(compare((1, 33, 3, heads, depth), dtype, dropout=0.25, seed=3))


MARGIN = 512


def between(shape: tuple[int, ...], dtype: torch.dtype, value: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(tensor, the memory around it as well), all of it `value`."""
    whole = torch.full((math.prod(shape) + 2 * MARGIN,), value, dtype=dtype)
    return whole[MARGIN:-MARGIN].view(shape), whole


def alone(whole: torch.Tensor, image: int, head: int, poison: float) -> torch.Tensor:
    """A copy of [B, N, ..., H, d] in which all but one image's head is `poison`, the memory around it too."""
    copy, _ = between(tuple(whole.shape), whole.dtype, poison)
    copy[image, ..., head, :] = whole[image, ..., head, :]
    return copy


def forward_and_backward(qkv: torch.Tensor, dout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """out [B, N, H, d] and dqkv; the memory around them must stay as it was."""
    from v2f_kernels.attention.triton_op import Backward, Forward

    out, around_out = between(tuple(dout.shape), dout.dtype, 7.0)
    Forward(qkv, 0.25, 3, None).launch(out)
    dqkv, around_dqkv = between(tuple(qkv.shape), qkv.dtype, 7.0)
    Backward(dout, qkv, 0.25, 3, None).launch(dqkv)
    for around in (around_out, around_dqkv):
        assert bool((around[:MARGIN] == 7.0).all() and (around[-MARGIN:] == 7.0).all())
    return out, dqkv


def assert_untouched_by_neighbours(depth: int, dtype: torch.dtype, poison: float) -> None:
    """Beside the columns of head 0 lie those of head 1, beside the rows of image 0 those of image 1; and after the last
    head of the last image lies memory of somebody else."""
    random = torch.Generator().manual_seed(depth)
    qkv = torch.randn((2, 5, 3, 2, depth), generator=random).to(dtype)
    dout = torch.randn((2, 5, 2, depth), generator=random).to(dtype)
    out, dqkv = forward_and_backward(qkv, dout)
    for image, head in ((0, 0), (1, 1)):
        inputs = alone(qkv, image, head, poison), alone(dout, image, head, poison)
        lone_out, lone_dqkv = forward_and_backward(*inputs)
        assert torch.equal(lone_out[image, :, head], out[image, :, head])
        assert torch.equal(lone_dqkv[image, ..., head, :], dqkv[image, ..., head, :])
        assert not lone_out[image, :, 1 - head].isfinite().any()  # the poison is there


# the neighbours' own arithmetic
NOT_A_NUMBER = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")


@NOT_A_NUMBER
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("depth", "poison"), [(16, "nan"), (24, "inf"), (40, "nan"), (100, "nan")])
def test_neighbouring_heads_are_neither_read_nor_written(depth: int, poison: str, dtype: torch.dtype) -> None:
    assert_untouched_by_neighbours(depth, dtype, float(poison))


def test_seed_in_memory_is_the_same_seed() -> None:
    qkv = torch.randn((1, 25, 3, 2, 48), generator=torch.Generator().manual_seed(0))
    kernel = OP.backend("triton")
    by_value = kernel(qkv, dropout=0.3, seed=11)
    assert torch.equal(by_value, kernel(qkv, dropout=0.3, seed=torch.tensor(11)))
    assert not torch.equal(by_value, kernel(qkv, dropout=0.3, seed=12))


def test_packed_rows_may_be_a_view() -> None:
    wide = torch.randn((2, 5, 3, 2, 64), generator=torch.Generator().manual_seed(0))
    view = wide[..., ::2]
    kernel = OP.backend("triton")
    assert torch.equal(kernel(view), kernel(view.contiguous()))


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_registered_op(dropout: float) -> None:
    from v2f_kernels.attention.triton_op import forward_op

    qkv = torch.randn((1, 3, 3, 1, 16), requires_grad=True)
    torch.library.opcheck(forward_op, (qkv, dropout, 5, None))
    torch.library.opcheck(forward_op, (qkv, dropout, 0, torch.tensor(5)))


CONSTANT_FAULTS = {
    "scale forgotten": {"SCALE": 1.0},
    "dropout forgotten": {"DROPOUT": False},
    "last token lost": {"N": 44},
}


def judged_red(assert_judged: Callable[..., None], dtype: torch.dtype) -> None:
    with pytest.raises(AssertionError, match="rms error"):
        assert_judged(compare((1, 45, 3, 1, 48), dtype, dropout=0.25, seed=1))


@pytest.mark.parametrize("fault", CONSTANT_FAULTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_wrong_constant_turns_the_judge_red(
    fault: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, assert_judged: Callable[..., None]
) -> None:
    launchers = importlib.import_module("v2f_kernels.attention.triton_op")
    honest = launchers.launch_constants
    monkeypatch.setattr(launchers, "launch_constants", lambda *args: honest(*args) | CONSTANT_FAULTS[fault])
    judged_red(assert_judged, dtype)


def test_unscaled_survivors_turn_the_judge_red(
    monkeypatch: pytest.MonkeyPatch, assert_judged: Callable[..., None]
) -> None:
    monkeypatch.setattr("v2f_kernels.attention.triton_op.keep_scale", lambda dropout: 1.0)
    judged_red(assert_judged, torch.float16)


@triton.jit
def unmasked(scores, SCALE: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore
    """A softmax that also sees the padded tokens, whose scores are zero."""
    scores = scores * (SCALE * 1.4426950408889634)
    p = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return p, tl.sum(p, 1)


@triton.jit
def load_rows(base, rows, START, STRIDE: tl.constexpr, N: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore
    """A load that also sees the columns beyond the head's."""
    column = START + tl.arange(0, WIDTH)[None, :]
    return tl.load(base + rows[:, None] * STRIDE + column, mask=rows[:, None] < N, other=0.0)


@triton.jit
def store_rows(base, rows, tile, STRIDE: tl.constexpr, N: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore
    """A store that also writes the columns beyond the head's."""
    column = tl.arange(0, WIDTH)[None, :]
    tl.store(base + rows[:, None] * STRIDE + column, tile.to(base.dtype.element_ty), mask=rows[:, None] < N)


@NOT_A_NUMBER
@pytest.mark.parametrize("module", ["triton_whole_head", "triton_sliced_head"])
@pytest.mark.parametrize(("name", "fault"), [("load_tile", load_rows), ("store_tile", store_rows)])
def test_missing_column_mask_is_seen(
    name: str, fault: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = torch.float16 if module == "triton_whole_head" else torch.float32
    monkeypatch.setattr(f"v2f_kernels.attention.{module}.{name}", fault)
    with pytest.raises(AssertionError):
        assert_untouched_by_neighbours(24, dtype, float("nan"))


def test_missing_mask_turns_the_judge_red(
    monkeypatch: pytest.MonkeyPatch, assert_judged: Callable[..., None]
) -> None:
    monkeypatch.setattr("v2f_kernels.attention.triton_whole_head.softmax_terms", unmasked)
    judged_red(assert_judged, torch.float16)

"""Statistics travel from what writes an activation to the norm that reads it, only where a backend joins them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from v2f_kernels._contract import BIAS, KEEPS, NORM, SHIFT, STATISTICS, joined, joins
from v2f_kernels._tuned import op_named

from v2f_engine.backends import choose
from v2f_engine.machine import Machine
from v2f_engine.models.fold import freeze
from v2f_engine.models.image_decoder import ImageDecoder, Level, ResidualBlock, Upsample
from v2f_engine.models.joined import Known, takes_bias
from v2f_engine.models.ops import Bound, bind_ops
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

GROUPS = 4


class Heard:
    """Stands in for the bound ops of a decoder, joins what it is told to, and notes every call."""

    def __init__(self, decoder: ImageDecoder, *parts: str, of: tuple[str, ...]) -> None:
        self.calls: list[tuple[str, frozenset[str]]] = []
        for module in decoder.modules():
            if isinstance(module, Bound):
                module.ops = tuple(self.noting(op, parts if op in of else ()) for op in module.uses)

    def noting(self, op: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        function = op_named(op).backend("reference")

        def noted(*args: Any, **named: Any) -> Any:
            self.calls.append((op, frozenset(name for name, value in named.items() if value is not None)))
            return function(*args, **named)

        return joins(*parts)(noted) if parts else noted

    def count(self, op: str, *named: str) -> int:
        return sum(o == op and set(named) <= given for o, given in self.calls)


NORMS = ("group_norm_silu",)
CONVOLUTIONS = ("conv3x3", "upsample_conv3x3", "upsample_conv3x3_folded")


@pytest.fixture
def decoder() -> ImageDecoder:
    made = ImageDecoder(16, 8, (1, 1, 2), 2, GROUPS).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in made.parameters():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(drawn / max(1, tensor[0].numel()) ** 0.5)
    return made


def grid() -> torch.Tensor:
    return torch.randn(2, 16, 7, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_nothing_is_joined_by_default() -> None:
    for op in ("conv3x3", "upsample_conv3x3", "upsample_conv3x3_folded", "group_norm_silu"):
        assert not joined(op_named(op).backend("torch")), op


def test_a_part_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="joins: expected some of .*'norm'.*, found \\('residual',\\)"):
        joins("residual")


@pytest.mark.parametrize("parts", [(), (STATISTICS,), (NORM,), (NORM, STATISTICS)])
@pytest.mark.parametrize("folded", [False, True])
def test_what_is_joined_changes_no_image(decoder: ImageDecoder, parts: tuple[str, ...], folded: bool) -> None:
    """Bytes and real images, whatever is joined; in fp64 nothing but the order of sums parts them."""
    decoder = freeze(decoder) if folded else decoder
    with torch.no_grad():
        plain, levels = decoder(grid()), decoder.bytes(grid())
        Heard(decoder, *parts, of=CONVOLUTIONS)
        assert torch.allclose(decoder(grid()), plain, rtol=1e-9, atol=1e-9)
        assert torch.equal(decoder.bytes(grid()), levels)


def test_statistics_flow_to_every_norm_but_the_first(decoder: ImageDecoder) -> None:
    """Levels 2, 1, 0 of two blocks and the middle's two: 16 norms in blocks, one in the tail. conv_in is no op, and
    where the channels change the unfolded shortcut is added behind conv2."""
    frozen = freeze(decoder)
    heard = Heard(frozen, STATISTICS, of=CONVOLUTIONS)
    with torch.no_grad():
        frozen.bytes(grid())
    assert heard.count("group_norm_silu") == 16
    assert heard.count("group_norm_silu", "statistics") == 15
    assert heard.count("to_uint8", "statistics") == 1
    # A norm reads all but the last conv2 of the two levels that are upsampled.
    assert heard.count("conv3x3") == 16
    assert heard.count("conv3x3", "out_groups") == 14
    assert heard.count("upsample_conv3x3_folded", "out_groups") == 2
    assert heard.count("conv3x3", "norm") == 0


def test_a_joined_norm_is_no_op_of_its_own(decoder: ImageDecoder) -> None:
    frozen = freeze(decoder)
    heard = Heard(frozen, NORM, STATISTICS, of=CONVOLUTIONS)
    with torch.no_grad():
        frozen.bytes(grid())
    assert heard.count("group_norm_silu") == 0
    assert heard.count("conv3x3", "norm") == 16
    assert heard.count("conv3x3", "norm", "statistics") == 15


def test_unfolded_shortcuts_change_what_conv2_wrote(decoder: ImageDecoder) -> None:
    heard = Heard(decoder, STATISTICS, of=CONVOLUTIONS)
    with torch.no_grad():
        decoder.bytes(grid())
    assert heard.count("conv3x3", "out_groups") == 13  # level 1's first block narrows 16 channels to 8


def test_where_gradients_are_asked_for_no_norm_is_joined(decoder: ImageDecoder) -> None:
    """Statistics would cost a launch and save no pass at 7, 14 and 28 pixels a side."""
    heard = Heard(decoder, NORM, STATISTICS, SHIFT, of=(*CONVOLUTIONS, *NORMS))
    decoder(grid())
    named = ("statistics", "norm", "out_groups", "shift")
    assert not any(heard.count(op, name) for op, _ in heard.calls for name in named)
    assert heard.count("group_norm_silu") == 17


def test_what_is_joined_in_training_changes_no_gradient(
    decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics from a convolution that adds a residual and from upsampling to the norms behind; a residual's gradient
    back through the norm that reads the same. Every parameter's gradient."""
    decoder(grid()).square().mean().backward()
    plain = {name: p.grad for name, p in decoder.named_parameters()}
    decoder.zero_grad()
    monkeypatch.setattr("v2f_engine.models.joined.ONE_PASS", 100)  # 14 and 28 pixels a side are above
    heard = Heard(decoder, STATISTICS, KEEPS, of=(*CONVOLUTIONS, *NORMS))
    decoder(grid()).square().mean().backward()
    # Two upsamplings, and both blocks of the last level: others narrow, or are upsampled next.
    assert heard.count("upsample_conv3x3", "out_groups") == 2
    assert heard.count("conv3x3", "out_groups") == heard.count("conv3x3", "out_groups", "residual") == 2
    assert heard.count("group_norm_silu", "statistics") == 4
    assert heard.count("group_norm_silu", "keep") == 8  # each block's first
    for name, parameter in decoder.named_parameters():
        assert torch.allclose(parameter.grad, plain[name], rtol=1e-7, atol=1e-10), name  # type: ignore[arg-type]


class TwoSides(Heard):
    """Norms that take a shift, and convolutions that join what they are told to."""

    def __init__(self, decoder: ImageDecoder, *parts: str) -> None:
        super().__init__(decoder, SHIFT, of=NORMS)
        for module in decoder.modules():
            if isinstance(module, Bound):
                module.ops = tuple(
                    self.noting(name, parts) if name in CONVOLUTIONS else op
                    for name, op in zip(module.uses, module.ops, strict=True)
                )


def test_a_bias_is_left_to_the_norm_and_the_residual_behind_it(decoder: ImageDecoder) -> None:
    """Level 2's upsampling is read by a block that narrows and has no residual, level 1's by one that keeps its
    channels: there the bias comes back with the residual. The image is the same."""
    frozen = freeze(decoder)
    with torch.no_grad():
        plain = frozen(grid())
        heard = TwoSides(frozen, STATISTICS)
        assert torch.allclose(frozen(grid()), plain, rtol=1e-9, atol=1e-9)
    assert heard.count("group_norm_silu", "shift") == 2
    assert heard.count("upsample_conv3x3_folded", "out_groups") == 0
    assert heard.count("conv3x3", "bias", "residual") == 1


@pytest.mark.parametrize("parts", [(BIAS,), (BIAS, STATISTICS), (NORM,)])
def test_a_bias_stays_where_it_costs_nothing_or_no_norm_would_take_it(
    decoder: ImageDecoder, parts: tuple[str, ...]
) -> None:
    frozen = freeze(decoder)
    with torch.no_grad():
        plain = frozen(grid())
        heard = TwoSides(frozen, *parts)
        assert torch.allclose(frozen(grid()), plain, rtol=1e-9, atol=1e-9)
    assert heard.count("group_norm_silu", "shift") == 0
    assert heard.count("conv3x3", "bias", "residual") == 0


def test_parts_of_a_batch_keep_the_shift() -> None:
    known = Known(torch.zeros(5, 4, 2, 2), torch.zeros(5, 2, 2), torch.arange(4.0))
    parts = known.split(2)
    assert [len(part.x) for part in parts] == [2, 2, 1]
    assert all(part.shift is known.shift and part.statistics is not None for part in parts)
    assert all(part.shift is known.shift for part in Known(known.x, None, known.shift).split(3))


def test_the_h200s_table_joins_bias_and_statistics_of_the_upsamplings_it_chose() -> None:
    """Ours at 56, 28 and 14; at 7 cuDNN's, whose bias the norm at 14 takes."""
    machine = Machine(1, frozenset(), has_triton=True, gpus=("NVIDIA H200",))
    with torch.device("meta"):
        decoder = Vec2Face(Vec2FaceConfig.base()).im_decoder
    bind_ops(decoder, choose("cuda:0", "fp16", machine=machine))
    found = {m.side: joined(m.ops[1]) for m in decoder.modules() if isinstance(m, Upsample)}
    ours = frozenset({BIAS, STATISTICS})
    assert found == {56: ours, 28: ours, 14: ours, 7: frozenset()}
    level = decoder.up[3]
    assert isinstance(level, Level)
    first = level.block[0]
    assert isinstance(first, ResidualBlock)
    with torch.no_grad():
        assert takes_bias(*first.ops[:2])
    assert not takes_bias(*first.ops[:2])  # gradients are asked for

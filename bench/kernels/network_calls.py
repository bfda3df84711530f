"""Which op a real network calls, at which shapes and how often: the work list of `bench.kernels.choose`.

The network runs once on meta tensors, of which nothing is computed, with every bound op replaced by one that notes
its arguments. So the list is what binding will look up, call by call, and no copy of the network's sizes exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from v2f_kernels._contract import NORM, STATISTICS, joins
from v2f_kernels._tuned import key_of

from bench.kernels import cases
from bench.kernels.case import Case
from v2f_engine.models.discriminator import SIDE, PatchDiscriminator
from v2f_engine.models.fold import freeze
from v2f_engine.models.frozen_iresnet import FrozenIResNet
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.ops import Bound
from v2f_engine.models.perceptual import RecogniserView
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
FLOP_RATE, BYTE_RATE = 6e14, 2e12
"""Of a card of the H100's class: they order the work by value, and no result depends on them."""


CHECKED_ROWS = (3, 12)
"""Images and rows of tokens that a backend is judged on: what a program computes does not depend on the batch."""


@dataclass(frozen=True)
class Call:
    """A call of an op in the network.

    Args:
        op, shape: the shape class it is bound for.
        sizes: of its tensors, in order.
        groups: of its GroupNorm; 0 without one.
        residual: whether one is given.
        before, behind: groups of the norms that a convolution reads from and is read by, where it may join them.
    """

    op: str
    shape: str
    sizes: tuple[tuple[int, ...], ...]
    groups: int
    residual: bool
    before: int = 0
    behind: int = 0


CONVOLUTIONS = ("conv3x3", "upsample_conv3x3", "upsample_conv3x3_folded")
"""Ops whose backends may do a part of the ops around them: `v2f_kernels._contract.joins`."""


@dataclass(frozen=True)
class Item:
    """What one entry of a table decides.

    Args:
        op, shape, dtype, gradients: its key.
        cases: inputs it is timed by, and how often the network makes each call.
        checks: the same on few rows, which it is judged by.
        seconds: least a card of the H100's class could need for these calls, an image: the order of the work.
    """

    op: str
    shape: str
    dtype: str
    gradients: bool
    cases: tuple[tuple[Case, int], ...]
    checks: tuple[Case, ...]
    seconds: float

    @property
    def key(self) -> str:
        return key_of(self.shape, self.dtype, self.gradients)

    @property
    def calls(self) -> int:
        """How often the network makes them, an image."""
        return sum(times for _, times in self.cases)

    @property
    def label(self) -> str:
        return f"{self.op} {self.key}"


def items(
    config: Vec2FaceConfig, *, dtype: str, gradients: bool, image_rows: int = 64, token_rows: int = 256
) -> list[Item]:
    """The entries of a network, most valuable first: generation, or training where `gradients`.

    Args:
        image_rows, token_rows: batch of the image decoder's ops and of the transformers'.
    """
    counted = calls(config, DTYPES[dtype], gradients)
    grouped: dict[tuple[str, str], list[tuple[Call, int]]] = {}
    for call, times in counted.items():
        grouped.setdefault((call.op, call.shape), []).append((call, times))
    found = []
    for (op, shape), group in grouped.items():
        made: dict[tuple[str, int, int], tuple[Case, int]] = {}
        checks: dict[tuple[str, int, int], Case] = {}
        for call, times in group:
            case, check = (_case(call, gradients, rows) for rows in ((image_rows, token_rows), CHECKED_ROWS))
            key = case.name, case.before, case.behind
            made[key] = (case, made.get(key, (case, 0))[1] + times)
            checks[key] = check
        if not gradients or all(check.gradients for check in checks.values()):
            seconds = sum(times * _least(call, DTYPES[dtype]) for call, times in group) * (
                3 if gradients else 1
            )
            entry = tuple(made.values()), tuple(checks.values())
            found.append(Item(op, shape, dtype, gradients, *entry, seconds))
    return sorted(found, key=lambda item: -item.seconds)


def calls(config: Vec2FaceConfig, dtype: torch.dtype, gradients: bool) -> Counter[Call]:
    """Every call of an op in one forward pass, and how many of each; with `gradients` also those of the
    published discriminator, of a view by an iresnet100 and of a recogniser in training; of convolutions in generation
    with the norms around them, as a backend that joins these would be told."""
    seen = _heard(config, dtype, gradients, joining=False)
    if gradients:
        return seen
    joined = _heard(config, dtype, gradients, joining=True)
    return Counter(
        {call: n for call, n in seen.items() if call.op not in CONVOLUTIONS}
        | {call: n for call, n in joined.items() if call.op in CONVOLUTIONS}
    )


def _heard(config: Vec2FaceConfig, dtype: torch.dtype, gradients: bool, joining: bool) -> Counter[Call]:
    with torch.device("meta"):
        model, critic = Vec2Face(config), PatchDiscriminator()
        view = RecogniserView(FrozenIResNet(IResNet(IResNetConfig.named("iresnet100")), dtype))
        learner = IResNet(IResNetConfig.named("iresnet50", se=True))
    if not gradients:
        model = freeze(model, device="meta", dtype=dtype)
    seen: Counter[Call] = Counter()
    for module in (*model.modules(), *critic.modules(), *view.modules(), *learner.modules()):
        if isinstance(module, Bound):
            named = zip(module.uses, module.shapes(), module.ops, strict=True)
            module.ops = tuple(
                joins(NORM, STATISTICS)(noted) if joining and op in CONVOLUTIONS else noted
                for op, noted in ((op, _noting(seen, op, shape, f)) for op, shape, f in named)
            )
    schedule = MASK_SCHEDULES["train" if gradients else "generate"]
    rows = (
        torch.empty(1, config.vector_dim, device="meta", dtype=torch.float32 if gradients else dtype),
        torch.empty(1, 49, device="meta"),
        torch.empty(1, device="meta", dtype=torch.int64),
    )
    with torch.no_grad():
        (model.eval().forward if gradients else model.decode)(*rows, schedule.n_dropped)
        if gradients:
            images = torch.empty(1, 3, SIDE, SIDE, device="meta")
            critic(images)
            generated, real = view.recogniser.stages(images), view(images, whole=False)[0]
            learner.stages(images)
            view.distance([generated[stage] for stage in view.chosen], real)
    return seen


def _noting(seen: Counter[Call], op: str, shape: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*args: Any, **named: Any) -> Any:
        sizes = tuple(tuple(a.shape) for a in args if isinstance(a, torch.Tensor))
        groups = next((a for a in args if isinstance(a, int)), 0)
        before, behind = (named.get("norm") or (None, None, 0))[2], named.get("out_groups") or 0
        seen[Call(op, shape, sizes, groups, named.get("residual") is not None, before, behind)] += 1
        return function(*args, **named)

    return noted


def _case(call: Call, gradients: bool, rows: tuple[int, int]) -> Case:
    """`rows`: of an op on images and of one on tokens."""
    case = BUILDERS[call.op](call, rows[0] if len(call.sizes[0]) == 4 else rows[1])
    return case if gradients else replace(case, gradients=(), before=call.before, behind=call.behind)


def _least(call: Call, dtype: torch.dtype) -> float:
    """Seconds of an image's arithmetic, or of reading and writing its activations: the larger."""
    case = BUILDERS[call.op](call, 1)
    numbers = 1
    for size in call.sizes[0]:
        numbers *= size
    return max(case.flop / FLOP_RATE, 2.0 * numbers * dtype.itemsize / BYTE_RATE)


def _attention(call: Call, rows: int) -> Case:
    _, tokens, _, heads, depth = call.sizes[0]
    return cases.attention(rows, tokens, heads, depth)


BUILDERS: dict[str, Callable[[Call, int], Case]] = {
    "attention": _attention,
    "batch_norm_prelu": lambda c, b: cases.batch_norm_prelu(
        b, c.sizes[0][1], c.sizes[0][2], *(any(len(size) == axes for size in c.sizes[6:]) for axes in (1, 4))
    ),
    "bias_prelu": lambda c, b: cases.bias_prelu(b, c.sizes[0][1], c.sizes[0][2], len(c.sizes[1]) == 3),
    "bias_residual": lambda c, b: cases.bias_residual(b, c.sizes[0][1], c.sizes[0][2]),
    "conv3x3": lambda c, b: cases.conv3x3(b, c.sizes[0][1], c.sizes[0][2], c.residual, c.sizes[1][0]),
    "expand_tokens": lambda c, b: cases.expand_tokens(b, c.sizes[0][1], 1 + c.sizes[4][1]),
    "gelu_linear": lambda c, b: cases.gelu_linear(b, c.sizes[0][2], c.sizes[0][1]),
    "group_norm_leaky": lambda c, b: cases.group_norm_leaky(
        b, c.sizes[0][1], c.sizes[0][2], len(c.sizes) > 3, c.groups
    ),
    "group_norm_silu": lambda c, b: cases.group_norm_silu(b, c.sizes[0][1], c.sizes[0][2], c.groups),
    "layer_norm": lambda c, b: cases.layer_norm(b, c.sizes[0][2], c.sizes[0][1]),
    "multi_scale_stem": lambda c, b: cases.multi_scale_stem(
        b, sum(c.sizes[place][0] for place in (2, 4, 6)), c.sizes[0][2]
    ),
    "to_uint8": lambda c, b: cases.to_uint8(b, c.sizes[0][1], c.sizes[0][2], c.groups),
    "unit_distance": lambda c, b: cases.unit_distance(b, c.sizes[0][1], c.sizes[0][2]),
    "upsample_conv3x3": lambda c, b: cases.upsample(b, c.sizes[0][1], c.sizes[0][2], folded=False),
    "upsample_conv3x3_folded": lambda c, b: cases.upsample(b, c.sizes[0][1], c.sizes[0][2], folded=True),
}
"""Op -> (call, rows) -> the case that stands for it."""

"""Device time by part, and what each part had to do: a profile's kernels grouped by name, with FLOP and bytes known.

FLOP of convolutions and matrix products are counted by torch on the same network; bytes of an op are its inputs read
once and its outputs written once, counted where the network calls it, so a rate is a lower bound of what the card did.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import protocol
from bench.generation import rungs
from bench.kernels.case import flat
from bench.kernels.step_profile import Kernel
from v2f_engine.backends import Choice
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.ops import Bound
from v2f_engine.models.vec2face import Vec2Face

CONVOLUTION, PRODUCT, OTHER = "convolutions", "matrix products", "other"
PARTS = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        (
            "copies and layout",
            r"[cC]opy|Memcpy|Memset|[nN]chwToNhwc|[nN]hwcToNchw|CatArray|aten::cat|aten::_to",
        ),
        ("attention", r"attention_(forward|backward)|scaled_dot|fmha|flash"),
        (
            "group_norm_silu",
            r"^(((merge|activated)_)?moments|(activated_)?(apply|single_pass)|scale_shift"
            r"|backward_(sums|merge|apply|group))_kernel"
            r"|[gG]roup_?[nN]orm|RowwiseMoments",
        ),
        ("layer_norm", r"layer_norm|[lL]ayer_?Norm"),
        ("to_uint8", r"^to_uint8"),
        ("expand_tokens", r"^expand_(forward|backward|position)"),
        (CONVOLUTION, r"implicit_gemm|fprop|dgrad|wgrad|conv|cudnn"),
        (PRODUCT, r"nvjet|gemm|gemv|cutlass|gelu_linear_forward|aten::(addmm|mm|bmm|baddbmm)"),
        ("GELU", r"[gG]elu"),
        ("batch norm", r"batch_norm|bn_fw|bn_bw"),
        ("optimiser", r"multi_tensor|[aA]dam|foreach"),
        ("reductions", r"reduce"),
        ("element-wise", r"elementwise|aten::(add|mul|div|sub|silu|sigmoid|clamp|where)"),
    )
)
"""(part, what its kernels' names hold); the first that fits."""
TOP = 25


@dataclass(frozen=True)
class Work:
    """What a part has to do in one call: FLOP, and the least bytes."""

    flop: float = 0.0
    bytes: float = 0.0


def part_of(name: str) -> str:
    """The part that a kernel's name belongs to."""
    return next((part for part, pattern in PARTS if pattern.search(name)), OTHER)


def rows(
    what: str, case: str, kernels: Sequence[Kernel], images: int, work: Mapping[str, Work], top: int = TOP
) -> list[protocol.Row]:
    """Rows of a profile: all of it, every part, and the `top` longest kernels with the rest together.

    Args:
        what: was profiled.
        case: with which batch.
        kernels: of one call.
        images: of one call.
        work: of the parts for which it is known.
    """
    parts: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        parts[part_of(kernel.name)].append(kernel)
    ordered = sorted(parts.items(), key=lambda item: -sum(k.us for k in item[1]))
    lines = [(f"{case}: by part", "all kernels", list(kernels), Work())]
    lines += [(f"{case}: by part", part, found, work.get(part, Work())) for part, found in ordered]
    lines += [(f"{case}: kernels", k.name[:100], [k], Work()) for k in kernels[:top]]
    if kernels[top:]:
        lines.append((f"{case}: kernels", f"{len(kernels) - top} others", list(kernels[top:]), Work()))
    made = []
    for place, name, found, known in lines:
        us, launches, share = (sum(getattr(k, field) for k in found) for field in ("us", "launches", "share"))
        words = f"{us / images:.3f} us/image, {100 * share:.1f} % of device time, {launches:g} launches"
        if name == "all kernels":
            words += f"; {images / us * 1e6:.0f} images/s without gaps"
        if us <= 0:
            continue
        made.append(
            protocol.Row(
                f"device time, {what}", place, name, True, words,
                protocol.Timing(us / 1e6, us / 1e6, us / 1e6, 1, 1, "profiler"), known.flop, known.bytes,
            )
        )  # fmt: skip
    return made


def work_of_generation(model: Vec2Face, choice: Choice, images: int) -> dict[str, Work]:
    """What each part of the frozen network has to do for `images` images, from calls with one and with two."""
    frozen = freeze(model, device=choice.device, dtype=choice.dtype)
    bind_ops(frozen, {})
    moved = _count_bytes(frozen)
    seen = []
    for number in (1, 2):
        moved.clear()
        vectors, noise, n_masked = rungs.Batch.draw(number, choice.device).device
        with torch.no_grad(), flop_counter() as counter:
            frozen.decode(vectors.to(choice.dtype), noise, n_masked, rungs.N_DROPPED)
        seen.append((dict(moved), flop_by_part(counter)))
    (bytes_one, _), (bytes_two, flop_two) = seen
    work = {part: Work(flop=flop / 2 * images) for part, flop in flop_two.items()}
    for op, two in bytes_two.items():
        if op not in ("conv3x3", "upsample_conv3x3_folded", "upsample_conv3x3", "gelu_linear"):
            work[op] = Work(bytes=two + (images - 2) * (two - bytes_one[op]))
    return work


class _Nowhere:
    """In place of a counter's tracker of modules."""

    parents: ClassVar[set[str]] = {"Global"}

    def __enter__(self) -> _Nowhere:
        return self

    def __exit__(self, *error: object) -> None: ...


def flop_counter() -> FlopCounterMode:
    """Counts a step's FLOP as a whole. torch's tracker of modules hooks what modules are given, and a hook on a leaf
    refuses `torch.autograd.grad`, by which a step asks for the discriminator's slope at the generated images."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Nowhere()  # type: ignore[assignment]
    return counter


def flop_by_part(counter: FlopCounterMode) -> dict[str, float]:
    """FLOP of convolutions and of matrix products."""
    found: dict[str, float] = defaultdict(float)
    for operator, flop in counter.get_flop_counts().get("Global", {}).items():
        found[CONVOLUTION if "conv" in str(operator) else PRODUCT] += flop
    return dict(found)


def _count_bytes(model: Vec2Face) -> dict[str, float]:
    """Makes every op add its bytes to what is handed back."""
    moved: dict[str, float] = defaultdict(float)

    def counted(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            made = function(*args, **named)
            for tensor in (*args, *named.values(), *flat(made)):
                if isinstance(tensor, torch.Tensor):
                    moved[op] += tensor.numel() * tensor.element_size()
            return made

        return call

    for module in model.modules():
        if isinstance(module, Bound):
            module.ops = tuple(counted(op, f) for op, f in zip(module.uses, module.ops, strict=True))
    return moved

"""What an operator of torch launches on a GPU: kernels with their bytes, FLOP, layouts and a predicted time.

Sources: torch's CUDA code (which operator copies what inside, how many kernels a norm has) and the rates that an H200
showed (`RATES`). A prediction, never a measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch

LAUNCH_US = 2.5
"""No kernel takes less."""
RATES: Mapping[str, float] = {
    # elements a second
    "layout": 120e9,  # reads one layout and writes another
    "broadcast": 350e9,  # one operand a channel's, or not in one piece: 1.1 us an image for 0.4 M bf16 (first run)
    "nearest": 172e9,
    "depthwise": 20e9,  # a guess: cuDNN's fp32 convolution of 3 groups, channels-last
    # FLOP a second
    "gemm": 550e12,  # 430 to 670 (first run)
    "fp32 gemm": 50e12,  # no tensor cores: TF32 is off
    "convolution": 690e12,  # 673 to 749 (first run)
    "input gradient": 640e12,
    "weight gradient": 490e12,  # a guess
    "narrow convolution": 120e12,  # a guess: fewer than 16 channels on one side
    # bytes a second
    "memory": 3.3e12,  # what a copy reaches
    "reduction": 2.2e12,  # moments reached half of a copy's rate
}
ELEMENTS = ("layout", "broadcast", "nearest", "depthwise")
MATRIX = ("gemm", "fp32 gemm", "convolution", "input gradient", "weight gradient", "narrow convolution")


@dataclass(frozen=True)
class Kernel:
    """One kernel, or `launches` equal ones.

    Args:
        name: of the operator, or of our kernel.
        kind: a key of `RATES`.
        elements: of its largest tensor.
        bytes: read and written, each tensor once.
        flop: of a product or convolution.
        converts: reads one of NCHW and NHWC and writes the other, or mixes them.
        wide: bytes of it that are fp32, where it is element-wise.
        launches: how many.
    """

    name: str
    kind: str
    elements: float = 0.0
    bytes: float = 0.0
    flop: float = 0.0
    converts: bool = False
    wide: float = 0.0
    launches: int = 1
    shape: tuple[int, ...] = field(default=(), compare=False)

    @property
    def matrix(self) -> bool:
        return self.kind in MATRIX

    @property
    def us(self) -> float:
        """Predicted: the slower of memory and arithmetic, 2.5 us a launch at least."""
        memory = self.bytes / RATES["reduction" if self.kind == "reduction" else "memory"]
        work = 0.0
        if self.kind in ELEMENTS:
            work = self.elements / RATES[self.kind]
        elif self.matrix:
            work = self.flop / RATES[self.kind]
        return max(1e6 * max(memory, work), LAUNCH_US * self.launches)


def size(tensor: torch.Tensor) -> int:
    """Bytes that a kernel reads of it: an expanded tensor's memory once."""
    count = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride:
            count *= length
    return count * tensor.element_size() if tensor.numel() else 0


def layout(tensor: torch.Tensor) -> str | None:
    """`NCHW` or `NHWC` of a map `[B, C, H, W]`; None where it is neither, or both."""
    if (
        tensor.ndim != 4
        or tensor.shape[1] == 1
        or tensor.shape[2] * tensor.shape[3] == 1
        or 0 in tensor.stride()
    ):
        return None
    channel, column = tensor.stride(1), tensor.stride(3) if tensor.shape[3] > 1 else tensor.stride(2)
    if channel == 1 and column != 1:
        return "NHWC"
    return "NCHW" if column == 1 and channel != 1 else None


def flat(value: Any) -> Iterable[torch.Tensor]:
    """The tensors of nested sequences."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from flat(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from flat(one)


def in_one_piece(tensor: torch.Tensor) -> bool:
    """Dense and without gaps, in whatever order of dimensions."""
    if 0 in tensor.stride() and tensor.numel() > 1:
        return all(s or n == 1 for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    expected = 1
    for stride, length in sorted((s, n) for n, s in zip(tensor.shape, tensor.stride(), strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= length
    return True


def elementwise(
    name: str,
    reads: Sequence[torch.Tensor],
    writes: Sequence[torch.Tensor],
    kind: str | None = None,
    launches: int = 1,
) -> Kernel:
    """A kernel that reads and writes these tensors once each."""
    every = [*reads, *writes]
    largest = max((t.numel() for t in every), default=0)
    whole = [t for t in every if t.numel() == largest]
    layouts = {found for t in every if 2 * t.numel() >= largest and (found := layout(t))}
    converts = len(layouts) > 1
    if kind is None:
        small = any(1 < t.numel() < largest for t in reads) or any(not in_one_piece(t) for t in whole)
        kind = "layout" if converts else "broadcast" if small else "memory"
    moved = sum(map(size, every))
    wide = sum(size(t) for t in every if t.dtype == torch.float32)
    shape = tuple(max(every, key=lambda t: t.numel()).shape) if every else ()
    return Kernel(name, kind, largest, moved, 0.0, converts, wide, launches, shape)


def product(name: str, flop: float, tensors: Sequence[torch.Tensor], kind: str = "gemm") -> Kernel:
    """A matrix product or convolution."""
    wide = tensors[0].dtype == torch.float32
    moved = sum(map(size, tensors))
    return Kernel(
        name,
        "fp32 gemm" if wide else kind,
        max(t.numel() for t in tensors),
        moved,
        flop,
        shape=tuple(tensors[0].shape),
    )


def tiny(name: str, launches: int = 1) -> Kernel:
    """Kernels on numbers per channel or fewer: a launch each."""
    return Kernel(name, "memory", launches=launches)


def chunks(lists: Sequence[Sequence[torch.Tensor]], depth: int) -> int:
    """Launches of a multi-tensor kernel: at most so many tensors and 320 blocks of 65,536 elements each."""
    tensors, blocks = {1: 110, 2: 64, 3: 48, 4: 36}.get(depth, 30), 320
    launches, held, used = 0, 0, 0
    for tensor in lists[0]:
        held += 1
        left = ceil(tensor.numel() / 65536)
        while used + left >= blocks:
            left -= blocks - used
            launches, used, held = launches + 1, 0, 1 if left else 0
        used += left
        if held >= tensors:
            launches, held, used = launches + 1, 0, 0
    return launches + (1 if used or held else 0)

"""One op at one shape: its inputs, what may be said of their FLOPs and bytes, and how a rival is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from v2f_kernels import Op

Tensors = dict[str, torch.Tensor]
Function = Callable[..., Any]
SIZES = ("tiny", "small", "real")


@dataclass(frozen=True)
class Case:
    """An op on inputs of one shape.

    Args:
        op: as `v2f_engine.backends.op_named` knows it.
        name: of the case.
        make: generator -> named inputs, fp32 (or integers, bool), on the generator's device.
        call: (the backend's function, inputs) -> output.
        flop: of one forward call.
        gradients: names of inputs that get a gradient.
        judge: `error` (at most twice torch's own), `bytes` (one grey level) or `exact`.
        plain: plain torch in the inputs' dtype, for ops without a `torch` backend.
        alternatives: other ways in torch, on a GPU: name -> (inputs -> output).
        half: whether fp16 and bf16 make sense.
        before, behind: of a convolution in a network: groups of the norm that its input goes through, and of the one
            that reads its output; 0 where there is none.
    """

    op: str
    name: str
    make: Callable[[torch.Generator], Tensors]
    call: Callable[[Function, Tensors], Any]
    flop: float
    gradients: tuple[str, ...] = ()
    judge: str = "error"
    plain: Function | None = None
    alternatives: Mapping[str, Callable[[Tensors], Any]] = field(default_factory=dict)
    half: bool = True
    before: int = 0
    behind: int = 0

    def inputs(self, seed: int, device: str, dtype: torch.dtype) -> Tensors:
        """Fresh random inputs; floating ones rounded to `dtype`, images channels-last."""
        made = self.make(torch.Generator(device).manual_seed(seed))
        return {name: placed(t, device, dtype) for name, t in made.items()}


def placed(t: torch.Tensor, device: str, dtype: torch.dtype) -> torch.Tensor:
    moved = t.to(device, dtype if t.is_floating_point() else None)
    return moved.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else moved


def normal(generator: torch.Generator, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, device=generator.device) * scale


class Alternative:
    """Another way in torch; it takes the named inputs rather than the op's arguments."""

    def __init__(self, way: Callable[[Tensors], Any]) -> None:
        self.way = way


def apply(case: Case, function: Any, inputs: Tensors) -> Any:
    """The output of a backend's function or of an `Alternative`."""
    return function.way(inputs) if isinstance(function, Alternative) else case.call(function, inputs)


def compiled(function: Callable[[Tensors], Any]) -> Callable[[Tensors], Any]:
    """`torch.compile`, at the first call: importing its machinery takes seconds."""

    @cache
    def once() -> Callable[[Tensors], Any]:
        return torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)

    return lambda inputs: once()(inputs)


def least_bytes(inputs: Tensors, output: Any) -> float:
    """Every input read once, every output written once."""
    tensors = [*inputs.values(), *flat(output)]
    return float(sum(t.numel() * t.element_size() for t in tensors))


def flat(output: Any) -> list[torch.Tensor]:
    """Tensors of an output that may be a tensor, an array or a tuple of them."""
    parts = output if isinstance(output, tuple) else (output,)
    return [torch.as_tensor(part) for part in parts]


def backends_of(op: Op) -> list[str]:
    """All but the judge."""
    return [name for name in op.contenders if name != "reference"]

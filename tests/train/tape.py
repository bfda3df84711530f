"""A CUDA graph, imitated on a CPU: ATen's operators recorded once, then run again on the same tensors.

What a replay shares with a graph's: operators run in recorded order on recorded addresses; a number that Python held
at recording is frozen; Python does not run; memory made inside does not outlive a replay (it is filled with NaN
before the next); asking for a value, or drawing a random number, is refused. What it does not imitate: kernels,
streams, and the reuse of memory between graphs of a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from v2f_engine.train.generator_step import Terms
from v2f_engine.train.graphed import WARM_UP


class NotCapturable(RuntimeError):
    """An operator that a CUDA graph cannot hold, or would repeat the random numbers of."""


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@dataclass
class Call:
    """An operator's call; `made` are those of its results whose memory is new, None elsewhere."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made: list[torch.Tensor | None]

    @property
    def only_views(self) -> bool:
        return not self.function._schema.is_mutable and not any(t is not None for t in self.made)

    def again(self) -> None:
        if self.only_views:
            return
        found = _tensors(self.function(*self.args, **self.kwargs))
        for target, value in zip(self.made, found, strict=True):
            if target is not None:
                target.copy_(value)


class _Listener(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            raise NotCapturable("a step asked the device for a number")
        if torch.Tag.nondeterministic_seeded in function.tags:
            raise NotCapturable(f"a step drew random numbers: {function}")
        result = function(*args, **kwargs)
        known = {_address(tensor) for tensor in _tensors((args, kwargs))}
        made = [None if _address(tensor) in known else tensor for tensor in _tensors(result)]
        self.calls.append(Call(function, args, kwargs, made))
        return result


class Tape:
    """A `Recorder` for CPUs; `replays` counts."""

    def __init__(self) -> None:
        self.recorded, self.replays = 0, 0

    def record(self, work: Callable[[], Terms]) -> tuple[Callable[[], object], Terms]:
        for _ in range(WARM_UP):
            work()
        with _Listener() as listener:
            terms = work()
        self.recorded += 1

        @torch.no_grad()
        def replay() -> None:
            self.replays += 1
            for call in listener.calls:
                for tensor in call.made:
                    if tensor is not None and tensor.is_floating_point():
                        tensor.fill_(float("nan"))
            for call in listener.calls:
                call.again()

        return replay, terms

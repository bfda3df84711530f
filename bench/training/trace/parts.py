"""Which part of a step an operator belongs to, forwards by where the code is, backwards by what made the gradient.

Autograd numbers its nodes in the order in which forward makes them; the part at each number is noted, and a node that
runs backward is looked up by its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

REST = "losses and the rest"


class Parts:
    """The part at hand."""

    def __init__(self) -> None:
        self._stack = [REST]
        self._numbers: list[int] = []
        self._names: list[str] = []
        self._last = REST
        self._note()

    def _note(self) -> None:
        number = torch._C._autograd._get_sequence_nr()
        if self._numbers and self._numbers[-1] == number:
            self._names[-1] = self._stack[-1]
        else:
            self._numbers.append(number)
            self._names.append(self._stack[-1])

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def enter(self, name: str) -> None:
        self._stack.append(name)
        self._note()

    def leave(self) -> None:
        self._stack.pop()
        self._note()

    def now(self) -> tuple[str, bool]:
        """(part, whether it is its backward pass) of the operator that is being called."""
        node = torch._C._current_autograd_node()
        if node is None:
            return self._stack[-1], False
        number = node._sequence_nr()
        if (
            number < 2**63
        ):  # what adds a gradient to a parameter's comes without one: it belongs to what was before
            self._last = self._names[max(0, bisect_right(self._numbers, number) - 1)]
        return self._last, True

    def watch(self, modules: Mapping[str, nn.Module]) -> None:
        """Makes each module's forward a part; a `{}` in its name becomes `fake` with gradients, `real` without."""
        for name, module in modules.items():
            module.register_forward_pre_hook(self._entering(name))
            module.register_forward_hook(self._leaving, always_call=True)

    def _entering(self, name: str) -> Any:
        def entering(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.enter(name.format("fake" if torch.is_grad_enabled() else "real"))

        return entering

    def _leaving(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.leave()

"""What is made of a weight once and used by every call after: forms that a library or a kernel reads faster.

A form lives as long as its weight, and is made anew when the weight has been changed in place, or has got other memory,
as by `module.to(dtype)` or `weight.data = ...`, which count as no change. Weights made under `torch.inference_mode`
count none at all, so nothing is kept for them. What nobody can see is a write through an alias that
torch does not count (`weight.data.mul_(2)`): write to the weight under `torch.no_grad()` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.weak import WeakTensorKeyDictionary

Form = TypeVar("Form")


class Prepared:
    """Weight -> a form of it.

    Args:
        make: the form of a weight; called without gradients.
    """

    def __init__(self, make: Callable[..., Form]) -> None:
        self._make = make
        self._made: Any = WeakTensorKeyDictionary()

    def __call__(self, weight: torch.Tensor, *further: Any) -> Any:
        """The form of `weight` as it is now; `further` are arguments of `make` that belong to the form."""
        if weight.is_inference():
            return self._of(weight, further)
        place = (weight.data_ptr(), weight.dtype, weight.shape, weight.stride())
        key = (weight._version, place, further)
        found = self._made.get(weight)
        if found is None or found[0] != key:
            # The memory is held beside its form: freed, its address could be given to other numbers.
            found = self._made[weight] = (key, self._of(weight, further), weight.untyped_storage())
        return found[1]

    def _of(self, weight: torch.Tensor, further: tuple[Any, ...]) -> Any:
        with torch.no_grad():
            return self._make(weight.detach(), *further)

"""What Triton 3.6's interpreter needs before loops with run-time bounds run in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def with_run_time_bounds(patch: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """In place of `triton.runtime.interpreter._patch_lang_tensor`: it calls int() on arrays of shape [1], which NumPy
    refuses since 2.5."""

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patched

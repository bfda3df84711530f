"""A contract's arguments as one value, where a signature is long."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol


class Arguments(Protocol):
    """A named tuple of what an op is called with."""

    def check(self) -> None:
        """Raises ValueError on shapes, dtypes or numbers outside of the contract."""


def takes(arguments: Callable[..., Arguments]) -> Callable[[Callable[[Any], Any]], Callable[..., Any]]:
    """A backend called with its contract's arguments, by place or by name, has them checked and as one value.

    So a long signature and its checks are written once an op, not once a backend.
    """

    def decorate(backend: Callable[[Any], Any]) -> Callable[..., Any]:
        @wraps(backend)
        def checked(*places: Any, **names: Any) -> Any:
            given = arguments(*places, **names)
            given.check()
            return backend(given)

        return checked

    return decorate

"""A contract's arguments as one value, where a signature is long; and which of them a backend is better for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar


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


NORM = "norm"
"""A convolution that takes the GroupNorm+SiLU before it as `norm=` and is quicker than that op and itself apart."""
STATISTICS = "statistics"
"""A backend whose `out_groups=` costs less than the pass of its own by which a norm would get its statistics."""
BIAS = "bias"
"""A convolution whose bias costs no pass of its own. Where it does, a norm that joins `SHIFT` may take it instead."""
SHIFT = "shift"
"""A norm that normalises `x + shift` by `shift=` as quickly as x."""
KEEPS = "keeps"
"""A norm that, told `keep=True`, returns its input too, for a second reader, whose gradient it adds where it writes its
own: a read in place of autograd's pass over three tensors."""
PARTS = (NORM, STATISTICS, BIAS, SHIFT, KEEPS)
Function = TypeVar("Function", bound=Callable[..., Any])


def joins(*parts: str) -> Callable[[Function], Function]:
    """Says of a backend what it does better with its own work than an op of its own would: some of `PARTS`.

    Every backend obeys the whole contract; a network asks one for these only where it says so. Outermost decorator.

    Raises:
        ValueError: a part that nobody knows.
    """
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"joins: expected some of {PARTS}, found {parts}")

    def decorate(backend: Function) -> Function:
        backend.joined = frozenset(parts)  # type: ignore[attr-defined]
        return backend

    return decorate


def joined(backend: Callable[..., Any]) -> frozenset[str]:
    """What a backend `joins`; nothing by default."""
    found: frozenset[str] = getattr(backend, "joined", frozenset())
    return found

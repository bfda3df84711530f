"""What an op is: a name, one contract, and a table of backends that obey it.

An op's folder holds its contract in `__init__.py` and one module per backend. The table maps a
backend's name to `"module:function"`; the module is imported when the backend is asked for, so
importing an op imports neither triton nor cupy. Every op has `reference`: plain torch or NumPy, fp32 inside,
the specification and the judge of all others; what runs on a CPU is `torch` or `native`. Which backend runs
where is no matter of this package: `v2f_engine.backends` chooses.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from v2f_kernels._errors import V2FError

PACKAGES: list[str] = ["v2f_kernels"]
"""Packages whose folders hold ops: their kernels are under the compile gate, and checked before they run where the
assembler is known to be bad. Whoever brings kernels of its own adds its package, as `bench.candidates` does."""

CANDIDATES: dict[str, dict[str, str]] = {}
"""op -> backend -> `"module:function"` of contenders that a bench brings for this process: they can be asked for by
name, and no table can choose them."""


class UnknownBackend(V2FError, LookupError):
    """A backend name that the op does not list."""


class BackendUnavailable(V2FError, RuntimeError):
    """A backend that the op lists and that cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Op:
    """A named operation and where its implementations live.

    Args:
        name: the folder's name, for messages and manifests.
        backends: backend name -> `"package.module:function"`. Must contain `"reference"`.

    Raises:
        ValueError: when `reference` is missing: an op without an oracle cannot be constructed.
    """

    name: str
    backends: Mapping[str, str]

    def __post_init__(self) -> None:
        if "reference" not in self.backends:
            raise ValueError(f"op {self.name!r} lists no 'reference' backend: it would have no judge")

    @property
    def contenders(self) -> Mapping[str, str]:
        """The table, and what a bench brought for this process."""
        return {**self.backends, **CANDIDATES.get(self.name, {})}

    def backend(self, name: str) -> Callable[..., Any]:
        """The function of backend `name`.

        Raises:
            UnknownBackend: the name is not in the table.
            BackendUnavailable: the backend's module cannot be imported here.
        """
        known = self.contenders
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownBackend(f"op {self.name!r} has no backend {name!r}; known: {sorted(known)}{hint}")
        module, function = known[name].split(":")
        try:
            implementation = getattr(import_module(module), function)
        except ImportError as error:
            raise BackendUnavailable(f"{self.name}/{name} cannot run here: {error}") from error
        return implementation  # type: ignore[no-any-return]

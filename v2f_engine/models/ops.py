"""How a module gets its ops: it names them, and they are bound once, by a `Choice` or to plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import nn

from v2f_engine.backends import Choice, op_named


class Bound(nn.Module):
    """A module that calls ops. `uses` names them; `ops` holds their functions in the same order.

    Unbound modules run the `torch` backend: plain torch in the tensors' own dtype, differentiable.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    ops: tuple[Callable[..., Any], ...]

    def __init__(self) -> None:
        super().__init__()
        self.bind({})

    def bind(self, backends: Mapping[str, str]) -> None:
        """Binds every op this module uses; `backends` maps op name -> backend name, `torch` where silent."""
        self.ops = tuple(op_named(name).backend(backends.get(name, "torch")) for name in self.uses)


def bind_ops(model: nn.Module, choice: Choice | Mapping[str, str]) -> None:
    """Binds every `Bound` module of `model`.

    Args:
        choice: of this machine, or op name -> backend name; `torch` where it is silent.

    Raises:
        UnknownBackend, BackendUnavailable: as `Op.backend`.
    """
    backends = choice.backends if isinstance(choice, Choice) else choice
    for module in model.modules():
        if isinstance(module, Bound):
            module.bind(backends)

"""How a module gets its ops: it names them, and they are bound once, by a `Choice` or to the plain defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

from torch import nn

from v2f_kernels import Op

_HOMES = {
    "upsample_conv3x3_folded": ("upsample_conv3x3", "FOLDED"),
}


def op_named(name: str) -> Op:
    """The op called `name`, e.g. `attention` or `upsample_conv3x3_folded`."""
    folder, attribute = _HOMES.get(name, (name, "OP"))
    op: Op = getattr(import_module(f"v2f_kernels.{folder}"), attribute)
    return op


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


def bind_ops(model: nn.Module, backends: Mapping[str, str]) -> None:
    """Binds every `Bound` module of `model`.

    Args:
        backends: op name -> backend name, e.g. `Choice.backends`.

    Raises:
        UnknownBackend, BackendUnavailable: as `Op.backend`.
    """
    for module in model.modules():
        if isinstance(module, Bound):
            module.bind(backends)

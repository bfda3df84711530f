"""How a module gets its ops: it names them, and they are bound once, by a `Choice` or to plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import nn

from v2f_engine.backends import Choice, function


class Bound(nn.Module):
    """A module that calls ops. `uses` names them, once for each call or kind of call; `ops` holds their functions in
    the same order, and `shapes` says what each will be called with.

    Unbound modules run the `torch` backend: plain torch in the tensors' own dtype, differentiable.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    ops: tuple[Callable[..., Any], ...]

    def __init__(self) -> None:
        super().__init__()
        self.bind({})

    def shapes(self) -> tuple[str, ...]:
        """The shape class of each of `uses`, known from the layer's own sizes (`v2f_kernels._shapes.shape_class`).

        A module that serves several shapes names the largest: an attention of the encoder sees as many tokens as the
        mask schedule leaves, at most all fifty.
        """
        raise NotImplementedError(f"{type(self).__name__} names no shape classes for {self.uses}")

    def bind(self, chosen: Choice | Mapping[str, str]) -> None:
        """Binds every op this module uses: by shape class where a `Choice` is given, else by op name -> backend name,
        `torch` where it is silent."""
        if isinstance(chosen, Choice):
            names = [chosen.backend_of(op, shape) for op, shape in zip(self.uses, self.shapes(), strict=True)]
        else:
            names = [chosen.get(op, "torch") for op in self.uses]
        self.ops = tuple(function(op, name) for op, name in zip(self.uses, names, strict=True))


def bind_ops(model: nn.Module, choice: Choice | Mapping[str, str]) -> None:
    """Binds every `Bound` module of `model`, each for the shapes it reports: nothing is looked up afterwards.

    Args:
        choice: of this machine, or op name -> backend name; `torch` where it is silent.

    Raises:
        UnknownBackend, BackendUnavailable: as `Op.backend`.
    """
    for module in model.modules():
        if isinstance(module, Bound):
            module.bind(choice)


def reached(model: nn.Module) -> frozenset[tuple[str, str]]:
    """(op, shape class) of every call that `model` can make."""
    bound = [module for module in model.modules() if isinstance(module, Bound)]
    return frozenset(pair for module in bound for pair in zip(module.uses, module.shapes(), strict=True))

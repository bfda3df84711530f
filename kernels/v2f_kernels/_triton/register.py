"""Registers a kernel with torch from one class, so that nothing about it is written twice.

    class Forward(NamedTuple):
        \"\"\"y <- LayerNorm(x).\"\"\"

        x: Tensor  # [R, D]
        eps: float

        def outputs(self) -> Tensor:  # unwritten memory of the right shape, dtype and strides
            return torch.empty_like(self.x)

        def launch(self, y: Tensor) -> None:  # writes it
            kernel[grid](self.x, y, ...)

    forward_op = registered("v2f::layer_norm", Forward)  # forward_op(x, eps) -> y

The fields are the op's arguments in order: its schema is read off them and off what `outputs` returns. Running is
`outputs`, then `launch`; tracing (`torch.compile`, `torch.export`) is `outputs` alone. So the shapes that the compiler
is told cannot fall behind those that a run returns. A named tuple is made anew at every call: 0.5 us, a frozen
dataclass of nine fields 2.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, get_type_hints

import torch

Outputs = torch.Tensor | tuple[torch.Tensor, ...]
CALLS: dict[str, type[Any]] = {}
"""Op -> the class it was registered from: whoever counts launches runs `launch` on tensors without memory."""


class Launch(Protocol):
    """One call of an op: its arguments, what it returns, and how that is written."""

    def outputs(self) -> Any:
        """A tensor or a tuple of tensors, not written yet; none shares memory with an argument."""

    def launch(self, *outputs: Any) -> None:
        """Writes them all."""


def run(call: Launch) -> Any:
    """The outputs of a call, written."""
    made = call.outputs()
    call.launch(*(made if isinstance(made, tuple) else (made,)))
    return made


def registered(
    name: str,
    call: type[Any],
    *,
    changes: tuple[str, ...] = (),
    setup_context: Callable[[Any, tuple[Any, ...], Any], None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """The op `name`, e.g. `v2f::attention`, which runs `call`.

    Args:
        call: a named tuple with `outputs` and `launch`.
        changes: fields that `launch` writes in place, such as running statistics; torch counts their versions.
        setup_context: (ctx, inputs, output): keeps what the gradient needs.
        backward: (ctx, *gradients of the outputs) -> a gradient for every field, None where there is none.
    """
    types = get_type_hints(call)
    CALLS[name] = call

    def forward(*arguments: Any) -> Any:
        return run(call(*arguments))

    forward.__name__, forward.__doc__ = name.partition("::")[2], call.__doc__
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(field, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=types[field])
            for field in call._fields
        ],
        return_annotation=get_type_hints(call.outputs)["return"],
    )
    op = torch.library.custom_op(name, forward, mutates_args=changes)
    op.register_fake(lambda *arguments: call(*arguments).outputs())
    if backward is not None:
        op.register_autograd(backward, setup_context=setup_context)
    return op

"""Activations with the statistics that came with them, and the pair of ops that reads and makes such.

A GroupNorm needs mean and variance of its input: a pass of its own over memory, unless what wrote the input summed
while it had the numbers in registers. Which backend can is said by `v2f_kernels._contract.joins`; what it does not
join is called as ever, with the same arguments.

In training statistics come along too, where they save a pass: the norm takes them as known values of its input and
differentiates as if it had summed itself. And the gradient of a residual is added by the backward pass of the norm that
reads the same activation. Nothing else is joined there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from v2f_kernels._contract import BIAS, KEEPS, NORM, SHIFT, STATISTICS, joined

ONE_PASS = 1024
"""Pixels of an image that the norm's kernel keeps in registers from its sums to its values."""


class Known(NamedTuple):
    """An activation `[B, C, H, W]` and, where what wrote it summed too, its statistics: float32 `[B, groups, 2]`.

    Where there is a shift `[C]`, a bias not yet added, the activation is `x + shift`, of which the statistics are.
    """

    x: torch.Tensor
    statistics: torch.Tensor | None = None
    shift: torch.Tensor | None = None

    def split(self, images: int) -> list[Known]:
        """The batch in parts of at most so many images."""
        parts = torch.split(self.x, images)
        if self.statistics is None:
            return [Known(x, None, self.shift) for x in parts]
        both = zip(parts, torch.split(self.statistics, images), strict=True)
        return [Known(*one, self.shift) for one in both]


def written(op: Callable[..., Any], *inputs: Any, groups: int | None, **named: Any) -> Known:
    """`op(*inputs, **named)`, with its output's statistics where a norm of `groups` reads it next and the op joins
    them.

    Args:
        op: a bound convolution or upsampling.
        groups: of the norm that reads the output; None where none does.
    """
    if groups is None or STATISTICS not in _joined(op):
        return Known(op(*inputs, **named))
    return Known(*op(*inputs, **named, out_groups=groups))


def normed(op: Callable[..., Any], known: Known, norm: nn.GroupNorm, **named: Any) -> Any:
    """GroupNorm+SiLU of an activation by a bound op, which sums only what is not known."""
    given = {
        name: value
        for name, value in (("statistics", known.statistics), ("shift", known.shift))
        if value is not None
    }
    return op(known.x, norm.weight, norm.bias, norm.num_groups, norm.eps, **given, **named)


def norm_and_convolution(
    ops: tuple[Callable[..., Any], Callable[..., Any]],
    known: Known,
    norm: nn.GroupNorm,
    weight: torch.Tensor,
    *,
    groups: int | None,
    **named: Any,
) -> Known:
    """A convolution behind its norm: one call where it joins the norm, two otherwise.

    Args:
        ops: bound: GroupNorm+SiLU and the convolution.
        weight: `[O, C, 3, 3]` of any dtype; used in the activation's.
        groups: as in `written`.
        named: further arguments of the convolution.
    """
    if NORM in _joined(ops[1]) and known.shift is None:
        terms = (norm.weight, norm.bias, norm.num_groups, norm.eps)
        weight = weight.to(known.x.dtype)
        return written(
            ops[1], known.x, weight, groups=groups, norm=terms, statistics=known.statistics, **named
        )
    h = normed(ops[0], known, norm)
    return written(ops[1], h, weight.to(h.dtype), groups=groups, **named)


def read_twice(
    ops: tuple[Callable[..., Any], Callable[..., Any]],
    known: Known,
    norm: nn.GroupNorm,
    weight: torch.Tensor,
    *,
    groups: int | None,
) -> tuple[Known, torch.Tensor]:
    """(`norm_and_convolution`, the activation for its second reader)."""
    if not torch.is_grad_enabled() or KEEPS not in _joined(ops[0]):
        return norm_and_convolution(ops, known, norm, weight, groups=groups), known.x
    h, x = normed(ops[0], known, norm, keep=True)
    return written(ops[1], h, weight.to(h.dtype), groups=groups), x


def takes_bias(norm: Callable[..., Any], behind: Callable[..., Any]) -> bool:
    """Whether a norm, with the convolution behind it, adds a bias that was left to it at no cost."""
    return SHIFT in _joined(norm) and NORM not in _joined(behind)


def bias_costs_a_pass(op: Callable[..., Any]) -> bool:
    """Whether a bound convolution needs a pass of its own for its bias."""
    return BIAS not in _joined(op)


def in_training(groups: int | None, side: int, adds: bool) -> int | None:
    """`groups` of the norm behind, where statistics are worth their summing; in training None where they are not.

    Args:
        side: of what is written. A norm reads an image of `ONE_PASS` pixels once in any case, and the statistics of one
            written elsewhere cost a launch.
        adds: whether the op joins more than statistics, such as a residual. A pass for these alone is the norm's own.
    """
    if torch.is_grad_enabled() and (not adds or side * side <= ONE_PASS):
        return None
    return groups


def _joined(op: Callable[..., Any]) -> frozenset[str]:
    return joined(op) & {STATISTICS, KEEPS} if torch.is_grad_enabled() else joined(op)

"""What a convolution leaves to the ops around it: who does more is compared with who does less over one stretch.

In the network a convolution stands between two norms. A contender that joins the statistics of what it writes spares
the norm behind it a read; one that joins the norm before it spares that op. Where any contender of a contest joins one
of these, all are timed over the same stretch: the norm before by the table's choice where a contender does not take it
in, and the norm behind, with the statistics where the contender gives them. An upsampling whose bias costs a pass
leaves it to that norm where it takes it. What none joins is left out: it would be the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from v2f_kernels._contract import BIAS, NORM, SHIFT, STATISTICS, joined

from bench.kernels.case import Case, Function

EPS = 1e-6
Norms = Callable[[int, int], Function]
"""(channels, side) -> the function of `group_norm_silu` that the table chooses there."""


def joinable(functions: Iterable[Function]) -> frozenset[str]:
    """What at least one of these does."""
    return frozenset[str]().union(*(joined(function) for function in functions))


def within(case: Case, function: Function, parts: frozenset[str], norms: Norms) -> Function:
    """`function` as the case calls it, over the stretch that `parts` says; itself where that is no longer.

    Args:
        parts: see `joinable`.
    """
    own = joined(function)
    before, behind = NORM in parts and case.before > 0, STATISTICS in parts and case.behind > 0
    if not (before or behind):
        return function

    upsamples = case.op == "upsample_conv3x3_folded"

    def stretch(x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        if before:
            terms, given = _terms(x.shape[1], x.dtype, x.device), _statistics(len(x), case.before, x.device)
            if NORM in own:
                named |= {"norm": (*terms, case.before, EPS), "statistics": given}
            else:
                x = norms(x.shape[1], x.shape[2])(x, *terms, case.before, EPS, statistics=given)
        if not behind:
            return function(x, *rest, **named)
        known: dict[str, torch.Tensor] = {}
        norm = None
        if upsamples and BIAS not in own:
            norm = norms(rest[0].shape[1], 2 * x.shape[2])
            if SHIFT in joined(norm):  # the bias is left to it
                weight, known["shift"] = rest
                rest = (weight,)
        if STATISTICS in own and "shift" not in known:
            y, known["statistics"] = function(x, *rest, **named, out_groups=case.behind)
        else:
            y = function(x, *rest, **named)
        terms = _terms(y.shape[1], y.dtype, y.device)
        return (norm or norms(y.shape[1], y.shape[2]))(y, *terms, case.behind, EPS, **known)

    return stretch


def asked_for_all(case: Case) -> Iterator[Case]:
    """The case with the norm and the statistics that the network may ask of a contender; nothing where it asks for
    neither."""
    if not (case.before or case.behind):
        return

    def call(function: Function, inputs: dict[str, torch.Tensor]) -> Any:
        x = inputs["x"]
        more: dict[str, Any] = {"out_groups": case.behind} if case.behind else {}
        if case.before:
            more["norm"] = (*_terms(x.shape[1], x.dtype, x.device), case.before, EPS)
        return case.call(lambda *args, **named: function(*args, **named, **more), inputs)

    yield replace(case, name=f"{case.name} with its norm and statistics", call=call)


@cache
def _terms(channels: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a norm; kept, so that a captured call finds them where they were."""
    generator = torch.Generator(device).manual_seed(channels)
    drawn = torch.randn(2, channels, generator=generator, device=device) * 0.1
    return (1 + drawn[0]).to(dtype), drawn[1].to(dtype)


@cache
def _statistics(rows: int, groups: int, device: torch.device) -> torch.Tensor:
    """Mean 0 and variance 1 of every group, float32 `[rows, groups, 2]`: what the inputs' statistics are about."""
    return torch.tensor([0.0, 1.0], device=device).expand(rows, groups, 2).contiguous()

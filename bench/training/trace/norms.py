"""The kernels of torch's norms on CUDA: moments, then numbers per channel, then the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bench.training.trace.kernels import Kernel, elementwise, layout, tiny

Tensor = torch.Tensor
Call = tuple[tuple[Any, ...], Mapping[str, Any], Any]
"""Arguments by position, by name, and what came back."""


def batch_norm(call: Call) -> list[Kernel]:
    """In eval mode torch copies the mean, computes 1 / deviation, and normalises."""
    x, weight, training, y = call[0][0], call[0][1], call[0][5], call[2][0]
    last = elementwise("batch norm", [x, *([] if weight is None else [weight])], [y], "broadcast")
    if not training:
        return [tiny("batch norm: mean and deviation of a channel", 2), last]
    return [
        elementwise("batch norm: moments", [x], [], "reduction"),
        tiny("batch norm: moments merged", 2),
        last,
    ]


def batch_norm_backward(call: Call) -> list[Kernel]:
    grad, x, training, mask = call[0][0], call[0][1], call[0][7], call[0][9]
    sums = training or mask[1] or mask[2]
    made = (
        [elementwise("batch norm backward: sums", [grad, x], [], "reduction"), tiny("batch norm backward", 2)]
        if sums
        else []
    )
    if mask[0]:
        made.append(
            elementwise(
                "batch norm backward",
                [grad, *([x] if training else [])],
                [call[2][0]],
                _broadcast(grad, call[2][0]),
            )
        )
    return made


def _broadcast(*tensors: Tensor) -> str:
    return "layout" if len({found for t in tensors if (found := layout(t))}) > 1 else "broadcast"


def group_norm(call: Call) -> list[Kernel]:
    x, y = call[0][0], call[2][0]
    return [
        elementwise("group norm: moments", [x], [], "reduction"),
        tiny("group norm: scale and shift"),
        elementwise("group norm", [x], [y], "broadcast"),
    ]


def group_norm_backward(call: Call) -> list[Kernel]:
    grad, x = call[0][:2]
    return [
        elementwise("group norm backward: sums", [grad, x], [], "reduction"),
        tiny("group norm backward: per channel", 3),
        elementwise("group norm backward", [grad, x], [call[2][0]], "broadcast"),
    ]


def layer_norm_backward(call: Call) -> list[Kernel]:
    grad, x = call[0][:2]
    return [
        elementwise("layer norm backward", [grad, x], [call[2][0]], "memory"),
        elementwise("layer norm backward: per column", [grad, x], [], "reduction"),
        tiny("layer norm backward: sums"),
    ]

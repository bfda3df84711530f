"""Launches under the compile gate of every entry of a device's table that a Triton kernel serves.

An entry `C=128 HW=56, fp16` of `tuned/<device>.json` is launched on meta tensors as a frozen network does it; one with
`gradients`, forward and backward as training does. What is compiled already for a case of the op's own `aot_cases` is
found to be the same kernel and listed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import torch

from v2f_kernels import _tuned
from v2f_kernels._shapes import ANY, parse_shape

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
GROUPS = 32
WIDTH = 768
"""Of a row of tokens in base size: it gives the number of heads to a head dimension."""


def table_cases(
    folder: str, known: Mapping[str, _tuned.Table] | None = None
) -> dict[str, Callable[[], object]]:
    """Label -> launch, of every entry that uses Triton for an op of this folder.

    Args:
        folder: of the op, e.g. `upsample_conv3x3`, which holds two ops.
        known: device -> table; the committed ones by default.
    """
    found: dict[str, Callable[[], object]] = {}
    for device, table in (_tuned.tables() if known is None else known).items():
        for op, picks in table.backends.items():
            if _tuned.op_named(op).backends.get("triton", "").split(".")[1:2] != [folder]:
                continue
            for key, pick in picks.items():
                shape, *rest = key.split(", ")
                if pick.use == "triton" and shape != ANY:
                    launches = BUILDERS[op](import_module(f"v2f_kernels.{folder}.aot_cases"))
                    way = launches[1] if rest[1:] else launches[0]
                    call = partial(way, parse_shape(op, shape), DTYPES[rest[0]])
                    found[f"table of {device}: {op} {key}"] = call
    return found


Launch = Callable[[dict[str, int], torch.dtype], object]


def _attention(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        cases._forward(dtype, _tokens(s), WIDTH // s["d"] or 1, s["d"], 0.0)

    def both(s: dict[str, int], dtype: torch.dtype) -> None:
        for launched in (cases._forward, cases._backward):
            launched(dtype, _tokens(s), WIDTH // s["d"] or 1, s["d"], 0.1)

    return forward, both


def _tokens(sizes: dict[str, int]) -> int:
    """A number of tokens that fills most of its tile, as the network's do: 25 of 32, 50 of 64."""
    return sizes["N"] * 25 // 32


def _conv3x3(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        weight = torch.empty((s["O"], s["C"], 3, 3), dtype=dtype, device="meta")
        residual = _image(s["O"], s["HW"], dtype)
        for added in (None, residual) if s["C"] == s["O"] else (None,):
            cases.gpu.run_conv3x3(
                _image(s["C"], s["HW"], dtype), weight, None, added, None, None, None, 1e-6, 0
            )

    return forward, forward  # its gradients are cuDNN's


def _image(channels: int, side: int, dtype: torch.dtype) -> torch.Tensor:
    x = torch.empty((2, channels, side, side), dtype=dtype, device="meta")
    return x.contiguous(memory_format=torch.channels_last)


def _expand(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        cases._forward(s["D"], 44, dtype, dtype)

    def both(s: dict[str, int], dtype: torch.dtype) -> None:
        for launched in (cases._forward, cases._backward):
            launched(s["D"], 24, dtype, torch.float32)

    return forward, both


def _gelu(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        cases._forward(s["K"], dtype, False)

    def both(s: dict[str, int], dtype: torch.dtype) -> None:
        cases._forward(s["K"], dtype, True)
        cases._backward(s["K"], dtype)

    return forward, both


def _norm(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        weight = torch.empty(s["C"], dtype=dtype, device="meta")
        cases.gpu.run_forward(_image(s["C"], s["HW"], dtype), weight, weight, GROUPS, cases.EPS)

    def both(s: dict[str, int], dtype: torch.dtype) -> None:
        for launched in (cases._forward, cases._backward):
            launched(s["C"], s["HW"], GROUPS, dtype)

    return forward, both


def _layer_norm(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        for residual in (False, True):
            cases._forward(s["D"], dtype, residual, dtype)

    def both(s: dict[str, int], dtype: torch.dtype) -> None:
        for residual in (False, True):
            for launched in (cases._forward, cases._backward):
                launched(s["D"], dtype, residual, torch.float32)

    return forward, both


def _tail(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        norm = torch.empty(s["C"], dtype=dtype, device="meta")
        conv_weight = torch.empty((3, s["C"], 3, 3), dtype=dtype, device="meta")
        statistics = torch.empty((2, GROUPS, 2), device="meta")
        x = _image(s["C"], s["HW"], dtype)
        cases.gpu.run_tail(
            x, norm, norm, statistics, 1e-6, conv_weight, torch.empty(3, dtype=dtype, device="meta")
        )

    return forward, forward


def _upsample(cases: Any) -> tuple[Launch, Launch]:
    def forward(s: dict[str, int], dtype: torch.dtype) -> None:
        folded = torch.empty((s["C"], s["C"], 4, 4), dtype=dtype, device="meta")
        bias = torch.empty(s["C"], dtype=dtype, device="meta")
        cases.gpu.run_upsample(_image(s["C"], s["HW"], dtype), folded, bias, 0)

    return forward, forward  # its gradients are cuDNN's


BUILDERS: Mapping[str, Callable[[Any], tuple[Launch, Launch]]] = {
    "attention": _attention,
    "conv3x3": _conv3x3,
    "expand_tokens": _expand,
    "gelu_linear": _gelu,
    "group_norm_silu": _norm,
    "layer_norm": _layer_norm,
    "to_uint8": _tail,
    "upsample_conv3x3": _upsample,
    "upsample_conv3x3_folded": _upsample,
}
"""Op -> (its `aot_cases`) -> what is launched for a shape class and dtype, in generation and in training."""

"""Trials of every op with a Triton kernel at shapes that fit no tile: odd batches, masked columns, ragged ends.

Small on purpose: each is launched under some ten configurations, and one tile that is not full shows as much as a
thousand. Inputs and judges are those of `cases.py` and `ops.py`; what those leave out (dropout, the normalising
prologue with its statistics, 8-bit convolutions, random numbers) is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from v2f_kernels._triton.launch import INTERPRETING

from bench.kernels import ops
from bench.kernels.case import Case, Tensors, normal
from bench.kernels.cases import (
    attention,
    batch_norm_prelu,
    bias_prelu,
    bias_residual,
    conv3x3,
    expand_tokens,
    gelu_linear,
    group_norm_leaky,
    group_norm_silu,
    layer_norm,
    multi_scale_stem,
    perturb,
    ssim,
    to_uint8,
    unit_distance,
    upsample,
)
from bench.kernels.tune import observed, triton_form

Results = dict[str, torch.Tensor]
PLACES = 37
PURPOSE, SEED = 3, 2**64 - 5


@dataclass(frozen=True)
class Prepared:
    """A trial on a device.

    Args:
        launch: runs the kernels on the same inputs each time.
        verdict: results -> (passed, in words).
        passed_over: keys that another trial answers for: a gradient's own forward pass.
    """

    launch: Callable[[], Results]
    verdict: Callable[[Results], tuple[bool, str]]
    passed_over: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Trial:
    """How to make a launch of an op (its folder) ready. Trials of one `group` differ in dtype and direction alone."""

    op: str
    group: str
    name: str
    prepare: Callable[[str], Prepared]


def with_dropout(case: Case) -> Case:
    return replace(
        case,
        name=f"{case.name} dropout",
        call=lambda f, t: f(t["qkv"], dropout=0.1, seed=11),
        alternatives={},
    )


def normalising(batch: int, channels: int, out: int, side: int, groups: int | None = None) -> Case:
    """A convolution with prologue, bias and residual; with `groups` and its result's statistics, then without
    gradients, as the statistics have none."""

    def make(g: torch.Generator) -> Tensors:
        return {
            "x": normal(g, batch, channels, side, side) + 1,
            "weight": normal(g, out, channels, 3, 3, scale=(9 * channels) ** -0.5),
            "bias": normal(g, out),
            "residual": normal(g, batch, out, side, side),
            "scale": normal(g, channels),
            "shift": normal(g, channels),
        }

    return Case(
        "conv3x3",
        f"B{batch} C{channels} to {out} {side}x{side} normalising{', statistics' if groups else ''}",
        make,
        lambda f, t: f(
            t["x"],
            t["weight"],
            t["bias"],
            t["residual"],
            (t["scale"], t["shift"], 8, 1e-6),
            out_groups=groups,
        ),
        0.0,
        () if groups else ("x", "weight", "bias", "residual", "scale", "shift"),
    )


def added(batch: int, channels: int, side: int, groups: int | None) -> Case:
    """Bias and residual behind a convolution; with `groups` their sum's statistics, which have no gradients."""

    def make(g: torch.Generator) -> Tensors:
        size = (batch, channels, side, side)
        return {"x": normal(g, *size), "bias": normal(g, channels), "residual": normal(g, *size)}

    return Case(
        "add_statistics",
        f"B{batch} C{channels} {side}x{side}{', statistics' if groups else ''}",
        make,
        lambda f, t: f(t["x"], t["bias"], t["residual"], groups),
        0.0,
        () if groups else ("x", "bias", "residual"),
    )


CASES: tuple[Case, ...] = (
    added(2, 48, 23, None),
    added(3, 32, 9, 8),
    attention(3, 50, 3, 48),
    with_dropout(attention(2, 25, 5, 80)),
    attention(5, 33, 2, 16),
    attention(1, 64, 3, 128),
    attention(3, 1, 1, 40),
    layer_norm(3, 192, 25),
    layer_norm(1, 1280, 7),
    gelu_linear(3, 96, 25),
    gelu_linear(1, 192, 45),
    expand_tokens(3, 192, 25),
    expand_tokens(1, 1280, 45),
    group_norm_leaky(3, 48, 7, True),
    group_norm_leaky(1, 24, 14, False),
    group_norm_leaky(1, 48, 33, True),
    group_norm_leaky(1, 104, 23, True),
    group_norm_leaky(1, 200, 23, False),
    group_norm_leaky(1, 400, 23, True),
    group_norm_leaky(1, 48, 61, False),
    group_norm_silu(3, 48, 7, 8),
    group_norm_silu(1, 32, 14, 8),
    group_norm_silu(1, 48, 29, 8),
    group_norm_silu(1, 48, 61, 8),
    batch_norm_prelu(2, 48, 23, True, False),
    batch_norm_prelu(3, 20, 9, False, True),
    batch_norm_prelu(5, 24, 7, False, False),
    bias_prelu(1, 48, 23, True),
    bias_prelu(3, 20, 9, False),
    bias_residual(1, 52, 23),
    unit_distance(5, 48, 9),
    unit_distance(3, 20, 23, weighted=True),
    conv3x3(1, 48, 23, True),
    normalising(2, 48, 32, 9),
    normalising(2, 48, 32, 9, groups=8),
    upsample(1, 48, 7, folded=False),
    upsample(3, 32, 9, folded=True),
    multi_scale_stem(1, 12, 19),
    to_uint8(1, 48, 31, 8),
    ssim(2, 23, 19),
    perturb(5),
)


FLAT = (conv3x3(1, 48, 23, True), normalising(3, 64, 48, 9, groups=8))


def trials(device: str) -> list[Trial]:
    """All of them; under the interpreter without bfloat16 and e4m3, which it gets wrong (FACTS.md)."""
    halves = (torch.float16,) if INTERPRETING else (torch.float16, torch.bfloat16)
    found = [
        Trial(
            case.op.removesuffix("_folded"),
            f"{case.op} {case.name}",
            f"{case.op} {case.name}: {_short(dtype)} {run.__name__.removeprefix('run_')}",
            partial(_prepare, case, dtype, run),
        )
        for case in CASES
        for dtype in ((*halves, torch.float32) if case.half else (torch.float32,))
        for run in (ops.run_forward, *([ops.run_gradients] if case.gradients else []))
    ]
    found += [
        Trial("philox", "philox", f"philox: {kind}", partial(_drawn, kind))
        for kind in ("bits", "uniform", "normal")
    ]
    found.append(Trial("perturb", "perturb drawn", "perturb drawn", _perturbed))
    found += [
        Trial("group_norm_silu", f"resident {case.name}", f"resident {case.name}: {_short(dtype)}",
              partial(_prepare, case, dtype, ops.run_forward, form="triton_resident"))
        for case in (group_norm_silu(3, 64, 7, 8), group_norm_silu(1, 32, 14, 8))
        for dtype in (*halves, torch.float32)
    ]  # fmt: skip
    if INTERPRETING or (torch.cuda.is_available() and torch.cuda.get_device_capability(device) == (9, 0)):
        found += [
            Trial("conv3x3_flat", f"conv3x3_flat {case.name}", f"conv3x3_flat {case.name}: {_short(dtype)}",
                  partial(_prepare, case, dtype, ops.run_forward, form="triton_flat"))
            for case in FLAT for dtype in (*halves, torch.float32)
        ]  # fmt: skip
        if not INTERPRETING:
            found += [
                Trial("conv3x3_fp8", "conv3x3_fp8", f"conv3x3_fp8: {_short(dtype)}", partial(_fp8, dtype))
                for dtype in halves
            ]
    return found


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _prepare(case: Case, dtype: torch.dtype, run: ops.Run, device: str, form: str = "triton") -> Prepared:
    inputs, function = case.inputs(ops.SEED, device, dtype), triton_form(case, form)
    forward: set[str] = set()
    if run is ops.run_gradients:
        with observed() as seen:
            ops.run_forward(case, function, inputs)
        forward = {f"{kernel}/{variant}" if variant else kernel for _, kernel, variant in seen}
    wide = torch.float64 if case.half else torch.float32  # an op of fp32 alone has no reference of more
    yardstick = ops.yardstick(case, run, inputs, wide)
    return Prepared(lambda: run(case, function, inputs), yardstick, frozenset(forward))


def _exactly(wanted: np.ndarray[Any, Any]) -> Callable[[Results], tuple[bool, str]]:
    def verdict(results: Results) -> tuple[bool, str]:
        equal = np.array_equal(results["output 0"].cpu().numpy().view(np.uint32), wanted.view(np.uint32))
        return equal, "the bits of NumPy" if equal else "other bits than NumPy's"

    return verdict


def _places(device: str) -> tuple[tuple[np.ndarray[Any, Any], ...], list[torch.Tensor]]:
    rng = np.random.default_rng(0)
    arrays = tuple(rng.integers(0, 2**32, PLACES, dtype=np.uint64).astype(np.uint32) for _ in range(2))
    return arrays, [torch.from_numpy(a).to(device) for a in arrays]


def _drawn(kind: str, device: str) -> Prepared:
    from v2f_kernels.philox import DRAW

    arrays, places = _places(device)
    draw = partial(DRAW.backend("triton"), kind, SEED, PURPOSE, *places, 515)
    wanted = DRAW.backend("reference")(kind, SEED, PURPOSE, *arrays, 515)
    return Prepared(lambda: {"output 0": draw()}, _exactly(wanted))


def _perturbed(device: str) -> Prepared:
    from v2f_kernels.perturb import DRAWN

    arrays, places = _places(device)
    rng = np.random.default_rng(1)
    vectors, sigma = (
        rng.standard_normal((PLACES, 512)).astype(np.float32),
        rng.random(PLACES).astype(np.float32),
    )
    moved = [torch.from_numpy(a).to(device) for a in (vectors, sigma)]
    wanted = DRAWN.backend("reference")(vectors, sigma, SEED, PURPOSE, *arrays)
    return Prepared(
        lambda: {"output 0": DRAWN.backend("triton")(*moved, SEED, PURPOSE, *places)}, _exactly(wanted)
    )


def _fp8(dtype: torch.dtype, device: str) -> Prepared:
    """The rule of `tests/gpu/test_gpu_fp8.py`: values between two e4m3 neighbours, and the output's own rounding."""
    from v2f_kernels.group_norm_silu.reference import group_statistics

    from bench.candidates.conv3x3_fp8 import OP, quantise_weight

    g = torch.Generator(device).manual_seed(ops.SEED)
    x, residual = (
        normal(g, 3, c, 13, 13).to(dtype).contiguous(memory_format=torch.channels_last) for c in (96, 48)
    )
    packed, scale = quantise_weight(
        normal(g, 48, 96, 3, 3, scale=(9 * 96) ** -0.5).contiguous(memory_format=torch.channels_last)
    )
    norm = (1 + normal(g, 96, scale=0.2), normal(g, 96, scale=0.2), 8, 1e-6)

    def form(backend: str) -> Results:
        y, statistics = OP.backend(backend)(x, packed, scale, norm, norm[1][:48], residual, out_groups=8)
        return {"output 0": y, "output 1": statistics}

    wanted = form("reference")["output 0"].float()

    def verdict(results: Results) -> tuple[bool, str]:
        y, statistics = results["output 0"], results["output 1"]
        off = (y.float() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
        apart = float((statistics - group_statistics(y, 8)).abs().max())
        allowed = 0.005 + torch.finfo(dtype).eps
        words = f"rms error {float(off):.1e} (allowed {allowed:.1e}), statistics {apart:.1e} (1e-4)"
        return bool(off < allowed and apart < 1e-4), words

    return Prepared(lambda: form("triton"), verdict)

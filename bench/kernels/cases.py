"""The cases of every op: inputs, visible arithmetic of FLOPs and bytes, and the torch alternatives.

FLOP = 2 x multiply-add; element-wise work is not counted. Bytes = every input read once and the output written
once, the least any implementation can move; a rate above the copy ceiling would mean that caches helped.
`real` shapes are those of base size; `small` ones suit a CPU, `tiny` ones a rehearsal.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from v2f_kernels.upsample_conv3x3.fold import fold_weights

from bench.kernels.case import (
    Case,
    Function,
    Tensors,
    compiled,
    normal,
)


def attention(batch: int, tokens: int, heads: int, depth: int) -> Case:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def through(backend: SDPBackend, t: Tensors) -> torch.Tensor:
        q, k, v = t["qkv"].permute(2, 0, 3, 1, 4)
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def written_out(t: Tensors) -> torch.Tensor:
        q, k, v = t["qkv"].permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * depth**-0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    kinds = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "math": SDPBackend.MATH,
    }
    return Case(
        "attention",
        f"B{batch} N{tokens} H{heads} d{depth}",
        lambda g: {"qkv": normal(g, batch, tokens, 3, heads, depth)},
        lambda f, t: f(t["qkv"]),
        4.0 * batch * heads * tokens * tokens * depth,
        ("qkv",),
        alternatives={
            **{f"sdpa {name}": partial(through, kind) for name, kind in kinds.items()},
            "written out": written_out,
            # Autotuning the products takes most of a minute a shape, so one shape stands for all.
            **({"compile": compiled(written_out)} if tokens == 45 else {}),
        },
    )


def layer_norm(batch: int, width: int, tokens: int = 45) -> Case:
    return Case(
        "layer_norm",
        f"B{batch} N{tokens} D{width} with residual",
        lambda g: {
            "x": normal(g, batch, tokens, width),
            "weight": 1 + normal(g, width, scale=0.1),
            "bias": normal(g, width, scale=0.1),
            "residual": normal(g, batch, tokens, width),
        },
        lambda f, t: f(t["x"], t["weight"], t["bias"], 1e-6, t["residual"]),
        0.0,
        ("x", "weight", "bias", "residual"),
    )


def gelu_linear(batch: int, width: int, tokens: int = 45) -> Case:
    return Case(
        "gelu_linear",
        f"B{batch} N{tokens} {width} to {4 * width}",
        lambda g: {
            "x": normal(g, batch, tokens, width),
            "weight": normal(g, 4 * width, width, scale=width**-0.5),
            "bias": normal(g, 4 * width, scale=0.1),
        },
        lambda f, t: f(t["x"], t["weight"], t["bias"]),
        2.0 * batch * tokens * width * 4 * width,
        ("x", "weight", "bias"),
    )


def expand_tokens(batch: int, width: int, tokens: int = 45) -> Case:
    """`tokens`: what is kept, the projected vector among them."""

    def make(g: torch.Generator) -> Tensors:
        order = torch.rand(batch, 49, generator=g, device=g.device).argsort(1)
        return {
            "feature": normal(g, batch, width),
            "weight": normal(g, 49),
            "bias": normal(g, 49),
            "masked": order.argsort(1) < 16,
            "kept": order[:, 50 - tokens :].sort(1).values,
            "position": normal(g, 50, width, scale=0.1),
            "norm_weight": 1 + normal(g, width, scale=0.1),
            "norm_bias": normal(g, width, scale=0.1),
        }

    return Case(
        "expand_tokens",
        f"B{batch} K{tokens - 1} D{width}",
        make,
        lambda f, t: f(*t.values(), 1e-6),
        0.0,
        ("feature", "weight", "bias", "position", "norm_weight", "norm_bias"),
    )


def group_norm_silu(batch: int, channels: int, side: int, groups: int = 32) -> Case:
    def stock(t: Tensors) -> torch.Tensor:
        return F.silu(F.group_norm(t["x"], groups, t["weight"], t["bias"], 1e-6))

    return Case(
        "group_norm_silu",
        f"B{batch} C{channels} {side}x{side}",
        lambda g: {
            "x": normal(g, batch, channels, side, side),
            "weight": 1 + normal(g, channels, scale=0.1),
            "bias": normal(g, channels, scale=0.1),
        },
        lambda f, t: f(t["x"], t["weight"], t["bias"], groups, 1e-6),
        0.0,
        ("x", "weight", "bias"),
        alternatives={
            "F.group_norm + F.silu": stock,
            "compile": compiled(stock),
        },
    )


def group_norm_leaky(batch: int, channels: int, side: int, stage: bool, groups: int = 8) -> Case:
    """`stage`: behind a convolution's bias and leaky ReLU; otherwise before one."""

    def make(g: torch.Generator) -> Tensors:
        made = {
            "x": normal(g, batch, channels, side, side),
            "weight": 1 + normal(g, channels, scale=0.1),
            "bias": normal(g, channels, scale=0.1),
        }
        return made | ({"shift": normal(g, channels, scale=0.1)} if stage else {})

    slopes = (0.1, 1.0) if stage else (1.0, 0.1)
    return Case(
        "group_norm_leaky",
        f"B{batch} C{channels} {side}x{side}{' behind bias and ReLU' if stage else ''}",
        make,
        lambda f, t: f(t["x"], t["weight"], t["bias"], groups, 1e-5, *slopes, t.get("shift")),
        0.0,
        ("x", "weight", "bias", *(("shift",) if stage else ())),
    )


def batch_norm_prelu(batch: int, channels: int, side: int, sloped: bool, added: bool) -> Case:
    def make(g: torch.Generator) -> Tensors:
        made = {
            "x": normal(g, batch, channels, side, side),
            "weight": 1 + normal(g, channels, scale=0.1),
            "bias": normal(g, channels, scale=0.1),
        }
        if sloped:
            made["slope"] = normal(g, channels, scale=0.3)
        return made | ({"residual": normal(g, batch, channels, side, side)} if added else {})

    def call(f: Function, t: Tensors) -> torch.Tensor:
        """Running statistics are made anew: a repeated call changes nothing that is compared."""
        mean, variance = torch.zeros_like(t["weight"]), torch.ones_like(t["weight"])
        count = torch.zeros((), dtype=torch.int64, device=mean.device)
        y: torch.Tensor = f(
            t["x"],
            t["weight"],
            t["bias"],
            mean,
            variance,
            count,
            0.1,
            1e-5,
            t.get("slope"),
            t.get("residual"),
        )
        return y

    told = f"{' PReLU' if sloped else ''}{' residual' if added else ''}"
    optional = (("slope",) if sloped else ()) + (("residual",) if added else ())
    return Case(
        "batch_norm_prelu",
        f"B{batch} C{channels} {side}x{side}{told}",
        make,
        call,
        0.0,
        ("x", "weight", "bias", *optional),
    )


def bias_prelu(batch: int, channels: int, side: int, edges: bool) -> Case:
    return Case(
        "bias_prelu",
        f"B{batch} C{channels} {side}x{side}{' edges' if edges else ''}",
        lambda g: {
            "x": normal(g, batch, channels, side, side),
            "bias": normal(g, *((4, 4) if edges else ()), channels),
            "slope": normal(g, channels, scale=0.3),
        },
        lambda f, t: f(t["x"], t["bias"], t["slope"]),
        0.0,
        ("x",),
    )


def bias_residual(batch: int, channels: int, side: int) -> Case:
    return Case(
        "bias_residual",
        f"B{batch} C{channels} {side}x{side}",
        lambda g: {
            "x": normal(g, batch, channels, side, side),
            "bias": normal(g, channels),
            "shortcut": normal(g, batch, channels, side, side),
        },
        lambda f, t: f(t["x"], t["bias"], t["shortcut"]),
        0.0,
        ("x", "shortcut"),
    )


def unit_distance(batch: int, channels: int, side: int, weighted: bool = False) -> Case:
    def make(g: torch.Generator) -> Tensors:
        made = {name: normal(g, batch, channels, side, side) for name in ("left", "right")}
        return made | ({"weight": normal(g, channels).abs()} if weighted else {})

    return Case(
        "unit_distance",
        f"B{batch} C{channels} {side}x{side}{' weighted' if weighted else ''}",
        make,
        lambda f, t: f(t["left"], t["right"], t.get("weight")),
        0.0,
        ("left",),
    )


def conv3x3(batch: int, channels: int, side: int, residual: bool, out: int | None = None) -> Case:
    """`out`: channels of the output, those of the input by default."""
    out = out or channels
    wider = f" to {out}" if out != channels else ""

    def make(g: torch.Generator) -> Tensors:
        made = {
            "x": normal(g, batch, channels, side, side),
            "weight": normal(g, out, channels, 3, 3, scale=(9 * channels) ** -0.5),
        }
        return made | ({"residual": normal(g, batch, out, side, side)} if residual else {})

    return Case(
        "conv3x3",
        f"B{batch} C{channels}{wider} {side}x{side}{' + residual' if residual else ''}",
        make,
        lambda f, t: f(t["x"], t["weight"], residual=t.get("residual")),
        2.0 * batch * channels * out * 9 * side * side,
        ("x", "weight", *(("residual",) if residual else ())),
    )


def upsample(batch: int, channels: int, side: int, folded: bool) -> Case:
    def make(g: torch.Generator) -> Tensors:
        weight = normal(g, channels, channels, 3, 3, scale=(9 * channels) ** -0.5)
        return {
            "x": normal(g, batch, channels, side, side),
            "weight": fold_weights(weight) if folded else weight,
            "bias": normal(g, channels, scale=0.1),
        }

    # Folded: four 2x2 products an input pixel, 16 taps, instead of 4 x 9.
    return Case(
        "upsample_conv3x3_folded" if folded else "upsample_conv3x3",
        f"B{batch} C{channels} {side} to {2 * side}",
        make,
        lambda f, t: f(t["x"], t["weight"], t["bias"]),
        2.0 * batch * channels * channels * (16 if folded else 36) * side * side,
        () if folded else ("x", "weight", "bias"),
    )


def to_uint8(batch: int, channels: int, side: int, groups: int = 32) -> Case:
    def call(f: Function, t: Tensors) -> Any:
        norm, conv = (t["norm_weight"], t["norm_bias"]), (t["conv_weight"], t["conv_bias"])
        return f(t["x"], *norm, groups, 1e-6, *conv)

    return Case(
        "to_uint8",
        f"B{batch} C{channels} {side}x{side}",
        lambda g: {
            "x": normal(g, batch, channels, side, side),
            "norm_weight": 1 + normal(g, channels, scale=0.1),
            "norm_bias": normal(g, channels, scale=0.1),
            "conv_weight": normal(g, 3, channels, 3, 3, scale=(9 * channels) ** -0.5),
            "conv_bias": normal(g, 3, scale=0.1),
        },
        call,
        2.0 * batch * channels * 3 * 9 * side * side,
        judge="bytes",
    )


def multi_scale_stem(batch: int, out: int, side: int) -> Case:
    """`out`: channels of all three convolutions, half of them of the smallest kernel."""
    widths = {3: out // 2, 7: out // 4, 15: out // 4}

    def make(g: torch.Generator) -> Tensors:
        made = {"x": normal(g, batch, 3, side, side)}
        for kernel, width in widths.items():
            made[f"weight{kernel}"] = normal(g, width, 3, kernel, kernel, scale=(3 * kernel**2) ** -0.5)
            made[f"bias{kernel}"] = normal(g, width, scale=0.1)
        return made

    names = ("x", *(f"{part}{kernel}" for kernel in widths for part in ("weight", "bias")))
    return Case(
        "multi_scale_stem",
        f"B{batch} C3 to {out} {side}x{side}",
        make,
        lambda f, t: f(*t.values()),
        2.0 * batch * 3 * side * side * sum(width * kernel**2 for kernel, width in widths.items()),
        names,
    )


def perturb(batch: int) -> Case:
    def plain(x: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        moved = x + sigma[:, None] * noise
        return moved * (x.norm(dim=1, keepdim=True) / moved.norm(dim=1, keepdim=True))

    return Case(
        "perturb",
        f"B{batch} D512",
        lambda g: {
            "vectors": normal(g, batch, 512),
            "sigma": torch.rand(batch, generator=g, device=g.device),
            "noise": normal(g, batch, 512),
        },
        lambda f, t: f(t["vectors"], t["sigma"], t["noise"]),
        0.0,
        ("vectors", "sigma", "noise"),
        plain=plain,
        half=False,
    )


def ssim(batch: int, height: int, width: int) -> Case:
    def make(g: torch.Generator) -> Tensors:
        left = torch.rand(batch, 3, height, width, generator=g, device=g.device)
        return {"left": left, "right": (left + normal(g, *left.shape, scale=0.1)).clamp(0, 1)}

    return Case(
        "ssim",
        f"B{batch} C3 {height}x{width}",
        make,
        lambda f, t: f(t["left"], t["right"]),
        2.0 * 44 * 3 * batch * (height - 10) * (2 * width - 10),  # four maps, two passes of eleven taps
        ("left",),
        half=False,
    )


def reject_similar(rows: int) -> Case:
    return Case(
        "reject_similar",
        f"N{rows} D512",
        lambda g: {"vectors": normal(g, rows, 512)},
        lambda f, t: f(t["vectors"], 0.1),
        512.0 * rows * rows,
        judge="exact",
        half=False,
    )


def nearest_cosine(queries: int, gallery: int) -> Case:
    return Case(
        "nearest_cosine",
        f"Q{queries} G{gallery} D512",
        lambda g: {"queries": normal(g, queries, 512), "gallery": normal(g, gallery, 512)},
        lambda f, t: f(t["queries"], t["gallery"]),
        2.0 * 512 * queries * gallery,
        judge="exact",
        half=False,
    )


def cases(size: str) -> list[Case]:
    """All cases of a size."""
    batch = {"tiny": 1, "small": 2, "real": 256}[size]
    sides = {"tiny": (7,), "small": (28,), "real": (56, 112)}[size]
    width = 64 if size == "tiny" else 768
    channels = 32 if size == "tiny" else 128
    image_batch = 64 if size == "real" else batch
    found = [
        *(attention(batch, n, 12, 64) for n in ((9,) if size == "tiny" else (45, 50, 25))),
        attention(batch, 10 if size == "tiny" else 50, 16, 48),
        layer_norm(batch, width),
        gelu_linear(batch, width),
        expand_tokens(batch, width),
        *(group_norm_silu(image_batch, channels, side) for side in sides),
        *(
            group_norm_leaky(image_batch, channels, side // 2, stage)
            for side in sides
            for stage in (True, False)
        ),
        *(
            batch_norm_prelu(image_batch, channels, side // 2, sloped, added)
            for side in sides
            for sloped, added in ((False, False), (True, False), (False, True))
        ),
        *(bias_prelu(image_batch, channels, side // 2, edges) for side in sides for edges in (False, True)),
        *(bias_residual(image_batch, channels, side // 2) for side in sides),
        *(unit_distance(image_batch, channels, side // 2) for side in sides),
        *(conv3x3(image_batch, channels, side, residual) for side in sides for residual in (False, True)),
        *(upsample(image_batch, channels, side // 2, folded) for side in sides for folded in (False, True)),
        multi_scale_stem(image_batch, channels // 2, sides[-1]),
        to_uint8(image_batch, channels, sides[-1]),
        ssim(batch, *((20, 15) if size == "tiny" else (112, 112))),
        perturb(batch * 64),
    ]
    if size != "real":  # on the host: bench/cpu/reject.py measures these at length
        found += [reject_similar(256 * batch), nearest_cosine(64 * batch, 256 * batch)]
    return found

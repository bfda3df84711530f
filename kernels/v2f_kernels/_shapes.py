"""Shape classes: what a layer knows of its shapes when it is built, and what the better backend depends on.

    shape_class("group_norm_silu", C=512, HW=7)  ->  "C=512 HW=7"
    shape_class("attention", N=50, d=48)         ->  "N<=64 d=48"

The batch is no part of it: it is the same for all layers of an engine, and the table is measured at the engine's own.
A square image is named by its side (`HW`, of the input), a row of tokens by the tile that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SHAPES: Mapping[str, tuple[str, ...]] = {
    "attention": ("N<=", "d="),  # tokens, head dimension
    "batch_norm_prelu": ("C=", "HW="),
    "bias_prelu": ("C=", "HW="),
    "bias_residual": ("C=", "HW="),
    "conv3x3": ("C=", "O=", "HW="),  # channels in, channels out, side
    "expand_tokens": ("D=",),  # width of a token
    "gelu_linear": ("K=", "M="),  # features in, features out
    "group_norm_leaky": ("C=", "HW="),
    "group_norm_silu": ("C=", "HW="),
    "layer_norm": ("D=",),
    "multi_scale_stem": ("O=", "HW="),
    "to_uint8": ("C=", "HW="),
    "unit_distance": ("C=", "HW="),
    "upsample_conv3x3": ("C=", "HW="),  # HW: before it is doubled
    "upsample_conv3x3_folded": ("C=", "HW="),
}
"""Op -> the fields of its shape class, in order. These are the ops that a table chooses a backend for."""
TRAINED = frozenset(
    {
        "batch_norm_prelu",
        "bias_prelu",
        "bias_residual",
        "group_norm_leaky",
        "multi_scale_stem",
        "unit_distance",
    }
)
"""Of them, those that no generator calls: they decide no image's bytes, so no manifest names them."""
TILES = (32, 64, 128, 256)
"""Tokens of a row are counted in tiles: 25 tokens are `N<=32`, 45 and 50 are `N<=64`."""
ANY = "*"
"""In a table: every shape that no entry names."""


def shape_class(op: str, **sizes: int) -> str:
    """The name of a shape class.

    Args:
        op: in `SHAPES`.
        sizes: the op's fields without their sign, e.g. `C=512, HW=7`; tokens are rounded up to a tile.

    Raises:
        ValueError: another op, other fields, a size below 1, or more tokens than the largest tile.
    """
    fields = _fields(op)
    if {name.rstrip("<=") for name in fields} != set(sizes):
        raise ValueError(f"{op}: expected the sizes {', '.join(fields)}, found {sizes}")
    return " ".join(f"{name}{_rounded(op, name, sizes[name.rstrip('<=')])}" for name in fields)


def parse_shape(op: str, text: str) -> dict[str, int]:
    """Field -> size of a shape class, the inverse of `shape_class`.

    Raises:
        ValueError: not a shape class of this op, in its one spelling.
    """
    fields = _fields(op)
    pattern = " ".join(re.escape(name) + r"([1-9]\d*)" for name in fields)
    found = re.fullmatch(pattern, text)
    sizes = (
        {}
        if found is None
        else dict(zip((n.rstrip("<=") for n in fields), map(int, found.groups()), strict=True))
    )
    if not sizes or shape_class(op, **sizes) != text:
        example = " ".join(f"{name}{64 if '<' in name else 128}" for name in fields)
        raise ValueError(f"expected a shape class of {op} such as {example!r}, found {text!r}")
    return sizes


def _fields(op: str) -> tuple[str, ...]:
    if op not in SHAPES:
        raise ValueError(f"no shape classes are known for the op {op!r}; known: {sorted(SHAPES)}")
    return SHAPES[op]


def _rounded(op: str, field: str, size: int) -> int:
    if size < 1:
        raise ValueError(f"{op}: {field}: expected a size of at least 1, found {size}")
    if not field.endswith("<="):
        return size
    tile = next((tile for tile in TILES if size <= tile), None)
    if tile is None:
        raise ValueError(f"{op}: {field}: expected at most {TILES[-1]}, found {size}")
    return tile

"""Recognisers in ONNX with the inputs and outputs that public ones have: means over cells, then one matrix.

Sources: insightface's torch2onnx.py (any batch, [B, 3, 112, 112]); model zoos with a fixed batch, half precision, whole
numbers and channels last (tf2onnx); AdaFace's (feature, length); mxnet's [B, D, 1, 1].
A maker takes the file's path and keywords of `network`; all compute the same features of the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

DIM = 24
MATRIX = np.random.default_rng(0).normal(size=(3 * 49, DIM)).astype(np.float32)
MATRIX /= np.linalg.norm(MATRIX, axis=1, keepdims=True)


def network(
    path: Path,
    shape: list[Any] | None = None,
    kind: int = T.FLOAT,
    *,
    axes: str = "",
    beside: str = "",
    scale: float = 1.0,
    side: int = 16,
) -> Path:
    """Writes one graph.

    Args:
        path: of the file.
        shape: of the input; `["B", 3, 112, 112]` by default, empty for none stated; channels last where its
            last entry is 3.
        kind: ONNX element type of the input. Whole numbers are normalised inside.
        axes: `four`: features [B, D, 1, 1]; `middle`: [B, 1, D].
        beside: `length` before the features, `again`: a second output of as many numbers, `map`: the cells.
        scale: of the matrix.
        side: pixels of a cell.
    """
    shape = ["B", 3, 112, 112] if shape is None else shape
    half = np.float16 if kind == T.FLOAT16 else np.float32
    out_kind = T.FLOAT16 if kind == T.FLOAT16 else T.FLOAT
    nodes, at = [], "input"
    tensors = {"matrix": (MATRIX * scale).astype(half), "last": np.array([2, 3]), "middle": np.array([1])}
    if shape and shape[-1] == 3:
        nodes.append(helper.make_node("Transpose", [at], ["first"], perm=[0, 3, 1, 2]))
        at = "first"
    if kind in (T.UINT8, T.INT32):
        tensors["grey"] = np.float32(127.5)
        nodes.append(helper.make_node("Cast", [at], ["float"], to=T.FLOAT))
        nodes.append(helper.make_node("Sub", ["float", "grey"], ["centred"]))
        nodes.append(helper.make_node("Div", ["centred", "grey"], ["divided"]))
        at = "divided"
    nodes.append(
        helper.make_node("AveragePool", [at], ["cells"], kernel_shape=[side, side], strides=[side, side])
    )
    nodes.append(helper.make_node("Flatten", ["cells"], ["flat"], axis=1))
    nodes.append(helper.make_node("MatMul", ["flat", "matrix"], ["feature"]))
    last = "feature"
    if axes:
        nodes.append(
            helper.make_node("Unsqueeze", ["feature", "last" if axes == "four" else "middle"], ["shaped"])
        )
        last = "shaped"
    outputs = [last]
    if beside == "length":
        nodes.append(helper.make_node("ReduceL2", ["feature"], ["norm"], axes=[1], keepdims=1))
        outputs = ["norm", last]
    elif beside == "again":
        nodes.append(helper.make_node("Neg", ["feature"], ["mirrored"]))
        outputs = [last, "mirrored"]
    elif beside == "map":
        outputs = ["cells", last]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("input", kind, shape or None)],
        [helper.make_tensor_value_info(name, out_kind, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


GRAPHS: Mapping[str, Mapping[str, Any]] = {
    "any batch": {},
    "a batch of one": {"shape": [1, 3, 112, 112]},
    "a batch of seven": {"shape": [7, 3, 112, 112]},
    "symbolic sides": {"shape": ["B", 3, "H", "W"]},
    "all symbolic": {"shape": ["a", "b", "c", "d"]},
    "no shape": {"shape": []},
    "channels last": {"shape": ["B", 112, 112, 3]},
    "half precision": {"kind": T.FLOAT16},
    "whole numbers": {"kind": T.UINT8},
    "whole numbers, channels last": {"kind": T.UINT8, "shape": [1, 112, 112, 3]},
    "four axes": {"axes": "four"},
    "three axes": {"axes": "middle"},
    "length first": {"beside": "length"},
    "length first, a batch of one": {"beside": "length", "shape": [1, 3, 112, 112]},
    "a map beside": {"beside": "map"},
}
"""What to call it -> keywords of `network`; all give the features of "any batch"."""

"""INT8 and FP8: explicit QuantizeLinear / DequantizeLinear pairs around the image decoder's 3x3 convolutions.

They are 59 % of the folded base generator's arithmetic. Activations get one scale a tensor, from generated faces (the
`PERCENTILE` of each batch, the largest over batches); weights one an output channel, stored already rounded. Both
are symmetric, which is what TensorRT reads. Everything else stays fp16, the first and the last convolution too:
the one reads the transformer's output, the other writes pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError
from v2f_engine.runtime.onnx import onnxruntime

LEVELS = {"int8": 127.0, "fp8": 448.0}
"""Largest magnitude of each type (E4M3)."""
PERCENTILE = 99.99
SMALLEST_SCALE = 2.0**-14
"""Smallest normal fp16."""
BATCH = 8


def quantise(path: Path, kind: str, rows: Sequence[NDArray[Any]]) -> int:
    """Rewrites an fp16 ONNX file; the number of convolutions that were quantised.

    Args:
        path: of the file, its data inside it.
        kind: `int8` or `fp8`.
        rows: inputs of the graph to calibrate on, in its order, e.g. of 32 faces.

    Raises:
        ConfigError: a graph without such convolutions.
    """
    import onnx

    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen = [node for node in model.graph.node if _is_inner(node, weights)]
    if not chosen:
        raise ConfigError(f"{path}: holds no 3x3 convolution to quantise.")
    largest = calibrate(model, sorted({node.input[0] for node in chosen}), rows)
    scales = {name: max(value / LEVELS[kind], SMALLEST_SCALE) for name, value in largest.items()}
    before: dict[str, list[Any]] = {}
    pairs: dict[str, str] = {}
    for node in chosen:
        added = before.setdefault(node.output[0], [])
        if node.input[0] not in pairs:
            pairs[node.input[0]] = _pair(model.graph, added, node.input[0], scales[node.input[0]], kind)
        node.input[0] = pairs[node.input[0]]
        node.input[1] = _rounded_weight(model.graph, added, weights[node.input[1]], kind)
    nodes = [made for node in model.graph.node for made in (*before.get(node.output[0], ()), node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for entry in model.metadata_props:
        if entry.key == "v2f.precision":
            entry.value = kind
    onnx.save(model, path)
    return len(chosen)


def _is_inner(node: Any, weights: dict[str, Any]) -> bool:
    """A 3x3 convolution between two activations of the decoder: not from `z` channels, not to three."""
    if node.op_type != "Conv" or node.input[1] not in weights:
        return False
    out, _, *kernel = weights[node.input[1]].dims
    return kernel == [3, 3] and out != 3 and len(node.input) == 2  # conv_in and conv_out alone have a bias


def calibrate(model: Any, names: Sequence[str], rows: Sequence[NDArray[Any]]) -> dict[str, float]:
    """Tensor -> the magnitude that `PERCENTILE` of its values stay below, the largest over batches."""
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, None) for name in names
    )
    ort = onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(watched.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    found = dict.fromkeys(names, 0.0)
    for start in range(0, len(rows[0]), BATCH):
        feeds = {name: part[start : start + BATCH] for name, part in zip(inputs, rows, strict=True)}
        for name, values in zip(names, session.run(list(names), feeds), strict=True):
            found[name] = max(
                found[name], float(np.percentile(np.abs(values.astype(np.float32)), PERCENTILE))
            )
    return found


def _pair(graph: Any, added: list[Any], name: str, scale: float, kind: str) -> str:
    """Rounds an activation and back; the name of the result."""
    import onnx

    _constant(graph, f"{name}.scale", np.array(scale, np.float16))
    _constant(graph, f"{name}.zero", _typed(np.array(0.0), kind))
    ends = [name, f"{name}.scale", f"{name}.zero"]
    added.append(onnx.helper.make_node("QuantizeLinear", ends, [f"{name}.q"], f"{name}.quantise"))
    ends = [f"{name}.q", *ends[1:]]
    added.append(onnx.helper.make_node("DequantizeLinear", ends, [f"{name}.dq"], f"{name}.dequantise"))
    return f"{name}.dq"


def _rounded_weight(graph: Any, added: list[Any], tensor: Any, kind: str) -> str:
    """Stores a weight `[O, C, 3, 3]` rounded, one scale an output channel; the name of what undoes it."""
    import onnx

    weight = onnx.numpy_helper.to_array(tensor).astype(np.float64)
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.maximum(largest / LEVELS[kind], SMALLEST_SCALE).astype(np.float16)
    name = tensor.name
    _constant(graph, f"{name}.q", _typed(weight / scale.astype(np.float64)[:, None, None, None], kind))
    _constant(graph, f"{name}.scale", scale)
    _constant(graph, f"{name}.zero", _typed(np.zeros(len(scale)), kind))
    ends = [f"{name}.q", f"{name}.scale", f"{name}.zero"]
    added.append(
        onnx.helper.make_node("DequantizeLinear", ends, [f"{name}.dq"], f"{name}.dequantise", axis=0)
    )
    return f"{name}.dq"


def _typed(values: NDArray[np.float64], kind: str) -> NDArray[Any]:
    """Clipped and rounded to the type."""
    if kind == "int8":
        return np.clip(np.rint(values), -127, 127).astype(np.int8)
    import ml_dtypes

    return np.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn)


def _constant(graph: Any, name: str, values: NDArray[Any]) -> None:
    import onnx

    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))

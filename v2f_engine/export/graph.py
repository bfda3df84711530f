"""The frozen network as a graph: what is traced, how, and what the file says about itself.

Two parts can be exported. `generator` is all of it, `(vectors, noise, n_masked) -> uint8 images`; `decoder` is
the image decoder alone, `grid -> uint8 images`, 73 % of the work. Weights and activations have one type and
the graph is strongly typed; inputs stay fp32, and the last three channels are widened to fp32 before they are
rounded, as in every other runner. Rows are masked by comparison, top-k, gather and scatter: every shape but
the batch is static.

Opset 20 writes GroupNorm as Reshape and InstanceNormalization, opset 21 as one GroupNormalization: TensorRT
users report either to be faster (github.com/pytorch/TensorRT/issues/3648), so both are offered.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from v2f_kernels._extras import install

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError, MissingDependency
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.image_decoder import NORM_EPS, ImageDecoder, Upsample
from v2f_engine.models.vec2face import GRID, Vec2Face
from v2f_engine.models.weights import DTYPES
from v2f_engine.runtime.artefact import PARTS

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

OPSETS = (20, 21)
MAX_BATCH = 65_536
"""Upper end of the dynamic batch in the trace; nothing is compiled for it."""


class DecoderGraph(nn.Module):
    """`grid` float32 `[B, z, 7, 7]` -> uint8 `[B, 112, 112, 3]`."""

    inputs = ("grid",)

    def __init__(self, frozen: Vec2Face) -> None:
        super().__init__()
        self.decoder: ImageDecoder = frozen.im_decoder
        self.z_channels = frozen.config.z_channels
        self.dtype = frozen.im_decoder.conv_in.weight.dtype

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(rows, self.z_channels, GRID, GRID),)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return image_bytes(self.decoder, grid.to(self.dtype))


class GeneratorGraph(nn.Module):
    """vectors float32 `[B, 512]`, noise float32 `[B, 49]`, n_masked int64 `[B]` -> uint8 `[B, 112, 112, 3]`."""

    inputs = ("vectors", "noise", "n_masked")

    def __init__(self, frozen: Vec2Face, n_dropped: int) -> None:
        super().__init__()
        self.network = frozen
        self.n_dropped = n_dropped

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        size = self.network.config.vector_dim
        return torch.zeros(rows, size), torch.rand(rows, GRID * GRID), torch.full((rows,), 9)

    def forward(self, vectors: torch.Tensor, noise: torch.Tensor, n_masked: torch.Tensor) -> torch.Tensor:
        grid = self.network.grid(vectors, noise, n_masked, self.n_dropped)[0]
        return image_bytes(self.network.im_decoder, grid)


def image_bytes(decoder: ImageDecoder, grid: torch.Tensor) -> torch.Tensor:
    """What `ImageDecoder.bytes` computes, with the cast to uint8 last: TensorRT has that type at the ends only."""
    group_norm_silu = decoder.ops[0]
    norm, conv = decoder.norm_out, decoder.conv_out
    x = group_norm_silu(decoder.trunk(grid), norm.weight, norm.bias, decoder.groups, NORM_EPS)
    bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(3)
    image = F.conv2d(x, conv.weight, padding=1).float() + bias.float()[:, None, None]
    finite = torch.where(torch.isfinite(image), image, -1.0)
    levels = torch.round((finite.clamp(-1.0, 1.0) + 1.0) * 127.5)
    return levels.permute(0, 2, 3, 1).to(torch.uint8)


def part_of(model: Vec2Face, part: str, precision: str, n_dropped: int) -> GeneratorGraph | DecoderGraph:
    """The module that is traced: frozen, folded, bound to plain torch, in one type, on the CPU."""
    one_of("part", part, PARTS)
    dtype = DTYPES[one_of("precision", precision, DTYPES)]
    # TensorRT-RTX 1.7 cannot build a transposed convolution in bf16 (Myelin: "Could not infer output types for
    # operation: deconv"), which the folded upsampling is; nearest and 3x3 it can.
    unfolded = (Upsample,) if dtype is torch.bfloat16 else ()
    frozen = freeze(model, device="cpu", dtype=dtype, unfolded=unfolded)
    bind_ops(frozen, {})
    made = DecoderGraph(frozen) if part == "decoder" else GeneratorGraph(frozen, n_dropped)
    return made.eval()


def require_exporter() -> None:
    """Raises MissingDependency where torch lacks what it exports with."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f"Export needs onnx and onnxscript: {install('onnx')}.") from error


def trace(graph: GeneratorGraph | DecoderGraph, opset: int) -> ONNXProgram:
    """The ONNX program of a part, with a dynamic batch called `batch`.

    Raises:
        ConfigError: an opset that is not offered, or a trace in which the batch came out fixed.
        MissingDependency: onnx or onnxscript is not installed.
    """
    if opset not in OPSETS:
        raise ConfigError(
            f"opset {opset} is not offered: 20 (InstanceNormalization) or 21 (GroupNormalization)."
        )
    require_exporter()
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with torch.no_grad(), _quietly():
        program = torch.onnx.export(
            graph,
            graph.example(2),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=tuple({0: batch} for _ in graph.inputs),
            input_names=list(graph.inputs),
            output_names=["images"],
        )
    if program is None:
        raise ConfigError("torch.onnx.export returned no program.")
    fixed = [
        value.name
        for value in program.model.graph.inputs
        if value.shape is None or isinstance(value.shape[0], int)
    ]
    if fixed:
        raise ConfigError(f"The trace fixed the batch of {fixed}: an op in the network specialises on it.")
    return program


def describe(program: ONNXProgram, metadata: dict[str, Any]) -> None:
    """Writes `metadata` into the graph, one `v2f.<key>` each, values as JSON."""
    program.model.producer_name = "v2f_engine"
    program.model.graph.name = f"v2f {metadata['part']}"
    for key, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        program.model.metadata_props[f"v2f.{key}"] = text


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter prints its steps and warns of packages that are not needed; errors still raise."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)

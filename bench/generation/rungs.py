"""The rungs of generation, and how each is built and judged: by the published algorithm in strict fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.candidates import enlist
from bench.generation.published import published_forward
from v2f_engine.backends import Choice, op_named
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

enlist()  # rungs 5 to 9 and 17 ask for kernels that no table chooses
N_MASKED, N_DROPPED = 16, 5
GREY = 1.0
"""Mean grey levels a rung may be off; fp16 with random weights was estimated at 0.2."""
DECODER = ("group_norm_silu",)
TRANSFORMER = ("attention", "layer_norm", "expand_tokens", "gelu_linear")
BASELINE = "1 published style, eager fp32"
LAST = (*DECODER, *TRANSFORMER, "to_uint8")
JOINED = (("conv3x3", "torch_joined"), ("upsample_conv3x3_folded", "torch_joined"), ("gelu_linear", "torch"))
"""At every shape, where the table may choose by shape; GELU behind cuBLAS, as it chose on an H200."""


@dataclass(frozen=True)
class Rung:
    """One step.

    Args:
        name: with its number.
        fused: ops that run as Triton kernels where the op lists one; all others are plain torch.
        folded: whether the exact folds are made.
        graph: whether a CUDA graph runs it.
        chosen: take `backends.choose`'s own table instead of `fused`.
        compiled: `torch.compile`, mode max-autotune (with its own CUDA graphs), over the whole network.
        others: (op, backend) that run instead at every shape.
    """

    name: str
    fused: tuple[str, ...] = ()
    folded: bool = False
    graph: bool = False
    chosen: bool = False
    compiled: bool = False
    others: tuple[tuple[str, str], ...] = ()

    @property
    def needs_gpu(self) -> bool:
        return bool(self.fused) or self.graph


RUNGS = (
    Rung("2 no gradients, half precision, channels-last"),
    Rung("3 + fused GroupNorm and SiLU", DECODER),
    Rung("4 + exact folds", DECODER, True),
    Rung("4b the folds alone", (), True),
    Rung("5 + attention and transformer kernels", (*DECODER, *TRANSFORMER), True),
    Rung("6 + uint8 tail", (*DECODER, *TRANSFORMER, "to_uint8"), True),
    Rung("7 + CUDA graph", (*DECODER, *TRANSFORMER, "to_uint8"), True, True),
    Rung("8 what backends.choose takes, CUDA graph", (), True, True, True),
    Rung("9 rung 7 + our 3x3 convolutions", (*DECODER, *TRANSFORMER, "to_uint8", "conv3x3"), True, True),
    Rung(
        "10 rung 7 + our upsampling convolutions",
        (*DECODER, *TRANSFORMER, "to_uint8", "upsample_conv3x3_folded"),
        True,
        True,
    ),
    Rung("15 rung 7 + residuals, biases, moments in one pass behind cuDNN", LAST, True, True, others=JOINED),
    Rung("16 rung 15, residuals inside cuDNN's graphs", LAST, True, True, others=(*JOINED, ("conv3x3", "cudnn"))),
    Rung("17 rung 15, convolutions over rows with shared borders", LAST, True, True,
         others=(*JOINED, ("conv3x3", "triton_flat"))),
)  # fmt: skip
COMPILED = (
    Rung("13 the folds, whole network under torch.compile max-autotune", (), True, compiled=True),
    Rung(
        "14 rung 6, whole network under torch.compile max-autotune",
        (*DECODER, *TRANSFORMER, "to_uint8"),
        True,
        compiled=True,
    ),
)
"""Rungs of a section of their own (`python -m bench.gpu --only compiled`): autotuning takes minutes."""
COMPILE_MODE: dict[str, Any] = {"mode": "max-autotune"}
TRACED_ONLY: dict[str, Any] = {"backend": "eager", "fullgraph": True}
"""On a CPU: that the whole network becomes one graph is what a CPU can show."""


def network(model: str, seed: int = 0) -> Vec2Face:
    """A named size with random weights (layers cost the same whatever they hold), or `mini` as embedded."""
    if model == "mini":
        from v2f_engine.models.weights import load_generator

        return load_generator("mini").model
    made = Vec2Face(getattr(Vec2FaceConfig, model)())
    made.initialise(torch.Generator().manual_seed(seed))
    return made.eval()


def table_of(rung: Rung, base: Choice) -> dict[str, str]:
    """op -> backend of a rung."""
    if rung.chosen:
        return dict(base.backends)
    fused = {
        op: "triton" if op in rung.fused and "triton" in op_named(op).contenders else "torch"
        for op in base.backends
    }
    return {**fused, **dict(rung.others)}


@contextmanager
def strict_fp32() -> Iterator[None]:
    """No TF32 inside, whatever the defaults are."""
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept


@dataclass(frozen=True)
class Batch:
    """Inputs of one call, on the host and on the device."""

    host: tuple[np.ndarray, np.ndarray, np.ndarray]
    device: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @classmethod
    def draw(cls, rows: int, device: str) -> Batch:
        generator = np.random.default_rng(0)
        host = (
            generator.standard_normal((rows, 512), dtype=np.float32),
            generator.random((rows, 49), dtype=np.float32),
            np.full(rows, N_MASKED, np.int64),
        )
        vectors, noise, n_masked = (torch.from_numpy(x).to(device) for x in host)
        return cls(host, (vectors, noise, n_masked))


def published(model: Vec2Face, batch: Batch, part: int = 64) -> torch.Tensor:
    """uint8 on the device, by the published algorithm, `part` rows at a time: with autograd on, fp32
    activations of 256 images would not fit an 80 GB card."""
    made = []
    for first in range(0, len(batch.device[0]), part):
        vectors, noise, _ = (t[first : first + part] for t in batch.device)
        images = published_forward(model, vectors, noise, N_MASKED, N_DROPPED)
        scaled = ((images.clamp(-1, 1) + 1) * 127.5).detach()
        made.append(scaled.permute(0, 2, 3, 1).round().to(torch.uint8))
    return torch.cat(made)


def oracle(model: Vec2Face, batch: Batch) -> torch.Tensor:
    """int16 images by the published algorithm in strict fp32."""
    with strict_fp32(), torch.no_grad():
        return published(model, batch).to(torch.int16)


def build(rung: Rung, model: Vec2Face, base: Choice, rows: int) -> tuple[Any, Callable[[], torch.Tensor]]:
    """(runner, call on the device's own inputs -> uint8 on the device) of a rung."""
    from v2f_engine.runtime.cuda_graph import CudaGraphRunner
    from v2f_engine.runtime.eager import EagerRunner

    choice = (  # the chosen one goes by shape as well
        base if rung.chosen else Choice(base.device, base.precision, table_of(rung, base), base.reasons)
    )
    frozen = (
        freeze(model, device=choice.device, dtype=choice.dtype) if rung.folded else _unfolded(model, choice)
    )
    bind_ops(frozen, choice)
    if rung.graph:
        graph = CudaGraphRunner(frozen, choice, n_dropped=N_DROPPED, batch_size=rows)
        return graph, graph.replay
    inputs = Batch.draw(rows, base.device).device
    vectors = inputs[0].to(choice.dtype)

    @torch.inference_mode()
    def call() -> torch.Tensor:
        return frozen.decode(vectors, inputs[1], inputs[2], N_DROPPED)

    eager = EagerRunner(frozen, choice, n_dropped=N_DROPPED, batch_size=rows)
    if rung.compiled:
        mode = COMPILE_MODE if base.device.startswith("cuda") else TRACED_ONLY
        decode = torch.compile(frozen.decode, dynamic=False, **mode)
        frozen.decode = decode  # type: ignore[method-assign]
    return eager, call


def _unfolded(model: Vec2Face, choice: Choice) -> Vec2Face:
    copied = Vec2Face(model.config)
    copied.load_state_dict(model.state_dict())
    copied.eval().requires_grad_(False)
    return copied.to(device=choice.device, dtype=choice.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def grey_check(made: torch.Tensor, expected: torch.Tensor) -> tuple[bool, str]:
    """Whether images are within `GREY` on average, and not all one grey (a check that cannot fail)."""
    off = (made.to(torch.int16) - expected).abs().float()
    spread = float(expected.float().std())
    mean = float(off.mean())
    words = f"mean {mean:.3f}, max {int(off.max())} grey levels off; spread of the images {spread:.1f}"
    return mean <= GREY and spread > 2 * GREY, words

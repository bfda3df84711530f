"""The ladder: from the published way to the CUDA graph, one change a rung, end to end on the same weights.

    python -m bench.generation.ladder --device cuda                base size, batch 256
    python -m bench.generation.ladder --device cpu --model mini --batch 4

Each rung's images are held against the published algorithm in strict fp32 (no TF32): the mean difference may be
one grey level. A rung that fails is shown as failed, without a ratio. `device only` ends with bytes on the device;
`bytes on the host` adds perturbation, masks and the copy; `null writer` is `write_dataset` into nowhere, so
encoding as well.
A rung that cannot run on a device is listed with the reason, not replaced by another.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import protocol
from bench.generation.published import published_forward
from bench.gpu import plots
from v2f_engine.backends import Choice, choose, op_named
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

N_MASKED, N_DROPPED = 16, 5
GREY = 1.0
"""Mean grey levels a rung may be off; fp16 with random weights was estimated at 0.2."""
DECODER = ("group_norm_silu",)
TRANSFORMER = ("attention", "layer_norm", "expand_tokens", "gelu_linear")
BASELINE = "1 published style, eager fp32"
SECTION = "ladder, device only"


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
    """

    name: str
    fused: tuple[str, ...] = ()
    folded: bool = False
    graph: bool = False
    chosen: bool = False
    compiled: bool = False

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
)


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
    return {
        op: "triton" if op in rung.fused and "triton" in op_named(op).backends else "torch"
        for op in base.backends
    }


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


def null_writer_seconds(runner: Any, images: int) -> float:
    """Wall seconds to make, encode and write `images` into nowhere."""
    import tempfile

    from v2f_engine.data.encode import Encoder
    from v2f_engine.data.plan import Plan
    from v2f_engine.data.write import write_dataset
    from v2f_engine.models.mask_schedule import MASK_SCHEDULES
    from v2f_engine.pipeline import Engine

    engine = Engine(None, runner, MASK_SCHEDULES["generate"])  # type: ignore[arg-type]
    vectors = np.random.default_rng(1).standard_normal((max(1, images // 50), 512), dtype=np.float32)
    per_id = min(images, 50)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_dataset(
            Path(folder) / "null",
            {"bench": "ladder"},
            Plan.of(len(vectors), per_id, None),
            lambda ids: engine.images(vectors, per_id, batch_size=runner.batch_size, select=ids),
            format="null",
            encoder=Encoder(),
        )
        return time.perf_counter() - start


def run_rung(
    rung: Rung | None,
    model: Vec2Face,
    base: Choice,
    batch: Batch,
    expected: torch.Tensor,
    *,
    rounds: int,
    budget_s: float,
) -> tuple[protocol.Row, Any]:
    """(the row of one rung, its runner); the published way, which has no runner, for `None`.

    Args:
        model: the network in fp32; moved to the device for the published way.
        expected: `oracle` of the same batch, on the device.

    Raises:
        whatever building or running the rung raises: the caller decides what that ends.
    """
    runner: Any = None
    if rung is None:
        baseline = model.to(base.device).requires_grad_(True)
        made, call = published(baseline, batch), lambda: published(baseline, batch)
    else:
        runner, call = build(rung, model, base, len(batch.host[0]))
        made = torch.from_numpy(runner(*batch.host)).to(base.device)
    passed, words = grey_check(made, expected)
    timing = wall(call, base.device, rounds, budget_s) if passed else None
    rows = len(batch.host[0])
    row = protocol.Row(
        SECTION, f"batch {rows}", rung.name if rung else BASELINE, passed, words, timing,
        items=rows, inputs=protocol.hash_of(batch.device), baseline=BASELINE,
    )  # fmt: skip
    return row, runner


def climb(
    model: Vec2Face,
    *,
    device: str,
    precision: str,
    rows: int,
    rounds: int,
    budget_s: float,
    written: int = 0,
    rungs: Sequence[Rung] = RUNGS,
) -> tuple[list[protocol.Row], list[str]]:
    """Rows of the ladder and what could not run, all in this process; `bench.gpu` gives each rung one of its own.

    Its first rung is the published way, whatever `rungs` are. `written`: images through the host, 0 to leave that out.
    """
    base = choose(device, precision)
    notes: list[str] = []
    result: list[protocol.Row] = []
    batch = Batch.draw(rows, base.device)
    expected = oracle(model.to(base.device), batch)
    deadline = time.perf_counter() + budget_s
    for rung in (None, *rungs):
        if rung and rung.needs_gpu and not base.device.startswith("cuda"):
            notes.append(f"rung {rung.name}: needs a GPU")
            continue
        if rung and time.perf_counter() > deadline:
            notes.append(f"rung {rung.name}: out of time")
            continue
        share = max(1.0, (deadline - time.perf_counter()) / (len(rungs) + 1))
        try:
            row, runner = run_rung(rung, model, base, batch, expected, rounds=rounds, budget_s=share)
            result.append(row)
            if rung and written and row.passed and (rung.chosen or not rung.needs_gpu):
                found, missing = with_host(rung, runner, written, row.check, row.inputs)
                result += found
                notes += missing
            del runner
            if base.device.startswith("cuda"):
                torch.cuda.empty_cache()
        except Exception as error:  # a rung that breaks must not end the climb
            words = f"{type(error).__name__}: {str(error)[:200]}"
            result.append(
                protocol.Row(SECTION, f"batch {rows}", rung.name if rung else BASELINE, False, words)
            )
    return result, notes


def host_seconds(runner: Any, images: int) -> float:
    """Wall seconds to draw inputs for `images`, make them and bring their bytes to the host."""
    from v2f_engine.models.mask_schedule import MASK_SCHEDULES
    from v2f_engine.pipeline import Engine

    engine = Engine(None, runner, MASK_SCHEDULES["generate"])  # type: ignore[arg-type]
    vectors = np.random.default_rng(1).standard_normal((max(1, images // 50), 512), dtype=np.float32)
    start = time.perf_counter()
    for _ in engine.images(vectors, min(images, 50), batch_size=runner.batch_size):
        pass
    return time.perf_counter() - start


def with_host(
    rung: Rung, runner: Any, images: int, words: str, digest: str
) -> tuple[list[protocol.Row], list[str]]:
    """Rows with the host in the loop; encoding only where the encoder is installed, else a note.

    Args:
        words: of the check that this runner has passed.
        digest: of the inputs of that check.
    """
    kinds: dict[str, Callable[[Any, int], float]] = {"ladder, bytes on the host": host_seconds}
    notes = []
    if find_spec("simplejpeg"):
        kinds["ladder, null writer"] = null_writer_seconds
    else:
        notes.append(f"null writer, rung {rung.name}: simplejpeg is not installed here")
    rows = []
    for section, seconds_of in kinds.items():
        timing = protocol.Timing.of([seconds_of(runner, images)], 1, "perf_counter")
        rows.append(
            protocol.Row(
                section, f"{images} images", rung.name, True, words, timing, items=images, inputs=digest
            )
        )
    return rows, notes


def wall(call: Callable[[], object], device: str, rounds: int, budget_s: float) -> protocol.Timing:
    """Whole networks: wall time of a synchronised call, warmed up. The working set exceeds every cache."""

    def once() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first, start = once(), time.perf_counter()
    seconds = []
    for _ in range(rounds):
        seconds.append(once())
        if time.perf_counter() - start + first > budget_s:
            break
    return protocol.Timing.of(seconds, 1, "perf_counter")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("base", "large", "huge", "mini"), default="base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch", type=int, default=0, help="rows; 256 on a GPU and 8 on a CPU by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds")
    parser.add_argument("--write", type=int, default=0, help="images through the null writer; 0 for none")
    parser.add_argument("--out", type=Path, help="folder for ladder.json, ladder.md and pictures")
    options = parser.parse_args(arguments)
    report = protocol.Report(f"The ladder, {options.model}", protocol.environment(options.device))
    report.rows, report.notes = climb(
        network(options.model),
        device=options.device,
        precision=options.precision,
        rows=options.batch or (256 if options.device.startswith("cuda") else 8),
        rounds=options.rounds,
        budget_s=options.budget,
        written=options.write,
    )
    print(report.as_markdown())
    if options.out:
        report.write(options.out, "ladder")
        plots.draw(options.out / "ladder.json")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""What two AVX-512 cores make of the base size: the published way, torch's operators, ours, ours by images in parallel.

    python -m bench.cpu.base_size --json bench/results/cpu/base_size.json
    OMP_NUM_THREADS=1 python -m bench.cpu.base_size --threads 1 --by processor      where others run too

Protocol. Base size, random weights, batch 16, one process, weights and inputs the same for all; two warm-up calls each,
then interleaved rounds A B C A B C; medians of seconds a call, by wall clock or by processor time of all threads, which
other processes on the machine disturb less. The bar: our fp32 images within one grey level of the published way's.
Before: what one core multiplies, in fp32, bf16 and int8, by the best call of a library at a good shape; its ceiling
is operations a cycle times the clock: 32 (one 512-bit FMA), 64 (`vdpbf16ps`) and 128 (`vpdpbusd`).

The contenders: `published` (`bench/generation/published.py`, fp32); `torch fp32` and `torch bf16` (frozen and folded,
every op by torch, weights as they are); `+ winograd` (`v2f_kernels._winograd`); `+ laid out` (linear with weights
laid out once: `ours`); `ours, parallel`, the batch in as many parts as threads, each by one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from v2f_kernels import _linear

from bench.generation.compare import network
from bench.generation.published import published_forward
from bench.machine import environment
from v2f_engine import backends
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.vec2face import Vec2Face

N_MASKED, N_DROPPED = 16, 5
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


@contextmanager
def as_they_are() -> Iterator[None]:
    """Linear layers with weights as torch has them."""
    known, _linear._library = _linear._library, lambda: False  # type: ignore[assignment]
    try:
        yield
    finally:
        _linear._library = known


def ceilings() -> dict[str, float]:
    """Operations a second of one core (10^9), the best of seven calls of each."""
    torch.set_num_threads(1)
    calls: dict[str, tuple[float, Callable[[], object]]] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x = torch.randn(4, 256, 56, 56).to(dtype).contiguous(memory_format=torch.channels_last)
        w = torch.randn(256, 256, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
        a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
        calls[f"{name} convolution"] = (
            2 * 4 * 256 * 256 * 9 * 56**2,
            partial(F.conv2d, x, w, padding=1),
        )
        calls[f"{name} product"] = 2 * 1024**3, partial(F.linear, a, b)
    left = torch.randint(-127, 127, (1024, 1024), dtype=torch.int8)
    calls["int8 product"] = 2 * 1024**3, lambda: torch._int_mm(left, left)
    found = {}
    with torch.inference_mode():
        for name, (operations, call) in calls.items():
            call()
            found[name] = operations / min(_timed(call, time.process_time) for _ in range(7)) / 1e9
    return found


def _timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def contenders(batch: int, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> a call that gives uint8 `[batch, 112, 112, 3]`."""
    model, draw = network("base"), np.random.default_rng(0)
    vectors = torch.from_numpy(draw.standard_normal((batch, 512), dtype=np.float32))
    noise = torch.from_numpy(draw.random((batch, 49), dtype=np.float32))
    counts = torch.full((batch,), N_MASKED)

    def frozen(precision: str, choice: backends.Choice | None) -> Vec2Face:
        made = freeze(model, dtype=backends.choose("cpu", precision).dtype)
        bind_ops(made, choice or {})
        return made

    def decoded(net: Vec2Face, rows: slice = slice(None)) -> np.ndarray:
        with torch.inference_mode():
            dtype = net.decoder_pos_embed_learned.dtype
            images: np.ndarray = net.decode(
                vectors[rows].to(dtype), noise[rows], counts[rows], N_DROPPED
            ).numpy()
        return images

    exact, torchs = frozen("fp32", None), frozen("bf16", None)
    ours = frozen("bf16", backends.choose("cpu", "bf16"))
    baseline = model.requires_grad_(True)

    def published() -> np.ndarray:
        images = published_forward(baseline, vectors, noise, N_MASKED, N_DROPPED)
        scaled = (images.clamp(-1, 1) + 1) * 127.5
        return scaled.detach().permute(0, 2, 3, 1).round().to(torch.uint8).numpy()

    def plain(net: Vec2Face) -> np.ndarray:
        with as_they_are():
            return decoded(net)

    part = -(-batch // threads)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def parallel() -> np.ndarray:
        parts = pool.map(lambda first: decoded(ours, slice(first, first + part)), range(0, batch, part))
        return np.concatenate(list(parts))

    return {
        "published": published,
        "torch fp32": lambda: decoded(exact),
        "torch bf16": lambda: plain(torchs),
        "+ winograd": lambda: plain(ours),
        "+ laid out (ours)": lambda: decoded(ours),
        "ours, parallel": parallel,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--by", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    clock = CLOCKS[options.by]
    found: dict[str, Any] = {"one core, 10^9 operations/s": ceilings()}
    calls = contenders(options.batch, options.threads)
    images: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for measured in range(-2, options.rounds):
        for name, call in calls.items():
            torch.set_num_threads(options.threads)
            start = clock()
            made = call()
            if measured >= 0:
                seconds[name].append(clock() - start)
            images[name] = made.astype(int)
    exact = images["published"]
    off = {name: np.abs(made - exact) for name, made in images.items()}
    if off["torch fp32"].max() > 1:
        print(f"our fp32 images are {off['torch fp32'].max()} grey levels off: no timing")
        return 1
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, rate in found["one core, 10^9 operations/s"].items():
        print(f"  one core, {name:17} {rate:7.0f} 10^9 operations/s")
    print(
        f"base, batch {options.batch}, {options.threads} threads, {options.rounds} rounds, by {options.by} time"
    )
    rows = []
    for name, median in medians.items():
        row = {
            "contender": name,
            "seconds": median,
            "images_per_second": options.batch / median,
            "times_published": medians["published"] / median,
            "mean_grey_levels_off": float(off[name].mean()),
            "rounds": seconds[name],
        }
        rows.append(row)
        print(
            f"  {name:18} {median:7.3f} s {row['images_per_second']:7.2f} images/s {row['times_published']:5.2f}x"
            f"  {row['mean_grey_levels_off']:.3f} grey levels off"
        )
    found |= {"machine": environment("cpu"), **{k: str(v) for k, v in vars(options).items()}, "rows": rows}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Generation, ours against the published way, on the same weights in one process.

    python -m bench.generation.compare --model base --device cpu
    python -m bench.generation.compare --model mini --device cpu --rounds 5

Protocol. Random data, never zeros; weights of a published size are random, since its layers cost the same
whatever they hold. One warm-up call each, then interleaved rounds A B A B ...; the table gives medians of
images/s over rounds of one batch. `published-style` is `bench/generation/published.py`; its call ends, as the
published scripts do, in a clipped uint8 array on the host. `ours` is `Engine`'s runner: frozen, folded,
channels-last, the precision `v2f env` shows, bytes through the fused tail. A speed-up is printed only if
our fp32 images agree with the baseline's within one grey level.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.generation.published import published_forward
from bench.machine import environment
from v2f_engine import backends
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import load_generator
from v2f_engine.runtime.eager import EagerRunner

SIZES = ("base", "large", "huge")


def network(name: str) -> Vec2Face:
    if name not in SIZES:
        return load_generator(name).model
    model = Vec2Face(getattr(Vec2FaceConfig, name)())
    model.initialise(torch.Generator().manual_seed(0))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="base", help="base, large, huge (random weights), mini or a path")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = network(options.model)
    n_masked, n_dropped = 16, 5
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((options.batch, 512), dtype=np.float32)
    noise = generator.random((options.batch, 49), dtype=np.float32)
    counts = np.full(options.batch, n_masked, np.int64)

    def runner(precision: str) -> EagerRunner:
        choice = backends.choose(options.device, precision)
        frozen = freeze(model, device=choice.device, dtype=choice.dtype)
        bind_ops(frozen, choice)
        return EagerRunner(frozen, choice, n_dropped=n_dropped, batch_size=options.batch)

    baseline_model = model.to(options.device).requires_grad_(True)

    def published() -> np.ndarray:
        images = published_forward(
            baseline_model,
            torch.from_numpy(vectors).to(options.device),
            torch.from_numpy(noise).to(options.device),
            n_masked,
            n_dropped,
        )
        scaled = (images.clamp(-1, 1) + 1) * 127.5
        return scaled.detach().permute(0, 2, 3, 1).round().to(torch.uint8).cpu().numpy()

    ours = runner(options.precision)
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "published-style fp32": published,
        f"ours {ours.choice.precision}": lambda: ours(vectors, noise, counts),
    }
    if ours.choice.precision != "fp32":
        exact = runner("fp32")
        contenders["ours fp32"] = lambda: exact(vectors, noise, counts)
    images = {name: call().astype(int) for name, call in contenders.items()}
    reference = images["published-style fp32"]
    errors = {name: int(np.abs(made - reference).max()) for name, made in images.items()}
    if errors["ours fp32"] > 1:
        sys.exit(
            f"our fp32 images differ from the baseline's by {errors['ours fp32']} grey levels: no timing."
        )

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    rates = {name: options.batch / statistics.median(values) for name, values in times.items()}
    base = rates["published-style fp32"]
    found = environment(options.device)
    print(
        f"{options.model}, {options.device}, batch {options.batch}, {options.threads} threads, "
        f"{options.rounds} interleaved rounds, torch {torch.__version__}, commit {found['commit']}"
    )
    for name, rate in rates.items():
        mean = float(np.abs(images[name] - reference).mean())
        print(
            f"  {name:22} {rate:8.2f} images/s  {rate / base:5.2f}x  "
            f"grey levels off: mean {mean:.3f}, max {errors[name]}"
        )
    if options.json:
        record = {
            "model": options.model,
            "device": options.device,
            "machine": found,
            "batch": options.batch,
            "rounds": options.rounds,
            "images_per_second": rates,
            "speed_up": {name: rate / base for name, rate in rates.items()},
            "max_grey_levels": errors,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

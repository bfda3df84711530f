"""Rejection on a GPU: equality with the CPU first, then the times, then what the vendor's product needs.

    python bench/reject_gpu.py                          1 million vectors (and 10 million where they fit)
    python bench/reject_gpu.py --sizes 100000 --rounds 5

Goals on an H200: 1 M identities in 1.5 s, 10 M in 100 s, twice the speed of `cupy.matmul` in fp16 followed by a
maximum, and the reference's answer on 200,000. Vectors are Gaussian, 512-d, on the device before the clock starts;
a time is one whole call, between CUDA events. The fp16 baseline compares every candidate with all earlier ones in
tiles of 8,192 x 65,536 and reduces each row; it decides nothing exactly and is not asked to. If the check fails,
nothing is timed. Results: bench/results/<gpu>/reject.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT)]

import torch  # noqa: E402
from v2f_kernels.reject_similar import OP  # noqa: E402

T, D = 0.3, 512
ROWS, COLUMNS = 8192, 65536
GOALS_S = {1_000_000: 1.5, 10_000_000: 100.0}


def vectors_of(n: int, d: int = D) -> torch.Tensor:
    return torch.randn(n, d, device="cuda", generator=torch.Generator("cuda").manual_seed(2026))


def check(n: int = 200_000, d: int = 192) -> tuple[bool, str]:
    """192 dimensions, where about half of 200,000 candidates are kept at 0.3: both outcomes are common."""
    vectors = vectors_of(n, d)
    found = OP.backend("cupy")(vectors, T).cpu()
    try:
        judge = OP.backend("native")
    except ImportError:
        judge = OP.backend("reference")
    expected = torch.as_tensor(judge(vectors.cpu(), T))
    again = OP.backend("cupy")(vectors, T, block=1000).cpu()
    equal = torch.equal(found, expected) and torch.equal(again, expected)
    return equal, f"{len(expected):,} of {n:,} kept; {'equal' if equal else 'NOT equal'} to the CPU"


def seconds(call: Callable[[], Any], rounds: int) -> list[float]:
    """Of each round, after one warm-up; by CUDA events on torch's stream."""
    call()
    times = []
    for _ in range(rounds):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        call()
        after.record()
        torch.cuda.synchronize()
        times.append(before.elapsed_time(after) / 1e3)
    return times


def fp16_product(units: torch.Tensor) -> int:
    """Largest cosine of every row with all earlier ones, by cupy.matmul; returns how many stay below T."""
    import cupy

    stream = torch.cuda.current_stream().cuda_stream
    with cupy.cuda.ExternalStream(stream):
        rows, kept = cupy.from_dlpack(units), 0
        for first in range(0, len(rows), ROWS):
            block = rows[first : first + ROWS]
            largest = cupy.triu(cupy.matmul(block, block.T), 1).max(axis=0)
            for start in range(0, first, COLUMNS):
                product = cupy.matmul(block, rows[start : min(first, start + COLUMNS)].T)
                largest = cupy.maximum(largest, product.max(axis=1))
            kept += int((largest < T).sum())
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check-only", type=int, metavar="N", help="check N vectors and time nothing")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no NVIDIA GPU on this machine")
        return 2
    equal, words = check(options.check_only or 200_000)
    print(words, flush=True)
    if not equal or options.check_only:
        return int(not equal)
    card, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    found = []
    for n in options.sizes:
        need = n * D * (4 + 1) + n * 64 + (2 << 30)
        if need > memory:
            print(f"{n:,}: needs {need / 2**30:.0f} GiB, the card has {memory / 2**30:.0f}")
            continue
        vectors = vectors_of(n)
        times = seconds(lambda v=vectors: OP.backend("cupy")(v, T), options.rounds)
        row = {"n": n, "contender": "cupy int8", "seconds": times, "median": statistics.median(times)}
        row["tera_operations_per_s"] = n * (n - 1) * D / row["median"] / 1e12
        row["goal_s"] = GOALS_S.get(n)
        found.append(row)
        if n <= 1_000_000:
            units = torch.nn.functional.normalize(vectors).half()
            times = seconds(lambda u=units: fp16_product(u), max(1, options.rounds - 1))
            median = statistics.median(times)
            found.append({"n": n, "contender": "cupy.matmul fp16 + max", "seconds": times, "median": median})
            row["faster_by"] = median / row["median"]
        print(json.dumps(row), flush=True)
        del vectors
    folder = ROOT / "bench" / "results" / card.replace(" ", "-").lower()
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "card": card,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "check": words,
        "rows": found,
    }
    (folder / "reject.json").write_text(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Rejection on a GPU: equality with the CPU first, then the times, then what the vendor's product needs.

    python -m bench.gpu.reject                          1 million vectors (and 10 million where they fit)
    python -m bench.gpu.reject --sizes 100000 --rounds 5
    python -m bench.gpu.reject --check-only 3000        judges and times nothing: what compute-sanitizer watches

Goals on an H200: 1 M identities in 1.5 s, 10 M in 100 s, twice the speed of `cupy.matmul` in fp16 followed by a
maximum, and the CPU's answer. Vectors are Gaussian, 512-d, on the device before the clock starts; a time is one whole
call, between CUDA events, after a short call that compiles. The fp16 baseline compares every candidate with all earlier
ones in tiles of 8,192 x 65,536 and reduces each row; it decides nothing exactly and is not asked to. If the check
fails, nothing is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from v2f_kernels._cuda.launch import adopt
from v2f_kernels.reject_similar import OP

from bench import machine, protocol

SECTION = "rejection"
T, D = 0.3, 512
CHECKED_D = 192
"""Here about half of 200,000 candidates are kept at 0.3: both outcomes are common."""
CHECKED, CHECKED_SLOWLY = 65_536, 8_192
"""Rows of the check: with the compiled CPU kernel (`tests/gpu` has 200,000: 24 s), and with the plain reference."""
TILE_ROWS, TILE_COLUMNS = 8192, 65536
COMPARED = 1_000_000
"""The fp16 baseline runs up to so many vectors."""
OURS, BASELINE = "cupy int8", "cupy.matmul fp16 + max"


def vectors_of(n: int, d: int = D) -> torch.Tensor:
    return torch.randn(n, d, device="cuda", generator=torch.Generator("cuda").manual_seed(2026))


def cpu_judge() -> tuple[Callable[..., Any], int]:
    """(the best CPU backend, how many rows it can judge in seconds)."""
    try:
        return OP.backend("native"), CHECKED
    except ImportError:
        return OP.backend("reference"), CHECKED_SLOWLY


def check(n: int | None = None) -> tuple[bool, str]:
    """(equal to the CPU, in words), for two block sizes."""
    judge, most = cpu_judge()
    vectors = vectors_of(n or most, CHECKED_D)
    found = OP.backend("cupy")(vectors, T).cpu()
    again = OP.backend("cupy")(vectors, T, block=1000).cpu()
    expected = torch.as_tensor(judge(vectors.cpu(), T))
    equal = torch.equal(found, expected) and torch.equal(again, expected)
    return (
        equal,
        f"{len(expected):,} of {len(vectors):,} kept; {'equal' if equal else 'NOT equal'} to the CPU",
    )


def seconds(call: Callable[[], Any], rounds: int) -> list[float]:
    """Of each call; by CUDA events on torch's stream."""
    times = []
    for _ in range(rounds):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        before.record()
        call()
        after.record()
        torch.cuda.synchronize()
        times.append(before.elapsed_time(after) / 1e3)
    return times


def fp16_product(units: torch.Tensor) -> int:
    """Largest cosine of every row with all earlier ones, by cupy.matmul; returns how many stay below T."""
    import cupy

    stream = torch.cuda.current_stream()
    with adopt(stream, torch.cuda.current_device()):
        rows, kept = cupy.from_dlpack(units), 0
        for first in range(0, len(rows), TILE_ROWS):
            block = rows[first : first + TILE_ROWS]
            largest = cupy.triu(cupy.matmul(block, block.T), 1).max(axis=0)
            for start in range(0, first, TILE_COLUMNS):
                product = cupy.matmul(block, rows[start : min(first, start + TILE_COLUMNS)].T)
                largest = cupy.maximum(largest, product.max(axis=1))
            kept += int((largest < T).sum())
    return kept


def needed_bytes(n: int) -> int:
    """Device memory of one call: fp32 and int8 rows, what is known of each, and 2 GiB of tiles."""
    return n * D * (4 + 1) + n * 64 + (2 << 30)


def measure(n: int, rounds: int, words: str) -> Iterator[protocol.Row]:
    """Rows for `n` vectors, ours first and handed on before the baseline runs.

    Args:
        words: of the check that has passed.

    Raises:
        MemoryError: the card is too small.
    """
    memory = torch.cuda.get_device_properties(0).total_memory
    if needed_bytes(n) > memory:
        raise MemoryError(
            f"{n:,} vectors: expected {needed_bytes(n) / 2**30:.0f} GiB of device memory, the card has"
            f" {memory / 2**30:.0f}; give fewer with --sizes"
        )
    vectors = vectors_of(n)
    ours = OP.backend("cupy")
    ours(vectors[:4096], T)
    times = seconds(lambda: ours(vectors, T), rounds)
    timing = protocol.Timing.of(times, 1, "events")
    rate = n * (n - 1) * D / timing.p50 / 1e12
    case = f"N{n} D{D} t{T}"
    yield protocol.Row(
        SECTION, case, OURS, True, f"{words}; {rate:.0f} int8 TOP/s", timing, items=n,
        inputs=protocol.hash_of([vectors]), baseline=BASELINE,
    )  # fmt: skip
    if n <= COMPARED:
        units = torch.nn.functional.normalize(vectors).half()
        fp16_product(units[: 2 * TILE_ROWS])
        times = seconds(lambda: fp16_product(units), max(1, rounds - 1))
        yield protocol.Row(
            SECTION, case, BASELINE, True, "decides nothing exactly", protocol.Timing.of(times, 1, "events"),
            items=n,
        )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check-only", type=int, metavar="N", help="check N vectors and time nothing")
    parser.add_argument("--out", type=Path, help="folder for reject.json and reject.md")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no NVIDIA GPU on this machine")
        return 2
    equal, words = check(options.check_only)
    print(words, flush=True)
    if not equal or options.check_only:
        return int(not equal)
    report = protocol.Report("Rejection", machine.environment("cuda:0"))
    for n in options.sizes:
        for row in measure(n, options.rounds, words):
            report.rows.append(row)
            print(row.case, row.contender, row.timing, row.check, flush=True)
    if options.out:
        report.write(options.out, "reject")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

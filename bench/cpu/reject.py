"""Greedy rejection on the CPU: `native` against blocked NumPy/BLAS and faiss-cpu, doing the same job.

    python -m bench.cpu.reject                       100,000 vectors, threshold 0.3, all contenders, 3 rounds
    python -m bench.cpu.reject --n 20000 --rounds 2  the size for continuous integration
    python -m bench.cpu.reject --n 300000 --only native --rounds 1 --progress

Protocol. Every trial is a process of its own: it draws the same N Gaussian vectors (512-d, float32, fixed
seed), warms up on 2,048 of them, then times one rejection of all N (wall and CPU seconds) and reports the
peak memory of the process. Rounds are interleaved (A B C, A B C, ...), the table shows medians. All
contenders get the same number of threads. Each answers with the hash of its kept indices; a speed-up is
printed only if all agree.

The NumPy contenders hold unit vectors in one preallocated buffer and multiply block by block into a
preallocated result (2,048 x 2,048, the fastest of 20 block shapes tried). `numpy` leaves threads to the
BLAS; `numpy-pool` runs one-thread products in a thread pool, so that the maxima are parallel too. Both
decide in float32 alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bench import ROOT

D = 512
SIZE = 2048
Report = Callable[[int, int, int], None]


def vectors_of(n: int) -> Any:
    return np.random.default_rng(2026).standard_normal((n, D), dtype=np.float32)


def among(units: Any, max_cosine: float) -> Any:
    """Greedy inside one block, float32."""
    similar = np.triu(units @ units.T >= max_cosine, 1)
    alive = np.ones(len(units), bool)
    for i in np.flatnonzero(similar.any(axis=1)):
        if alive[i]:
            alive &= ~similar[i]
    return np.flatnonzero(alive)


def greedy(vectors: Any, max_cosine: float, report: Report, largest: Any, add: Any) -> Any:
    """The loop that all baselines share: `largest(block)` is the largest cosine with what was kept."""
    accepted, n_kept = [], 0
    for first in range(0, len(vectors), SIZE):
        block = vectors[first : first + SIZE]
        units = block / np.linalg.norm(block, axis=1, keepdims=True)
        alive = np.flatnonzero(largest(units) < max_cosine) if n_kept else np.arange(len(units))
        alive = alive[among(units[alive], max_cosine)]
        add(units[alive])
        n_kept += len(alive)
        accepted.append(first + alive)
        report(first + len(block), len(vectors), n_kept)
    return np.concatenate(accepted)


def with_native(vectors: Any, max_cosine: float, threads: int, report: Report) -> Any:
    from v2f_kernels.reject_similar import OP

    return OP.backend("native")(vectors, max_cosine, threads=threads, progress=report)


def with_numpy(vectors: Any, max_cosine: float, threads: int, report: Report, pool: bool = False) -> Any:
    kept, state = np.empty_like(vectors), {"n": 0}
    products = [np.empty((SIZE, SIZE), np.float32) for _ in range(threads if pool else 1)]
    workers = ThreadPoolExecutor(len(products))

    def part(job: tuple[int, Any]) -> Any:
        worker, units = job
        best = np.full(len(units), -1, np.float32)
        for start in range(worker * SIZE, state["n"], len(products) * SIZE):
            others = kept[start : min(start + SIZE, state["n"])]
            out = products[worker][: len(units), : len(others)]
            np.maximum(best, np.matmul(units, others.T, out=out).max(axis=1), out=best)
        return best

    def largest(units: Any) -> Any:
        return np.max(list(workers.map(part, ((w, units) for w in range(len(products))))), axis=0)

    def add(units: Any) -> None:
        kept[state["n"] : state["n"] + len(units)] = units
        state["n"] += len(units)

    return greedy(vectors, max_cosine, report, largest, add)


def with_pool(vectors: Any, max_cosine: float, threads: int, report: Report) -> Any:
    return with_numpy(vectors, max_cosine, threads, report, pool=True)


def with_faiss(vectors: Any, max_cosine: float, threads: int, report: Report) -> Any:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(D)
    return greedy(vectors, max_cosine, report, lambda units: index.search(units, 1)[0][:, 0], index.add)


CONTENDERS = {"native": with_native, "numpy": with_numpy, "numpy-pool": with_pool, "faiss": with_faiss}


def trial(name: str, n: int, max_cosine: float, threads: int, progress: bool) -> dict[str, Any]:
    """One measurement, in this process."""

    def report(done: int, total: int, n_kept: int) -> None:
        if progress:
            rate = done / (time.perf_counter() - wall)
            print(f"\r{done:>9,} of {total:,}  kept {n_kept:,}  {rate:,.0f}/s ", end="", file=sys.stderr)

    vectors = vectors_of(n)
    wall = time.perf_counter()
    CONTENDERS[name](vectors[:2048], max_cosine, threads, lambda *_: None)
    wall, cpu = time.perf_counter(), time.process_time()
    kept = CONTENDERS[name](vectors, max_cosine, threads, report)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if progress:
        print(file=sys.stderr)
    return {
        "contender": name,
        "kept": len(kept),
        "sha256": hashlib.sha256(np.asarray(kept, "<i8").tobytes()).hexdigest(),
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_child(name: str, options: argparse.Namespace) -> dict[str, Any]:
    blas = "1" if name == "numpy-pool" else str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": blas, "OPENBLAS_NUM_THREADS": blas}
    command = [sys.executable, "-m", "bench.cpu.reject", "--trial", name, "--n", str(options.n)]
    command += ["--threads", str(options.threads), "--max-cosine", str(options.max_cosine)]
    command += ["--progress"] if options.progress else []
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return dict(json.loads(done.stdout))


def machine() -> dict[str, Any]:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    versions = {}
    for name in ("numpy", "faiss-cpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        **versions,
    }


def table(trials: list[dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """Markdown rows of medians; the speed-up column is empty when the answers differ."""
    names = list(dict.fromkeys(t["contender"] for t in trials))
    of = {n: [t for t in trials if t["contender"] == n] for n in names}
    median = {n: {k: statistics.median(t[k] for t in of[n]) for k in ("wall_s", "cpu_s")} for n in names}
    agree = len({t["sha256"] for t in trials}) == 1
    lines = [
        "| contender | wall s | CPU s | GMAC/s (CPU) | native faster by (wall / CPU) | peak MiB | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for n in names:
        m, kept = median[n], of[n][0]["kept"]
        factor = ""
        if agree and n != "native" and "native" in median:
            factor = " / ".join(f"{m[k] / median['native'][k]:.2f}" for k in ("wall_s", "cpu_s"))
        rate = kept * (kept - 1) / 2 * D / m["cpu_s"] / 1e9
        peak = max(t["peak_mib"] for t in of[n])
        lines.append(
            f"| {n} | {m['wall_s']:.2f} | {m['cpu_s']:.2f} | {rate:.0f} | {factor} | {peak:.0f} | {kept:,} |"
        )
    lines.append("")
    lines.append("kept indices: " + ("identical" if agree else "DIFFERENT, so no speed-up is given"))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--max-cosine", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--json", type=Path, help="write conditions and all trials here")
    parser.add_argument("--trial", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trial:
        print(
            json.dumps(trial(options.trial, options.n, options.max_cosine, options.threads, options.progress))
        )
        return 0
    conditions = machine()
    names = [n for n in options.only if n != "faiss" or conditions["faiss-cpu"] != "not installed"]
    print(f"{options.n:,} vectors, {D}-d, cosine < {options.max_cosine}, {options.threads} threads, ", end="")
    print(f"medians of {options.rounds} interleaved rounds; {conditions}", flush=True)
    trials = []
    for _ in range(options.rounds):
        for name in names:
            trials.append(in_child(name, options))
            print(
                f"  {name:>10}: {trials[-1]['wall_s']:8.2f} s wall {trials[-1]['cpu_s']:8.2f} s CPU",
                flush=True,
            )
    print("\n".join(table(trials, options)))
    if options.json:
        result = {"conditions": conditions, "n": options.n, "threads": options.threads, "trials": trials}
        options.json.write_text(json.dumps(result, indent=1))
    return int(len({t["sha256"] for t in trials}) != 1)


if __name__ == "__main__":
    raise SystemExit(main())

"""Leakage: the streamed native search against a blocked NumPy one, in one run, and a part of a million by a million.

    python -m bench.cpu.leakage                                    # 100,000 x 100,000, both, one core
    python -m bench.cpu.leakage --million --part 65536             # 65,536 of 1 M queries against 1 M, and the estimate
    python -m bench.cpu.leakage --talk                             # 1/50 of 5 M vectors against 206,000 centres, pairs

Vectors are N(0, 1) in 512 dimensions, with planted leaks; both contenders must find every one and agree, else no
ratio is printed. The NumPy search is what people write: unit rows, a float32 BLAS product of blocks, argmax.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import RESULTS
from v2f_engine.evaluate.leakage import PUBLISHED, measure_leakage

DIMENSION = 512
LEAKS = 200
NUMPY_BLOCK = 4096

Progress = Callable[[int, int], None]


def vectors(rows: int, seed: int) -> NDArray[np.float32]:
    return np.random.Generator(np.random.Philox(key=seed)).standard_normal((rows, DIMENSION), np.float32)


def plant(
    synthetic: NDArray[np.float32], gallery: NDArray[np.float32], cosine: float = 0.75, key: int = 9
) -> set[tuple[int, int]]:
    """Makes LEAKS synthetic rows leak a gallery row each; returns the pairs."""
    generator = np.random.Generator(np.random.Philox(key=key))
    rows = generator.choice(len(synthetic), LEAKS, replace=False)
    whom = generator.choice(len(gallery), LEAKS, replace=False)
    for row, other in zip(rows.tolist(), whom.tolist(), strict=True):
        centre = gallery[other] / np.linalg.norm(gallery[other])
        noise = generator.standard_normal(DIMENSION).astype(np.float32)
        noise -= (noise @ centre) * centre
        synthetic[row] = 22 * (cosine * centre + np.sqrt(1 - cosine**2) * noise / np.linalg.norm(noise))
    return set(zip(rows.tolist(), whom.tolist(), strict=True))


def blocked_numpy(
    synthetic: NDArray[np.float32], gallery: NDArray[np.float32], progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Top-1 cosine by blocks of a float32 product."""
    x = synthetic / np.linalg.norm(synthetic, axis=1, keepdims=True)
    y = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    cosine, index = np.full(len(x), -2, np.float32), np.zeros(len(x), np.int64)
    for start in range(0, len(x), NUMPY_BLOCK):
        part = slice(start, start + NUMPY_BLOCK)
        for first in range(0, len(y), NUMPY_BLOCK):
            product = x[part] @ y[first : first + NUMPY_BLOCK].T
            where = product.argmax(axis=1)
            best = product[np.arange(len(product)), where]
            better = best > cosine[part]
            cosine[part][better], index[part][better] = best[better], first + where[better]
        progress(min(len(x), start + NUMPY_BLOCK), len(x))
    return cosine, index


class Anonymous:
    """Peak of the process's own memory (RssAnon, KiB), sampled in a thread: pages of mapped files do not count."""

    def __enter__(self) -> Anonymous:
        self.before = self.peak = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def teller(what: str) -> Progress:
    started, said = time.perf_counter(), -1.0

    def progress(done: int, total: int) -> None:
        nonlocal said
        now = time.perf_counter()
        if now - said > 10 or done == total:
            said = now
            left = (now - started) * (total - done) / max(1, done)
            print(
                f"  {what}: {done:,} of {total:,}, {now - started:.0f} s, {left:.0f} s left", file=sys.stderr
            )

    return progress


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, seconds of wall clock, seconds of CPU)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def compare(rows: int) -> dict[str, Any]:
    """Both searches on the same vectors, each checked against the other."""
    synthetic, gallery = vectors(rows, 1), vectors(rows, 2)
    planted = plant(synthetic, gallery)
    theirs, numpy_wall, numpy_cpu = timed(lambda: blocked_numpy(synthetic, gallery, teller("blocked NumPy")))
    ours, wall, cpu = timed(
        lambda: measure_leakage(
            synthetic, gallery, fmr=None, worst=LEAKS, block=32_768, progress=teller("native, streamed")
        )
    )
    found = {(row, other) for row, other, _ in ours.worst}
    agree = bool(np.abs(ours.cosine - theirs[0]).max() < 1e-5)
    right = found == planted and agree
    record = {
        "rows": [rows, rows],
        "planted": LEAKS,
        "found": len(found & planted),
        "cosines_agree": agree,
        "numpy": {"wall_s": numpy_wall, "cpu_s": numpy_cpu},
        "native": {"wall_s": wall, "cpu_s": cpu},
        "ratio_cpu": numpy_cpu / cpu if right else None,
        "ratio_wall": numpy_wall / wall if right else None,
    }
    print(f"{rows:,} x {rows:,}: planted {LEAKS}, found {record['found']}, cosines agree: {agree}")
    print(f"  blocked NumPy  {numpy_wall:7.1f} s wall  {numpy_cpu:7.1f} s CPU")
    print(f"  native         {wall:7.1f} s wall  {cpu:7.1f} s CPU")
    if right:
        print(f"  {numpy_cpu / cpu:.2f} times as fast in CPU time, {numpy_wall / wall:.2f} in wall time")
    return record


def million(part: int, folder: Path, rows: int) -> dict[str, Any]:
    """`part` of `rows` queries against a memory-mapped gallery of `rows`, and what the whole would take."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gallery.npy"
    if not path.exists():
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, (rows, DIMENSION))
        for start in range(0, rows, 50_000):
            mapped[start : start + 50_000] = vectors(min(50_000, rows - start), 1000 + start)
        mapped.flush()
        del mapped
    gallery = np.load(path, mmap_mode="r")
    synthetic = vectors(part, 3)
    planted = plant(synthetic, np.asarray(gallery[: 4 * LEAKS * 100]))
    with Anonymous() as memory:
        ours, wall, cpu = timed(
            lambda: measure_leakage(synthetic, gallery, fmr=None, worst=LEAKS, progress=teller("1 M gallery"))
        )
    found = len({(row, other) for row, other, _ in ours.worst} & planted)
    record = {
        "queries": part,
        "gallery": rows,
        "planted": LEAKS,
        "found": found,
        "wall_s": wall,
        "cpu_s": cpu,
        "estimate_of_all_cpu_s": cpu * rows / part,
        "queries_MiB": synthetic.nbytes / 2**20,
        "anonymous_before_MiB": memory.before / 1024,
        "anonymous_peak_MiB": memory.peak / 1024,
    }
    print(f"{part:,} x {rows:,}: planted {LEAKS}, found {found}; {wall:.1f} s wall, {cpu:.1f} s CPU")
    print(f"  all {rows:,} queries at this rate: {cpu * rows / part / 60:.1f} minutes of one core")
    own = f"{memory.before / 1024:.0f} MiB before, {memory.peak / 1024:.0f} MiB at most"
    print(f"  memory of its own: {own}; the gallery's 2 GB are pages of its file")
    return record


def talk(rows: int, gallery_rows: int, sample: int = 300) -> dict[str, Any]:
    """1/50 of the talk's table: pairs above 0.5 and 0.7, those of all leaking and of `sample` other rows in float64."""
    synthetic, gallery = vectors(rows, 1), vectors(gallery_rows, 2)
    near = plant(synthetic, gallery, 0.5)  # at the threshold, within float32's rounding of it
    kept = {row: synthetic[row].copy() for row, _ in near}
    far = plant(synthetic, gallery, 0.75, key=10)
    before = os.getloadavg()[0]
    ours, wall, cpu = timed(
        lambda: measure_leakage(synthetic, gallery, fmr=None, block=32_768, progress=teller("5 M / 50"))
    )
    chosen = np.unique([*kept, *(row for row, _ in far), *np.linspace(0, rows - 1, sample).astype(int)])
    unit = gallery / np.linalg.norm(gallery.astype(np.float64), axis=1, keepdims=True)
    exact = np.zeros(2, np.int64)
    top = np.empty(len(chosen))
    for start in range(0, len(chosen), 64):
        x = synthetic[chosen[start : start + 64]].astype(np.float64)
        cosines = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ unit.T
        exact += [int((cosines > threshold).sum()) for threshold in PUBLISHED]
        top[start : start + 64] = cosines.max(axis=1)
    others = int((np.delete(ours.cosine, chosen) > PUBLISHED[0]).sum())
    counted = [above.pairs.count for above in ours.above if above.pairs is not None]
    equal = counted == exact.tolist() and not others and np.abs(top - ours.cosine[chosen]).max() < 1e-12
    record = {
        "rows": [rows, gallery_rows],
        "pairs": counted,
        "pairs_in_float64": exact.tolist(),
        "rows_in_float64": len(chosen),
        "decided_in_float64": ours.decided,
        "equal": bool(equal),
        "rows_above": [above.count for above in ours.above],
        "share_of_pairs": [above.pairs.share for above in ours.above if above.pairs is not None],
        "share_of_rows": [above.share for above in ours.above],
        "wall_s": wall,
        "cpu_s": cpu,
        "pair_wall_s": ours.pair_seconds,
        "load": [before, os.getloadavg()[0]],
        "estimate_of_5M_cpu_s": cpu * 5_000_000 / rows,
    }
    print(
        f"{rows:,} x {gallery_rows:,}: pairs above 0.5 and 0.7 {counted}, in float64 {exact.tolist()}, equal: {equal}"
    )
    print(
        f"  {ours.decided} pairs lay within float32's rounding of a threshold; rows above {record['rows_above']}"
    )
    print(
        f"  {wall:.1f} s wall, {cpu:.1f} s CPU ({ours.pair_seconds:.1f} s wall of them for pairs), load {before:.1f}"
    )
    print(f"  5 M vectors at this rate: {cpu * 5_000_000 / rows / 3600:.2f} hours of one core")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--talk", action="store_true")
    parser.add_argument("--part", type=int, default=65_536)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/leakage"))
    parser.add_argument("--out", type=Path, default=RESULTS / "cpu/leakage.json")
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    record["protocol"] = __doc__
    if options.talk:
        record["talk"] = talk(options.rows, 206_000)
    elif options.million:
        record["million"] = million(options.part, options.folder, options.gallery)
    else:
        record["compare"] = compare(options.rows)
    from bench.machine import environment  # torch is not loaded while memory is measured

    record["machine"] = environment("cpu")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

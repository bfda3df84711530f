"""The host's path without a device: how near generation comes to the rate of JPEG encoding alone.

    OMP_NUM_THREADS=1 python -m bench.cpu.host_path
    OMP_NUM_THREADS=1 python -m bench.cpu.host_path --images 12800 --rounds 15 --json bench/results/cpu/host_path.json

Protocol. A runner that answers at once (256 finished faces of `mini`, always the same) stands in for the device, so
that whatever else a run does is all there is: identities' vectors perturbed, masks drawn, hand-over, encoding (JPEG
95, 4:2:0), order, writing. It is compared with the same pool of encoding threads on the same batches and nothing
else. Both in one process, interleaved A B C, A B C, ...; reported are medians over the rounds: images/s of wall
time, and processor microseconds an image of all threads together. The first round warms up and does not count. The
share is given by both: on a machine busy with other work, processor time is the steadier one.

Prediction, written before the first measurement: JPEG takes 41 us an image, the compiled perturbation 2, masks 1.2,
the writer and Python about 1.5; so `null` is at 41 / 45.7 = 90 % of encoding alone, and `webdataset`, which has to
hash, at 41 / 55 = 75 %. With perturbation in NumPy (13 us) `null` would be at 72 %.

Measured (`bench/results/cpu/host_path.json`: two cores at a load of nine): `null` 89.0 %, by processor time 88.6;
`webdataset` 59.5 and 63.2 %. Other runs of `null` by processor time: 91.2 % at a load of five, 84.8 at nine; before, at
ad7a1a4, 66.4 and 60.1 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import machine
from v2f_engine.batch import ImageBatch
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.assembly_line import BATCHES_AHEAD
from v2f_engine.data.writing.encode import Encoder, collect, submit
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.options import ImageOptions
from v2f_engine.pipeline import Engine
from v2f_engine.runtime import Inputs

BATCH = 256
PER_ID = 50
FACES = 32
"""Different faces in the batch: enough that JPEG's time is that of faces, few enough to make on a CPU."""


@dataclass(frozen=True)
class Instant:
    """A runner of the engine's protocol whose images are there before they are asked for."""

    images: NDArray[np.uint8]
    n_dropped: int = MASK_SCHEDULES["generate"].n_dropped
    batch_size: int = BATCH

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        return self.images[: len(vectors)]

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        for inputs in batches:
            yield self(*inputs)

    def describe(self) -> dict[str, Any]:
        return {"runner": "instant", "batch_size": self.batch_size}


def faces() -> NDArray[np.uint8]:
    """uint8 `[256, 112, 112, 3]`: 32 faces of `mini`, repeated."""
    engine = Engine.load("mini", device="cpu")
    vectors = np.random.default_rng(0).standard_normal((FACES, 512), np.float32)
    made = np.concatenate([batch.images for batch in engine.batches(vectors, ImageOptions(1))])
    return np.ascontiguousarray(np.tile(made, (BATCH // FACES, 1, 1, 1)))


@dataclass(frozen=True)
class Taken:
    """One round of one contender: seconds of wall time, and processor seconds of all threads."""

    wall: float
    processor: float


def clocked(work: Callable[[], object]) -> Taken:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - wall, time.process_time() - processor)


def encoding_alone(images: NDArray[np.uint8], count: int, threads: int) -> None:
    """The same batches through the same pool, as many ahead as in the assembly line, and dropped."""
    place = np.zeros(len(images), np.int64)
    batch, encoder = ImageBatch(images, place, place), Encoder()
    flying: deque[list[Future[list[bytes]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(count // len(images)):
            flying.append(submit(pool, encoder, batch))
            if len(flying) > BATCHES_AHEAD:
                collect(flying.popleft())
        for encoded in flying:
            collect(encoded)


def pipeline(engine: Engine, vectors: NDArray[np.float32], count: int, threads: int, format: str) -> None:
    """A whole run of generation and writing into a folder that is then removed."""
    plan = Plan.of(count // PER_ID, PER_ID, count)
    with tempfile.TemporaryDirectory() as folder:
        report = write_dataset(
            Path(folder) / "set",
            {"bench": "host_path"},
            plan,
            lambda ids: engine.batches(vectors, ImageOptions(PER_ID), ids),
            format=format,
            threads=threads,
        )
    if report.images_written != plan.images:
        raise SystemExit(f"{format}: {report.images_written} images written, expected {plan.images}")


def measure(images: int, rounds: int, threads: int, formats: Iterable[str]) -> list[dict[str, Any]]:
    """A row a contender, shares of encoding alone included; `images` is rounded to whole batches."""
    count = max(1, images // (BATCH * PER_ID)) * BATCH * PER_ID
    made = faces()
    engine = Engine(None, Instant(made), MASK_SCHEDULES["generate"])  # type: ignore[arg-type]  # never described
    vectors = np.random.default_rng(1).standard_normal((count // PER_ID, 512), np.float32)
    contenders: dict[str, Callable[[], None]] = {
        "encoding alone": lambda: encoding_alone(made, count, threads)
    }
    for format in formats:
        contenders[format] = lambda format=format: pipeline(engine, vectors, count, threads, format)  # type: ignore[misc]
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            round_ = clocked(work)
            if number:
                taken[name].append(round_)
    base = taken["encoding alone"]
    rows = []
    for name, own in taken.items():
        rows.append(
            {
                "contender": name,
                "images_per_s": round(count / statistics.median(t.wall for t in own)),
                "processor_us_per_image": round(statistics.median(t.processor for t in own) / count * 1e6, 2),
                "share_of_encoding": round(_median_ratio(base, own, "wall"), 3),
                "share_by_processor_time": round(_median_ratio(base, own, "processor"), 3),
                "rounds": [asdict(t) for t in own],
            }
        )
    return rows


def _median_ratio(base: list[Taken], own: list[Taken], clock: str) -> float:
    """The median over rounds of base / own: neighbours in time share the machine's state."""
    return statistics.median(getattr(b, clock) / getattr(o, clock) for b, o in zip(base, own, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=12_800, help="a round; whole multiples of 12,800")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="that encode")
    parser.add_argument("--formats", nargs="+", default=["null", "webdataset"])
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    asked = parser.parse_args()
    rows = measure(asked.images, asked.rounds, asked.threads, asked.formats)
    for row in rows:
        print(
            f"{row['contender']:15} {row['images_per_s']:7} images/s  {row['processor_us_per_image']:6.1f} us of"
            f" processor an image; {row['share_of_encoding']:.1%} of encoding alone,"
            f" {row['share_by_processor_time']:.1%} by processor time"
        )
    if asked.json is not None:
        record = {"protocol": __doc__, "environment": machine.environment("cpu"), "rows": rows}
        asked.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

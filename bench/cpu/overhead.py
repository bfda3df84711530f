"""What safety costs: hashing, writing, fsync and commit as a share of generating, on this machine.

    python -m bench.cpu.overhead [--ids 8] [--images 16]

The share is writing time over wall time of a real run with the embedded model on the CPU; the second line is the cost
per image alone, and the rate of generation at which it would be 2 %.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.formats import get_format
from v2f_engine.data.formats.protocol import Sample
from v2f_engine.data.records.manifest import Manifest, software_versions
from v2f_engine.data.writing.open_run import open_run
from v2f_engine.pipeline import Engine


def alone(base: Path, images: int = 4000, bytes_each: int = 7000) -> float:
    """Seconds per image of a shard that is already encoded: hash, write, fsync, rename, ledger."""
    plan = Plan(images // 50, 50, images // 50)
    data = np.random.default_rng(0).bytes(bytes_each)
    manifest = Manifest(
        "webdataset", get_format("webdataset").describe(), plan, Encoder().describe(), {}, software_versions()
    )
    with open_run(base / "alone", manifest) as run:
        assert not isinstance(run, Manifest)
        started = time.perf_counter()
        sink = run.sink(0)
        for identity in range(plan.identities):
            for image in range(50):
                sink.write(Sample(identity, image, data))
        run.commit(sink)
        return (time.perf_counter() - started) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=8)
    parser.add_argument("--images", type=int, default=16)
    asked = parser.parse_args()
    engine = Engine.load("mini", device="cpu")
    vectors = np.random.default_rng(0).standard_normal((asked.ids, 512), np.float32)
    next(engine.images(vectors, 1))  # warm

    def make(identities: range) -> list[ImageBatch]:
        return list(engine.images(vectors, asked.images, select=identities, batch_size=16))

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        report = write_dataset(base / "set", {"seed": 0}, Plan.of(asked.ids, asked.images), make)
        each = min(alone(base / str(k)) for k in range(5))
    print(
        f"{report.images_written} images: {report.seconds:.2f} s, of it {report.writing_s:.3f} s hashing, writing and "
        f"committing: {100 * report.writing_s / report.seconds:.2f} %"
    )
    print(
        f"alone (7 kB an image, webdataset): {each * 1e6:.1f} us an image; that is 2 % of the time at "
        f"{0.02 / each:,.0f} images/s from one process"
    )


if __name__ == "__main__":
    main()

"""Writing finished JPEGs: images/s of every format, hashing, fsync, rename and assembly included.

    python bench/writers.py                        40,000 images a format, 3 rounds
    python bench/writers.py --images 8000 --rounds 1

Protocol. 512 JPEGs of 112x112 noise blobs, about 7 KB each, made beforehand and reused in turn; 50 images an
identity. One thread of one process; formats interleaved over rounds; the table shows the median round. A
round is everything between an empty folder and a finished dataset with its manifest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT)]

import numpy as np  # noqa: E402

from v2f_engine.data.encode import Encoder  # noqa: E402
from v2f_engine.data.formats import Sample, get_format  # noqa: E402
from v2f_engine.data.manifest import Manifest  # noqa: E402
from v2f_engine.data.plan import Plan  # noqa: E402
from v2f_engine.data.shards import Run, open_run  # noqa: E402

FORMATS = ("webdataset", "lmdb", "recordio", "parquet", "imagefolder")
PER_ID = 50


def jpegs(count: int, encoder: Encoder) -> list[bytes]:
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (14, 14, 3)).astype(np.float32)
        image = np.kron(coarse, np.ones((8, 8, 1), np.float32)) + generator.normal(0, 9, (112, 112, 3))
        made.append(encoder.encode(np.clip(image, 0, 255).astype(np.uint8)))
    return made


def write(root: Path, format: str, encoder: Encoder, pool: list[bytes], images: int) -> float:
    """Seconds for one dataset."""
    plan = Plan.of(images // PER_ID, PER_ID)
    manifest = Manifest(format, get_format(format).describe(), plan, encoder.describe(), {"bench": "writers"})
    start = time.perf_counter()
    with open_run(root, manifest) as run:
        assert isinstance(run, Run)
        for number in run.missing():
            sink = run.sink(number)
            for identity in plan.shard(number).identities:
                for image in range(PER_ID):
                    sink.write(Sample(identity, image, pool[(identity * PER_ID + image) % len(pool)]))
            run.commit(sink)
        run.finish()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    options = parser.parse_args()
    encoder = Encoder()
    pool = jpegs(512, encoder)
    size = sum(map(len, pool)) / len(pool)
    times: dict[str, list[float]] = {name: [] for name in options.formats}
    for _ in range(options.rounds):
        for name in options.formats:
            with tempfile.TemporaryDirectory() as folder:
                times[name].append(write(Path(folder) / "set", name, encoder, pool, options.images))
    print(f"{options.images} images of {size:.0f} bytes, {options.rounds} rounds, medians")
    for name, values in times.items():
        seconds = statistics.median(values)
        rate = options.images / seconds
        print(f"  {name:12} {rate:9.0f} images/s  {rate * size / 1e6:7.1f} MB/s")


if __name__ == "__main__":
    main()

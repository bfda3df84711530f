"""Writing finished JPEGs: images/s of every format, hashing, fsync, rename and assembly included.

    python -m bench.cpu.writers                        40,000 images a format, 3 rounds
    python -m bench.cpu.writers --images 8000 --rounds 1 --formats webdataset lmdb recordio
    python -m bench.cpu.writers --json results.json

Protocol. One core (the process is pinned to it), one thread. 512 JPEGs of 112x112 noise blobs, about 7 KB each,
made beforehand and reused in turn; 50 images an identity; shards of 10,000 images, as in any set of 160,000
images or more. One warm-up round of 2,000 images a format, then formats interleaved over rounds; the table
shows the median round. A round is everything between an empty folder and a finished dataset with its manifest,
on the file system of --folder: sha256 of every byte, fsync of every file and folder, staging and assembly of
single-file formats. After each round the dataset is verified in full (not timed); a rate is printed only if it is
whole. `cpu` counts the process's own processor seconds, so that a machine busy with other work can be told from
a slow writer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from v2f_engine.data import verify_dataset
from v2f_engine.data.formats import get_format
from v2f_engine.data.formats.protocol import Sample
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import MAX_IMAGES_PER_SHARD, Plan
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.open_run import open_run
from v2f_engine.data.writing.run import DatasetRun

FORMATS = ("webdataset", "lmdb", "recordio", "parquet", "imagefolder")
PER_ID = 50
WARM_UP = 2_000


def jpegs(count: int, encoder: Encoder) -> list[bytes]:
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (14, 14, 3)).astype(np.float32)
        image = np.kron(coarse, np.ones((8, 8, 1), np.float32)) + generator.normal(0, 5.5, (112, 112, 3))
        made.append(encoder.encode(np.clip(image, 0, 255).astype(np.uint8)))
    return made


def fill(root: Path, manifest: Manifest, pool: list[bytes]) -> Manifest:
    """Writes the dataset that a manifest begins, with the pool's pictures in turn; the finished manifest."""
    with open_run(root, manifest) as run:
        assert isinstance(run, DatasetRun)
        for number in run.missing():
            sink = run.sink(number)
            for identity in manifest.plan.shard(number).identities:
                for image in range(PER_ID):
                    sink.write(Sample(identity, image, pool[(identity * PER_ID + image) % len(pool)]))
            run.commit(sink)
        return run.finish()


def write(root: Path, format: str, encoder: Encoder, pool: list[bytes], images: int) -> tuple[float, float]:
    """(wall, processor) seconds for one dataset, which is verified afterwards."""
    plan = Plan.of(images // PER_ID, PER_ID, MAX_IMAGES_PER_SHARD)
    manifest = Manifest(format, get_format(format).describe(), plan, encoder.describe(), {"bench": "writers"})
    wall, processor = time.perf_counter(), time.process_time()
    finished = fill(root, manifest, pool)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    report = verify_dataset(root)
    if finished.images != plan.images or not report.ok:
        raise SystemExit(f"{format}: no rate, the dataset is not whole: {report.faults}")
    return wall, processor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; by default the temporary folder"
    )
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    encoder = Encoder()
    pool = jpegs(512, encoder)
    size = sum(map(len, pool)) / len(pool)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in options.formats}
    for number in range(-1, options.rounds):
        for name in options.formats:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                images = options.images if number >= 0 else min(WARM_UP, options.images)
                taken = write(Path(folder) / "set", name, encoder, pool, images)
            if number >= 0:
                times[name].append(taken)
    rows = []
    for name, taken_all in times.items():
        wall, processor = (statistics.median(column) for column in zip(*taken_all, strict=True))
        rate = options.images / wall
        rows.append(
            {
                "format": name,
                "images_per_s": round(rate),
                "mb_per_s": round(rate * size / 1e6, 1),
                "cpu_images_per_s": round(options.images / processor),
                "rounds_images_per_s": [round(options.images / taken[0]) for taken in taken_all],
            }
        )
    load = os.getloadavg()[0]
    print(
        f"{options.images} images of {size:.0f} bytes, {options.rounds} rounds, medians; 1 core, load {load:.1f}"
    )
    for row in rows:
        print(
            f"  {row['format']:12} {row['images_per_s']:9} images/s  {row['mb_per_s']:7} MB/s"
            f"  {row['cpu_images_per_s']:9} images per processor second"
        )
    if options.json is not None:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": load}
        record = {"images": options.images, "bytes_per_image": round(size), "machine": machine, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

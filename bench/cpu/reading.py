"""Reading a training set: images/s of one core, every format, decoding and features included.

    python -m bench.cpu.reading                         20,000 images a format, 3 rounds
    python -m bench.cpu.reading --images 4000 --rounds 1 --formats lmdb --json results.json

Protocol. One core (the process is pinned to it), one thread: what a reader thread gives. JPEGs of 112x112 noise
blobs at quality 95, about 8 KB each; features float32 [512]. Rows come shuffled, 128 a batch, through
`open_training_set(...).read`, as trainers read them. `published lmdb` holds (jpeg, feature .npy, label) in its
records, the other formats take features from a .npy beside them. `published style` reads that same LMDB by
liblmdb, msgpack, numpy.load and Pillow into a float tensor of one image after another, which is what the
published loader does in each worker. `decoder alone` is simplejpeg on bytes in memory: the bound. `labels` is
the scan for labels that a foreign LMDB needs once. Rates are from the process's own processor seconds (`cpu`,
which other work on the machine disturbs little) and from the clock (`wall`). Files lie in the page cache.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg

from bench.cpu.writers import PER_ID, fill, jpegs
from v2f_engine.data import open_training_set
from v2f_engine.data.formats import get_format
from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.encode import Encoder

FORMATS = ("published lmdb", "lmdb", "webdataset", "recordio", "parquet", "imagefolder")
BATCH = 128
Read = Callable[[np.ndarray], object]


def write(root: Path, format: str, pool: list[bytes], images: int) -> Path:
    if format == "published lmdb":
        vectors = np.random.default_rng(1).normal(size=(64, 512)).astype(np.float32)
        rows = ((pool[i % len(pool)], vectors[i % 64], i // PER_ID) for i in range(images))
        write_training_lmdb(root / "train.lmdb", rows, images // PER_ID)
        return root / "train.lmdb"
    plan = Plan.of(images // PER_ID, PER_ID)
    manifest = Manifest(
        format, get_format(format).describe(), plan, Encoder().describe(), {"bench": "reading"}
    )
    fill(root / format, manifest, pool)
    return root / format


def ours(path: Path, images: int) -> Read:
    features = None
    if path.suffix != ".lmdb":
        features = np.random.default_rng(1).normal(size=(images, 512)).astype(np.float32)
    data = open_training_set(path, features)
    _ = data.labels
    return data.read


def published_style(path: Path, images: int) -> Read:
    """The published loader: one record after another, Pillow, tensors of one image, collated."""
    import lmdb
    import msgpack
    import torch
    from PIL import Image

    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)

    def one(row: int) -> tuple[torch.Tensor, torch.Tensor]:
        with environment.begin(write=False) as transaction:
            image, feature, _ = msgpack.loads(transaction.get(b"%d" % row))
        pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous().float().div(255)
        return x.sub(0.5).div(0.5), torch.from_numpy(np.load(io.BytesIO(feature)))

    def read(rows: np.ndarray) -> object:
        found = [one(int(row)) for row in rows]
        return torch.stack([image for image, _ in found]), torch.stack([feature for _, feature in found])

    return read


def rate(read: Read, order: np.ndarray) -> tuple[float, float]:
    """(images per wall second, per processor second) over all rows of `order`."""
    wall, processor = time.perf_counter(), time.process_time()
    for start in range(0, len(order) - BATCH + 1, BATCH):
        read(order[start : start + BATCH])
    count = len(order) // BATCH * BATCH
    return count / (time.perf_counter() - wall), count / (time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pool = jpegs(512, Encoder(quality=95))
    order = np.random.default_rng(2).permutation(options.images)
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        readers: dict[str, Read] = {
            "decoder alone": lambda rows: [simplejpeg.decode_jpeg(pool[row % 512]) for row in rows]
        }
        for name in options.formats:
            path = write(Path(folder), name, pool, options.images)
            readers[name] = ours(path, options.images)
            if name == "published lmdb":
                readers["published style"] = published_style(path, options.images)
                started = time.process_time()
                _ = open_training_set(path).labels
                labels = options.images / (time.process_time() - started)
                found["labels"] = [(labels, labels)]
        for number in range(-1, options.rounds):
            for name, read in readers.items():
                taken = rate(read, order[: 10 * BATCH] if number < 0 else order)
                if number >= 0:
                    found.setdefault(name, []).append(taken)
    rows = []
    for name, all_taken in found.items():
        wall, processor = (statistics.median(column) for column in zip(*all_taken, strict=True))
        rows.append({"what": name, "cpu_images_per_s": round(processor), "wall_images_per_s": round(wall)})
        print(f"  {name:16} {processor:8.0f} images per processor second  {wall:8.0f} by the clock")
    size = round(sum(map(len, pool)) / len(pool))
    record = {
        "images": options.images,
        "bytes_per_image": size,
        "rounds": options.rounds,
        "machine": {"cpu": platform.processor() or platform.machine(), "load": os.getloadavg()[0]},
        "rows": rows,
    }
    print(
        f"{options.images} images of {size} bytes, {options.rounds} rounds, medians, load {os.getloadavg()[0]:.1f}"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

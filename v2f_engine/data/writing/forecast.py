"""What a run would write, said before its first byte: images, shards, bytes, time, and what is there already.

Nothing is written to find out: a probe makes and encodes some of the images in memory, and the folder is read.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.batch import ImageBatch
from v2f_engine.data.formats import get_format
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.layout import LOCK, MANIFEST, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.verify import verify_manifest
from v2f_engine.data.writing.contact_sheet import COLUMNS, ROWS, draw
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.open_run import looked_at
from v2f_engine.data.writing.room import SHEET_BYTES, bytes_per_image, refuse_beyond, span
from v2f_engine.errors import DiskFull, OutputFolderError

PROBE_S = 3.0
"""A probe makes images for as long, and no more of them than the set has."""
BESIDE = 9_000
"""Bytes of manifest, card and Croissant description of a small set."""
OF_A_SHARD = 900
"""Bytes that a shard adds to them, and to its own file."""
WRITING = 30_000
"""Images/s that one thread writes where nothing is made anew; measured: 32,100 to 52,900 (`bench.cpu.writers`)."""
TAR_BLOCK, PAGE = 512, 4096


def _in_tar(size: int) -> int:
    """A picture and its label: a header each, filled up to whole blocks."""
    return 3 * TAR_BLOCK + -(-size // TAR_BLOCK) * TAR_BLOCK + 100


def _in_lmdb(size: int) -> int:
    """Whole pages, as our writer puts them."""
    return -(-(size + 16) // PAGE) * PAGE + 64


ON_DISK: dict[str, Callable[[int], int]] = {
    "imagefolder": lambda size: size,
    "webdataset": _in_tar,
    "lmdb": _in_lmdb,
    "recordio": lambda size: size + 50,
    "parquet": lambda size: size + 35,
    "null": lambda size: 0,
}
"""Format -> bytes that a picture of so many takes in it; measured on sets of 12 to 4,000 pictures."""
EMPTY = {"lmdb": 6 * PAGE}
"""Format -> bytes of a file without pictures."""


@dataclass(frozen=True)
class Probe:
    """What was learned from making a few images.

    Args:
        sizes: encoded bytes of each.
        per_second: images/s; 0 where nothing was timed.
        how: where the rate comes from, for people.
        columns: attributes recorded of each image.
        faces: some of them as they are read again, uint8 `[112, 112, 3]`, for the contact sheet.
    """

    sizes: tuple[int, ...]
    per_second: float
    how: str
    columns: int = 0
    faces: tuple[NDArray[np.uint8], ...] = ()


def probed(batches: Iterable[ImageBatch], encoder: Encoder, seconds: float = PROBE_S) -> Probe:
    """Makes and encodes images for some seconds; the first batch is not timed where there is a second."""
    sizes: list[int] = []
    faces: list[NDArray[np.uint8]] = []
    columns, timed, first = 0, 0, 0
    started = begun = time.perf_counter()
    for number, batch in enumerate(batches):
        encode = encoder.function()
        for image in batch.images:
            data = encode(np.ascontiguousarray(image))
            sizes.append(len(data))
            if len(faces) < ROWS * COLUMNS:
                faces.append(decode(data, "an image of the probe"))
        columns = len(batch.attributes)
        if number == 0:
            begun, first = time.perf_counter(), len(batch)
        else:
            timed += len(batch)
        if time.perf_counter() - started > seconds:
            break
    now = time.perf_counter()
    rate = timed / (now - begun) if timed else first / max(1e-9, begun - started)
    how = f"measured here on {timed or first} images{'' if timed else ', the first'}"
    return Probe(tuple(sizes), rate, how, columns, tuple(faces))


def sheet_of(faces: Sequence[NDArray[np.uint8]], plan: Plan) -> int:
    """Bytes of a contact sheet of the set's size; where there are too few faces they come again."""
    rows, columns = min(ROWS, plan.identities), min(COLUMNS, plan.images_per_id)
    if not faces:
        return rows * columns * SHEET_BYTES
    turn = cycle(faces)
    captions = [plan.identity_name(number) for number in range(rows)]
    return len(draw([[next(turn) for _ in range(columns)] for _ in range(rows)], captions=captions))


def set_bytes(
    format: str,
    plan: Plan,
    sizes: Sequence[float],
    images: int,
    columns: int,
    faces: Sequence[NDArray[np.uint8]],
) -> int:
    """About how many bytes the files of a finished set have, without its attachments.

    Args:
        sizes: of some of its pictures, encoded.
        images: how many it holds.
        columns: attributes recorded of each image.
        faces: for the contact sheet.
    """
    if not get_format(format).stores:
        return 0
    each = float(np.mean([ON_DISK[format](math.ceil(size)) for size in sizes]))
    aside = images * (8 + 4 * columns) + plan.shards * 250 if columns else 0
    return int(
        each * images
        + aside
        + sheet_of(faces, plan)
        + plan.shards * OF_A_SHARD
        + EMPTY.get(format, 0)
        + BESIDE
    )


@dataclass(frozen=True)
class Forecast:
    """What a run would do to a folder.

    Args:
        out, format: of the set.
        identities, images, shards: what it will hold.
        kept_images, kept_shards: of an earlier run, by the sizes of their files.
        state: `new`, `begun`, `complete`, or `nothing stored`.
        bytes: of the finished set's files.
        most: bytes that the run needs at its height, beyond what is there.
        free: bytes that are free.
        seconds: expected, of making what is missing.
        images_per_second, measured: that rate, and where it comes from.
    """

    out: Path
    format: str
    identities: int
    images: int
    shards: int
    kept_images: int
    kept_shards: int
    state: str
    bytes: int
    most: int
    free: int
    seconds: float
    images_per_second: float
    measured: str

    def lines(self) -> list[tuple[str, str]]:
        """(name, words) for people."""
        left = self.images - self.kept_images
        shards = "1 shard" if self.shards == 1 else f"{self.shards:,} shards"
        there = {
            "new": "nothing; the folder is new",
            "nothing stored": "nothing is stored",
            "complete": f"all {self.shards:,} shards ({self.images:,} images), by their sizes: nothing is left to make",
            "begun": f"{self.kept_shards:,} of {self.shards:,} shards ({self.kept_images:,} images) are kept",
        }[self.state]
        rows = [
            ("out", f"{self.out}, {self.format}"),
            ("people", f"{self.identities:,}, {self.images:,} images in {shards}"),
            ("there", there),
        ]
        if self.state not in ("nothing stored", "complete"):
            beyond = (
                f", {disk.in_words(self.most)} while it is assembled" if self.most > 1.05 * self.bytes else ""
            )
            rows.append(
                (
                    "disk",
                    f"{disk.in_words(self.bytes)} in the end{beyond}; {disk.in_words(self.free)} are free",
                )
            )
        if self.state != "complete":
            rate = f"{left:,} images at {self.images_per_second:,.1f} images/s"
            rows.append(("time", f"{span(self.seconds)}: {rate}, {self.measured}"))
        return rows


def forecast(
    root: Path, manifest: Manifest, probe: Callable[[], Probe], attached: int = 0, images: int | None = None
) -> Forecast:
    """What making `manifest` at `root` would do; nothing is written.

    Args:
        manifest: without records.
        probe: makes some of the images; not called where nothing is missing.
        attached: bytes of attachments.
        images: how many there will be, where not every identity has as many.

    Raises:
        OutputFolderError, DiskFull, ConfigError: as the run itself would end.
    """
    plan, stored = manifest.plan, get_format(manifest.format).stores
    images = plan.images if images is None else images
    refuse_beyond(root, plan.identities, plan.images_per_id, manifest.encoder, stored=stored)
    state, kept_images, kept_shards = ("new" if stored else "nothing stored"), 0, 0
    if stored:
        refuse_locked(root)
        found, records = looked_at(root, manifest, full=False)
        if found is not None:
            broken = set(verify_manifest(root, found, full=False).broken)
            records = {record.number: record for record in found.shards if record.number not in broken}
            state = "begun" if broken else "complete"
        elif records:
            state = "begun"
        kept_shards, kept_images = len(records), sum(record.count for record in records.values())
    free = disk.free_bytes(root.absolute())
    if state == "complete":
        size = sum(piece.bytes for record in (found.shards if found else ()) for piece in record.pieces)
        return Forecast(
            root, manifest.format, plan.identities, images, plan.shards, kept_images, kept_shards, state, size, 0,
            free, 0.0, 0.0, "nothing to make",
        )  # fmt: skip
    learned = probe()
    sizes = learned.sizes or (bytes_per_image(manifest.encoder),)
    size = set_bytes(manifest.format, plan, sizes, images, learned.columns, learned.faces) + attached * stored
    left = images - kept_images
    pictures = float(np.mean(sizes))
    most = (
        int(size - kept_images * pictures + images * pictures * get_format(manifest.format).staged)
        if stored
        else 0
    )
    if most > free:
        raise DiskFull(
            f"{root}: needs about {disk.in_words(most)} ({most:,} bytes; {pictures:,.0f} bytes an image, "
            f"{learned.how}), {disk.in_words(free)} ({free:,} bytes) are free there. Ask for fewer, or choose a folder "
            "on a larger disk."
        )
    rate = learned.per_second
    return Forecast(
        root, manifest.format, plan.identities, images, plan.shards, kept_images, kept_shards, state, size, most, free,
        left / rate if rate else 0.0, rate, learned.how,
    )  # fmt: skip


def refuse_locked(root: Path) -> None:
    """Raises OutputFolderError where another process writes the set; takes no lock and leaves no file."""
    path = root / WORK / LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise OutputFolderError(
            f"{root} is being written by {holder}. Expected no other writer; wait for it, end it, or choose another "
            "output folder."
        ) from error
    finally:
        os.close(descriptor)


def facts(forecast: Forecast) -> dict[str, Any]:
    """The same for a script."""
    return dict(vars(forecast))


def is_begun(root: Path) -> bool:
    """Whether a set lies at `root`, finished or not."""
    from v2f_engine.data.layout import RUN

    return (root / MANIFEST).exists() or (root / WORK / RUN).exists()

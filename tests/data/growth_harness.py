"""Kills a set that grows with SIGKILL: what lies there is the whole old set, an unfinished run, or the whole new set.

Run by test_data_growth.py as crash_harness.py is, whose ways and arguments it has.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from killed import killed_everywhere
from stub_people import make_batches, tree

from v2f_engine.data import Encoder, Plan, open_dataset, verify_dataset, write_dataset
from v2f_engine.data.layout import MANIFEST, RUN, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing import contact_sheet, grow
from v2f_engine.data.writing.write import manifest_for, write_planned
from v2f_engine.errors import DatasetError

OLD, NEW, IMAGES = 3, 6, 2
ENCODER = Encoder(quality=80)


def settings(people: int) -> dict[str, object]:
    return {"seed": 3, "people": {"count": people}}


def table(people: int) -> dict[str, Callable[[], bytes]]:
    return {"identities.safetensors": lambda: b"%d people" % people}


def begin(root: Path, format: str) -> None:
    write_dataset(
        root, settings(OLD), Plan(OLD, IMAGES, 2), make_batches(IMAGES), format=format, encoder=ENCODER, threads=1,
        attachments=table(OLD),
    )  # fmt: skip


def extend(format: str, root: Path) -> None:
    """What the command does: from the finished set, or from where it was."""
    asked = manifest_for(format, Plan.of(NEW, IMAGES), ENCODER.describe(), settings(NEW))
    place = root / MANIFEST if (root / MANIFEST).exists() else root / WORK / RUN
    found = Manifest.load(place)
    if found.plan.identities == NEW:
        manifest = Manifest(
            format, found.writer, found.plan, found.encoder, asked.settings, asked.versions, grown=found.grown
        )
    else:
        manifest = grow.grown(found, asked, may_differ=lambda name: "people" in name)
    write_planned(root, manifest, make_batches(IMAGES), ENCODER, threads=1, attachments=table(NEW))


def state_of(root: Path) -> str:
    """What readers and `verify` make of it: they must agree."""
    try:
        images, report = len(open_dataset(root)), verify_dataset(root)
    except DatasetError:
        return "torn" if (root / MANIFEST).exists() else "unfinished"
    if not report.ok:
        return "torn"
    return {OLD * IMAGES: "old", NEW * IMAGES: "new"}.get(images, "torn")


def main(format: str, steps: int, moments: int, seed: int) -> None:
    contact_sheet.ROWS = contact_sheet.COLUMNS = 1
    os.environ["SOURCE_DATE_EPOCH"] = "1764300000"
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        begin(base / "old", format)
        outcome = killed_everywhere(
            partial(extend, format), tree, state_of, base, partial(shutil.copytree, base / "old"),
            steps=steps, moments=moments, seed=seed,
        )  # fmt: skip
        print(json.dumps({"format": format, "old": 0, "unfinished": 0, "new": 0, **outcome}))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

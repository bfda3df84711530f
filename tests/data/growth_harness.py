"""Kills a set that grows with SIGKILL: what lies there is the whole old set, an unfinished run, or the whole new set.

Run by test_data_growth.py as crash_harness.py is, whose ways and arguments it has.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from killed import dying, finish, in_child
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


def table(people: int) -> dict[str, object]:
    return {"identities.safetensors": lambda: b"%d people" % people}


def begin(root: Path, format: str) -> None:
    write_dataset(
        root, settings(OLD), Plan(OLD, IMAGES, 2), make_batches(IMAGES), format=format, encoder=ENCODER, threads=1,
        attachments=table(OLD),
    )  # fmt: skip


def extend(root: Path, format: str) -> None:
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
    dice = random.Random(seed)
    try:
        begin(base / "old", format)
        shutil.copytree(base / "old", base / "grown")
        started = time.perf_counter()
        assert (
            finish(in_child(partial(dying, partial(extend, base / "grown", format), -1, base / "count"))) == 0
        )
        seconds = time.perf_counter() - started
        expected, operations = tree(base / "grown"), int((base / "count").read_text().split()[0])
        few = sorted(dice.sample(range(operations), min(steps, operations)))
        points = range(operations) if steps == 0 else few
        outcome = {"kills": 0, "unequal": 0, "torn": 0, "old": 0, "unfinished": 0, "new": 0}
        root = base / "killed"
        for trial in [*points, *[None] * moments]:
            shutil.copytree(base / "old", root)
            if trial is not None:
                code = finish(in_child(partial(dying, partial(extend, root, format), trial)))
            else:
                child = in_child(lambda: extend(root, format))
                time.sleep(dice.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
                code = finish(child)
            outcome["kills"] += code == -signal.SIGKILL
            outcome[state_of(root)] += 1
            resumed = finish(in_child(lambda: extend(root, format))) == 0
            outcome["unequal"] += not (resumed and tree(root) == expected)
            shutil.rmtree(root)
        print(json.dumps({"format": format, "operations": operations, "points": len(points), **outcome}))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

"""Kills writers with SIGKILL and compares what a resumed run leaves with an undisturbed one.

Run by test_data_crash.py in a process of its own (it forks, so no threads and no torch here):
`python crash_harness.py FORMAT STEPS RANDOM SEED` kills one run at each of STEPS file-system operations,
spread evenly over all of them (0: at every one), and RANDOM runs at random moments; prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from killed import killed_everywhere
from stub_people import make_batches, tree

from v2f_engine.data import Encoder, Plan, open_dataset, write_dataset
from v2f_engine.data.writing import contact_sheet
from v2f_engine.errors import DatasetError

PLAN = Plan.of(5, 3, 6)  # shards of 2, 2 and 1 identities


def write(format: str, root: Path) -> None:
    write_dataset(
        root, {"seed": 3}, PLAN, make_batches(3), format=format, encoder=Encoder(quality=80), threads=2
    )


def state_of(root: Path) -> str:
    try:
        return "finished" if len(open_dataset(root)) == PLAN.images else "torn"
    except DatasetError:
        return "unfinished"


def main(format: str, steps: int, moments: int, seed: int) -> None:
    contact_sheet.ROWS = contact_sheet.COLUMNS = 1  # most of a small run's time otherwise
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        write(format, base / "warm")  # imports happen here, once; its threads have ended when it returns
        outcome = killed_everywhere(
            partial(write, format), tree, state_of, base, steps=steps, moments=moments, seed=seed
        )
        print(json.dumps({"format": format, "finished": 0, "unfinished": 0, **outcome}))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

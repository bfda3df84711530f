"""Kills writers with SIGKILL and compares what a resumed run leaves with an undisturbed one.

Run by test_data_crash.py in a process of its own (it forks, so no threads and no torch here):
`python crash_harness.py FORMAT STEPS RANDOM SEED` kills one run at each of STEPS file-system operations,
spread evenly over all of them (0: at every one), and RANDOM runs at random moments; prints one line of JSON.
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

from v2f_engine.data import Encoder, Plan, open_dataset, write_dataset
from v2f_engine.data.writing import contact_sheet
from v2f_engine.errors import DatasetError

PLAN = Plan.of(5, 3, 6)  # shards of 2, 2 and 1 identities


def write(root: Path, format: str) -> None:
    write_dataset(
        root, {"seed": 3}, PLAN, make_batches(3), format=format, encoder=Encoder(quality=80), threads=2
    )


def judge(root: Path, format: str, expected: dict[str, str]) -> tuple[str, bool]:
    """What the killed run left behind, and whether resuming makes it equal to an undisturbed one."""
    try:
        state = "finished" if len(open_dataset(root)) == PLAN.images else "torn"
    except DatasetError:
        state = "unfinished"
    if finish(in_child(lambda: write(root, format))) != 0:
        return state, False
    return state, tree(root) == expected


def main(format: str, steps: int, moments: int, seed: int) -> None:
    contact_sheet.ROWS = contact_sheet.COLUMNS = 1  # most of a small run's time otherwise
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    write(base / "warm", format)  # imports happen here, once; its threads have ended when it returns
    dice = random.Random(seed)
    try:
        started = time.perf_counter()
        assert (
            finish(in_child(partial(dying, partial(write, base / "undisturbed", format), -1, base / "count")))
            == 0
        )
        seconds = time.perf_counter() - started
        expected, operations = tree(base / "undisturbed"), int((base / "count").read_text().split()[0])
        points = (
            range(operations)
            if steps == 0
            else sorted(dice.sample(range(operations), min(steps, operations)))
        )
        outcome = {"kills": 0, "unequal": 0, "torn": 0, "finished": 0, "unfinished": 0}
        root = base / "killed"
        for trial in [*points, *[None] * moments]:
            if trial is not None:
                code = finish(in_child(partial(dying, partial(write, root, format), trial)))
            else:
                child = in_child(lambda: write(root, format))
                time.sleep(dice.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
                code = finish(child)
            outcome["kills"] += code == -signal.SIGKILL
            state, equal = judge(root, format, expected)
            outcome[state] += 1
            outcome["unequal"] += not equal
            shutil.rmtree(root)
        print(json.dumps({"format": format, "operations": operations, "points": len(points), **outcome}))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

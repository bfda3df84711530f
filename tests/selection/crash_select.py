"""Kills `select_dataset` with SIGKILL at file-system operations and compares what a resumed run leaves.

Run by test_chosen_set.py in a process of its own, since it forks: `python crash_select.py FORMAT STEPS SEED` kills one
run at each of STEPS operations, spread over all of them (0: at every one); prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from killed import dying, finish, in_child
from stub_judges import judges, source, tree

from v2f_engine.data.writing import contact_sheet
from v2f_engine.selection.chosen_set import select_dataset
from v2f_engine.selection.rule import Rule


def select(made: Path, root: Path, format: str) -> int:
    """Chooses; returns how many calls of the recogniser it took."""
    looks = judges()
    select_dataset(made, root, Rule(4, ("centre", "diversity")), format, judges=looks, images_per_shard=8)
    return int(looks.recogniser.calls)  # type: ignore[union-attr]


def main(format: str, steps: int, seed: int) -> None:
    contact_sheet.ROWS = contact_sheet.COLUMNS = 1
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        made = source(base / "made")
        assert (
            finish(in_child(partial(dying, partial(select, made, base / "whole", format), -1, base / "log")))
            == 0
        )
        operations, calls = map(int, (base / "log").read_text().split())
        expected = tree(base / "whole")
        chosen = sorted(random.Random(seed).sample(range(operations), min(steps or operations, operations)))
        outcome = {"kills": 0, "unequal": 0, "fewer_calls": 0}
        for at in chosen:
            work = partial(select, made, base / "set", format)
            outcome["kills"] += finish(in_child(partial(dying, work, at))) == -signal.SIGKILL
            log = base / "again"
            ended = finish(in_child(partial(dying, work, -1, log)))
            outcome["unequal"] += ended != 0 or tree(base / "set") != expected
            outcome["fewer_calls"] += ended == 0 and int(log.read_text().split()[1]) < calls
            shutil.rmtree(base / "set")
        print(json.dumps({"operations": operations, "points": len(chosen), **outcome}))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

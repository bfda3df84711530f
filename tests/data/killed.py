"""Work in a forked process, and how it dies before one file-system operation: for scripts that kill writers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from v2f_engine import disk


def in_child(work: Callable[[], object]) -> int:
    """Runs `work` in a forked process; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return child


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(work: Callable[[], object], kill_at: int, log: Path | None = None) -> None:
    """Works, and dies before operation number `kill_at`; `log` is told how many there were, and what `work` gave."""
    done = 0

    def before(operation: str, path: str) -> None:
        nonlocal done
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1

    disk.before = before
    gave = work()
    if log is not None:
        log.write_text(f"{done} {gave}")


def killed_everywhere(
    write: Callable[[Path], object],
    tree: Callable[[Path], Mapping[str, str]],
    state_of: Callable[[Path], str],
    base: Path,
    begin: Callable[[Path], object] = lambda root: None,
    *,
    steps: int,
    moments: int,
    seed: int,
) -> Counter[str]:
    """Kills `write` at file-system operations and at moments of its time, and lets it go on.

    Args:
        write: makes or continues what lies in a folder.
        tree: what an undisturbed run and a continued one must have in common.
        state_of: of what a killed run left, a word.
        base: an empty folder to work in.
        begin: puts what is there before into a folder that is not there yet.
        steps: operations, spread over all; 0 is every one.
        moments: kills at random moments beside those.
        seed: of both.

    Returns:
        How often each state was met, and `operations`, `points` (operations that were tried), `kills`, and `unequal`:
        runs that did not go on to the same bytes.
    """
    dice, whole, root = random.Random(seed), base / "undisturbed", base / "killed"
    begin(whole)
    started = time.perf_counter()
    assert finish(in_child(partial(dying, partial(write, whole), -1, base / "count"))) == 0
    seconds = time.perf_counter() - started
    expected, operations = tree(whole), int((base / "count").read_text().split()[0])
    few = sorted(dice.sample(range(operations), min(steps, operations)))
    points = range(operations) if steps == 0 else few
    outcome = Counter({"operations": operations, "points": len(points), "kills": 0, "unequal": 0, "torn": 0})
    for trial in [*points, *[None] * moments]:
        begin(root)
        if trial is not None:
            code = finish(in_child(partial(dying, partial(write, root), trial)))
        else:
            child = in_child(partial(write, root))
            time.sleep(dice.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            code = finish(child)
        outcome["kills"] += code == -signal.SIGKILL
        outcome[state_of(root)] += 1
        gone_on = finish(in_child(partial(write, root))) == 0
        outcome["unequal"] += not (gone_on and tree(root) == expected)
        shutil.rmtree(root)
    return outcome

"""Threads of the CPU runner on a machine that others use too: as many as find a core free, looked at between batches.

Every parallel region waits for its slowest thread. Where two threads that spin share two cores with two busy processes,
one of them is always waiting for its turn, and the other for it: 7 to 50 images/s of `mini`, by luck, where one thread
alone makes a steady 60 (`bench.cpu.under_load`). Idle, two threads make 140. Whether threads spin is settled when the
library is loaded (`v2f_engine.threads`), and others may come later: so their number follows what others take.

The bytes of an image must not follow with it. That libraries give the same bits for any number of threads is tried on
the batch in hand before the first change; where they do not, the number stays as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from v2f_engine.threads import COUNT, WAITING

WINDOW_S = 0.5
"""Seconds between two looks: `/proc/stat` counts in hundredths of a second, so 0.5 s is 50 of them a core."""
FREE = 0.3
"""A core of which others take at most this much counts as free."""


@dataclass(frozen=True)
class Taken:
    """Processor seconds so far.

    Args:
        at: wall clock.
        all: of the cores this process may run on, by everybody.
        own: by this process, all its threads.
    """

    at: float
    all: float
    own: float


def look(stat: Path = Path("/proc/stat")) -> Taken | None:
    """What has been taken until now; None where the system does not say.

    Args:
        stat: Linux's file: a line a core, of ticks for user, nice, system, idle, iowait, irq, softirq, ...
    """
    try:
        lines = stat.read_text().splitlines()
        mine, tick = os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK")
        ticks = 0
        for name, *counted in (line.split() for line in lines if line.startswith("cpu")):
            if name != "cpu" and int(name.removeprefix("cpu")) in mine:
                user, nice, system, _, _, irq, softirq = (int(count) for count in counted[:7])
                ticks += user + nice + system + irq + softirq
    except (OSError, ValueError, AttributeError):
        return None
    return Taken(time.monotonic(), ticks / tick, time.process_time())


class SharedCores:
    """Runs what is called batch by batch with as many threads as find a core free.

    Args:
        most: threads where the machine is idle; below 2 nothing is decided.
        cores: that this process may run on.
        looked: gives `Taken`.
    """

    def __init__(self, most: int, cores: int, looked: Callable[[], Taken | None] = look) -> None:
        self.most = self.threads = most
        self._cores = cores
        self._look = looked
        self._process = os.getpid()
        self._last = looked() if most > 1 else None
        self._proven = False

    @classmethod
    def of_this_process(cls, device: torch.device) -> SharedCores:
        """For a runner on `device`: decides on a CPU whose threads spin, where the user has not set their number."""
        if device.type != "cpu" or not hasattr(os, "sched_getaffinity"):
            return cls(1, 1)
        if COUNT in os.environ or any(name in os.environ for name in WAITING):
            return cls(1, 1)
        return cls(torch.get_num_threads(), len(os.sched_getaffinity(0)))

    def run(self, batch: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What `batch` gives, with as many threads as others leave; torch's own number is as before afterwards."""
        if (
            os.getpid() != self._process
        ):  # forked: the threads of before are not here, and OpenMP would wait for them
            return batch()
        wanted = self._wanted()
        if wanted == self.most:
            return batch()
        if not self._proven:
            self._proven, expected = True, batch()
            if not torch.equal(expected, self._with(wanted, batch)):
                self.threads, self._last = self.most, None
            return expected
        return self._with(wanted, batch)

    def _with(self, threads: int, batch: Callable[[], torch.Tensor]) -> torch.Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return batch()
        finally:
            torch.set_num_threads(before)

    def _wanted(self) -> int:
        """Between 1 and `most`, as the last half second or more has been."""
        last = self._last
        if last is None or time.monotonic() - last.at < WINDOW_S:
            return self.threads
        taken = self._last = self._look()
        if taken is not None:
            others = ((taken.all - last.all) - (taken.own - last.own)) / (taken.at - last.at)
            self.threads = max(1, min(self.most, int(self._cores - others + FREE)))
        return self.threads

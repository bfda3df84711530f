"""How many threads this process may use, and how they wait for each other: settled before torch is loaded.

OpenMP's threads spin while they wait, for milliseconds, since the next parallel region is near. On an idle machine that
gains 4 to 12 %; on a shared one it is ruinous: whoever spins keeps the core from the thread that everybody waits for.
Beside two busy processes on two cores `generate` makes 25 images/s with threads that spin (rounds down to 7) and 56
with threads that sleep at once (`bench.cpu.under_load`). So threads sleep where others are running when the library is
loaded, and spin where nobody is; `runtime.shared_cores` uses fewer when others come later.

The number of threads is OpenMP's own, the cores of the affinity mask, unless a cgroup's quota (what `docker run --cpus`
sets) allows fewer: OpenMP does not look there.

All this is read once, when the library is loaded, so it is environment variables, and `import v2f_engine` sets those
that the user has not set. Processes started from here inherit them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path

WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""Threads that sleep at once: for every OpenMP, and for GNU's. One that the user has set leaves both to the user.

Medians of eight and four rounds on two cores, images/s, GNU's default of 300,000 turns first: idle 144 and 170, 30,000
turns 138, 10,000 turns 135 and 164, asleep 150 where the default made 170; beside two busy processes 25 and 26, 67, 61
and 57, 56.
"""
LOOKS, PAUSE_S = 5, 0.001
"""How often `others_run` looks before it says yes: one look may meet a kernel thread that is gone at once."""
COUNT = "OMP_NUM_THREADS"
LOADED = ("torch", "v2f_kernels._C")
"""Modules that bring an OpenMP with them: once one of them is loaded, the variables are read by nobody."""


@dataclass(frozen=True)
class Cores:
    """What this process may run on.

    Args:
        affinity: cores of its affinity mask (`taskset`, Slurm, a container's cpuset).
        quota: processor seconds a second that its cgroups allow, the smallest of them; None without a limit.
    """

    affinity: int
    quota: float | None

    @property
    def usable(self) -> int:
        """Threads that can run at once: with a quota of 1.5 one, for two would be halted in every period."""
        return self.affinity if self.quota is None else max(1, min(self.affinity, int(self.quota)))

    @classmethod
    def look(cls, root: Path = Path("/")) -> Cores:
        """Of this process.

        Args:
            root: of the file system that holds `proc` and `sys`.
        """
        counted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(counted, _quota(root))


def _quota(root: Path) -> float | None:
    """The smallest quota from this process's cgroup up to the root; both versions of cgroups."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            mount, read = root / "sys/fs/cgroup", _version_2
        elif "cpu" in controllers.split(","):
            mount, read = root / "sys/fs/cgroup" / controllers, _version_1
            mount = mount if mount.is_dir() else root / "sys/fs/cgroup/cpu"
        else:
            continue
        # A container often sees its own group as the root of the mount, under a name from outside that is not there.
        folder = mount / group.strip("/")
        for place in (folder, *folder.parents):
            if place != mount and mount not in place.parents:
                break
            quota = read(place)
            if quota is not None:
                found.append(quota)
    return min(found, default=None)


def _version_2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _version_1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return None if quota <= 0 else quota / int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None


def others_run(loadavg: Path = Path("/proc/loadavg")) -> bool:
    """Whether anybody else is running at this moment; yes where the system does not say.

    Args:
        loadavg: Linux's file, whose fourth word is "runnable/all" of threads, this one among them.
    """
    for look in range(LOOKS):
        try:
            runnable = int(loadavg.read_text().split()[3].partition("/")[0])
        except (OSError, ValueError, IndexError):
            return True
        if runnable <= 1:
            return False
        if look < LOOKS - 1:
            time.sleep(PAUSE_S)
    return True


@dataclass(frozen=True)
class Settled:
    """What became of threads in this process, for `v2f env`.

    Args:
        cores: what it may run on.
        count: of OpenMP's threads, and why.
        waiting: how they wait, and why.
    """

    cores: Cores
    count: str
    waiting: str


def settle(
    environment: MutableMapping[str, str] = os.environ,
    cores: Cores | None = None,
    shared: Callable[[], bool] = others_run,
) -> Settled:
    """Sets what the user has not set, where it still can be; called once by `import v2f_engine`.

    Args:
        environment: the variables.
        cores: that this process may run on; looked up by default.
        shared: whether others are running.
    """
    cores = cores or Cores.look()
    late = next((name for name in LOADED if name in sys.modules), None)
    if COUNT in environment:
        count = f"{environment[COUNT]} ({COUNT} is set)"
    elif cores.usable == cores.affinity:
        count = f"{cores.affinity} (the cores of the affinity mask)"
    elif late:
        count = f"as {late} has them, loaded before v2f_engine; the cgroup's quota is {cores.quota:g}"
    else:
        environment[COUNT] = str(cores.usable)
        count = f"{cores.usable} (the cgroup's quota of {cores.quota:g} on {cores.affinity} cores)"
    yours = [f"{name}={environment[name]}" for name in WAITING if name in environment]
    if yours:
        waiting = f"as {', '.join(yours)} says"
    elif late:
        waiting = (
            f"spinning: {late} was loaded first; import v2f_engine before it, or set OMP_WAIT_POLICY=passive"
        )
    elif shared():
        environment.update(WAITING)
        waiting = "asleep, not spinning: others are running, and keep their share of the cores"
    else:
        waiting = "as OpenMP has them, spinning first: nobody else was running"
    return Settled(cores, count, waiting)


_SETTLED: list[Settled] = []


def settled() -> Settled:
    """What was settled when `v2f_engine` was imported."""
    if not _SETTLED:
        _SETTLED.append(settle())
    return _SETTLED[0]

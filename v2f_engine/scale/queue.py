"""The shard queue: a folder of small files that any number of workers on any number of hosts share.

    .v2f/queue/leases/000012       who makes shard 12 (the worker, as JSON); made by link(2), so exactly one wins
    .v2f/queue/beats/NAME          a worker's heartbeat: a counter that grows while its process lives
    .v2f/queue/crashes/000012.NAME worker NAME died, or failed, over shard 12
    .v2f/queue/stop                somebody asked everybody to stop after the shard in hand

Leases only keep workers from doing the same work. They are not what makes the result right: a shard is a pure
function of (manifest, number), its commit is atomic, and the ledger line comes last, so that two workers which
both make shard 12 (a lease was taken over from a worker that was merely slow) leave the bytes one would have.

A lease is taken over when its worker's process is gone (same machine), or when its heartbeat has not changed for
`lease_s` seconds of the *observer's* waking time. Clocks of different hosts are never compared, and an observer
that was itself stopped does not blame the others for the time it slept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from v2f_engine import disk
from v2f_engine.data.layout import QUEUE, WORK
from v2f_engine.data.records.plan import Plan
from v2f_engine.scale.done import Done
from v2f_engine.scale.heartbeat import Silence
from v2f_engine.scale.identity import Worker
from v2f_engine.scale.job import Limits

SILENT, DIED = "silent", "died"
"""All that another worker can say of one that is lost; its coordinator knows how it ended."""
UNREADABLE = Worker("unreadable", "nowhere", 0, 0)
"""Holds a lease that a disk broke: it never beats, so its shard is free again after `lease_s`."""


class ShardQueue:
    """One process's view of the queue.

    Args:
        root: the dataset's folder.
        plan: its shape.
        worker: who is asking.
        limits: see `Limits`.
    """

    def __init__(self, root: Path, plan: Plan, worker: Worker, limits: Limits) -> None:
        self.worker = worker
        self.limits = limits
        self._plan = plan
        self._folder = root / WORK / QUEUE
        self.leases = self._folder / "leases"
        self.beats = self._folder / "beats"
        self.crashes = self._folder / "crashes"
        self.done = Done(root / WORK / "ledger", plan)
        self._silence = Silence(limits.poll_s)
        self._first = 0
        self._ends: dict[str, str] = {}

    def make(self) -> None:
        """An empty queue; whatever an earlier run left in it goes."""
        self.remove()
        for folder in (self.leases, self.beats, self.crashes):
            disk.make_folder(folder)

    def remove(self) -> None:
        for _ in range(5):
            try:
                disk.remove(self._folder)
                return
            except OSError as error:
                # A process that is just ending made a file while its folder was being emptied.
                if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                    raise
                time.sleep(0.1)

    @property
    def exists(self) -> bool:
        """False when the coordinator is gone or has finished."""
        return self.leases.is_dir()

    def request_stop(self) -> None:
        """Asks every worker to stop after the shard in hand."""
        with contextlib.suppress(OSError):
            (self._folder / "stop").touch()

    @property
    def stopping(self) -> bool:
        return not self.exists or (self._folder / "stop").exists()

    def poisoned(self) -> list[int]:
        """Shards set aside: so many workers died over them that another would only die too."""
        counts: dict[int, int] = {}
        for entry in self._names(self.crashes):
            number = int(entry.split(".")[0])
            counts[number] = counts.get(number, 0) + 1
        done = self.done.records
        return sorted(n for n, k in counts.items() if k >= self.limits.crashes and n not in done)

    def claim(self) -> int | None:
        """Takes the first shard that nobody has; None when there is none to take now."""
        done = self.done.refresh()
        self.reap_lost()
        held = {number for number, _ in self._held()}
        poisoned = set(self.poisoned())
        while self._first in done:
            self._first += 1
        for number in range(self._first, self._plan.shards):
            if number not in done and number not in held and number not in poisoned and self._take(number):
                self.done.refresh()
                if number not in self.done.records:  # committed between the two looks
                    return number
                self.release(number)
        return None

    def left(self) -> int:
        """Shards neither committed nor set aside."""
        done = self.done.refresh()
        return self._plan.shards - len(done) - len(self.poisoned())

    def _take(self, number: int) -> bool:
        mine = self.leases / f"{disk.TEMPORARY}{self.worker.name}"
        try:
            disk.before("write-lease", str(mine))
            mine.write_bytes(self.worker.to_bytes())
            disk.before("link-lease", str(self._lease(number)))
            os.link(mine, self._lease(number))
        except (FileExistsError, FileNotFoundError):
            return False
        finally:
            mine.unlink(missing_ok=True)
        return True

    def holds(self, number: int) -> bool:
        """Whether the lease is still ours; False once somebody took it over."""
        holder = self._holder(number)
        return holder is not None and holder.name == self.worker.name

    def release(self, number: int) -> None:
        if self.holds(number):
            disk.before("release", str(self._lease(number)))
            self._lease(number).unlink(missing_ok=True)

    def fail(self, number: int, why: str) -> None:
        """Notes that this worker failed over `number`, and gives the shard back."""
        self._note_crash(number, self.worker, why)
        self.release(number)

    def reap(self, worker: str, why: str) -> list[int]:
        """Takes back the shards of a worker that is known to be gone, and how it ended; returns their numbers."""
        self._ends[worker] = why  # even where another worker was faster and has noted "died"
        reaped = []
        for number, holder in self._held():
            if holder.name == worker and self._take_back(number, holder, why):
                reaped.append(number)
        (self.beats / worker).unlink(missing_ok=True)
        return reaped

    def reap_lost(self) -> list[int]:
        """Takes back the shards of workers that died or fell silent; returns their numbers."""
        self._silence.tick()
        reaped = []
        for number, holder in self._held():
            if holder.name == self.worker.name:
                continue
            silent = self.silent_s(holder.name) > self.limits.lease_s
            if (silent or holder.known_dead()) and self._take_back(
                number, holder, SILENT if silent else DIED
            ):
                reaped.append(number)
        return reaped

    def silent_s(self, worker: str) -> float:
        """Waking seconds since this worker's heartbeat last changed, as seen from here."""
        try:
            content = (self.beats / worker).read_bytes()
        except OSError:
            content = b""
        return self._silence.of(worker, content)

    def stalled_s(self, worker: str) -> float:
        """Waking seconds since this worker last finished an image, as seen from here."""
        return self._silence.of(f"{worker} images", b"%d" % self.images_in_hand(worker))

    def beating(self, worker: str) -> bool:
        """Whether it has begun to beat: before that it is starting, which may take a while."""
        return (self.beats / worker).exists()

    def crash_count(self) -> int:
        """How many deaths and failures have been noted."""
        return len(self._names(self.crashes))

    def unchanged_s(self, name: str, content: bytes) -> float:
        """Waking seconds for which `name` has had this content, as seen from here."""
        return self._silence.of(name, content)

    def images_in_hand(self, worker: str) -> int:
        """Images a worker has made so far."""
        try:
            return int((self.beats / worker).read_bytes().split()[1])
        except (OSError, ValueError, IndexError):
            return 0

    def tick(self) -> None:
        """To be called at each look by who only watches."""
        self._silence.tick()

    def _take_back(self, number: int, holder: Worker, why: str) -> bool:
        """Removes a lease if it is still `holder`'s. Of several who try, one succeeds."""
        aside = self.leases / f"{disk.TEMPORARY}{self.worker.name}.{number}"
        try:
            disk.before("take-back", str(aside))
            os.rename(self._lease(number), aside)
        except FileNotFoundError:
            return False
        found = self._read(aside)
        ours = (found or UNREADABLE).name == holder.name
        if ours:
            self._note_crash(number, holder, why)
        else:  # somebody else was faster and has already leased it anew: give that lease back
            with contextlib.suppress(OSError):
                os.link(aside, self._lease(number))
        aside.unlink(missing_ok=True)
        return ours

    def _note_crash(self, number: int, worker: Worker, why: str) -> None:
        with contextlib.suppress(OSError):  # without a note the shard is merely tried once more
            (self.crashes / f"{number:06d}.{worker.name}").write_text(why[-2000:])

    def reasons(self, number: int) -> list[str]:
        """Why workers died over a shard, oldest first; how they ended where `reap` was told so."""
        found = [self.crashes / n for n in self._names(self.crashes) if int(n.split(".")[0]) == number]
        found.sort(key=lambda path: path.stat().st_mtime_ns)
        return [self._reason(path) for path in found]

    def _reason(self, note: Path) -> str:
        reason = note.read_text(errors="replace").strip()
        return self._ends.get(note.name.split(".")[1], reason) if reason in (SILENT, DIED) else reason

    def _lease(self, number: int) -> Path:
        return self.leases / f"{number:06d}"

    def _read(self, path: Path) -> Worker | None:
        try:
            return Worker.from_bytes(path.read_bytes()[:4096], str(path))
        except OSError:
            return None

    def _holder(self, number: int) -> Worker | None:
        return self._read(self._lease(number))

    def _held(self) -> Iterator[tuple[int, Worker]]:
        for name in self._names(self.leases):
            if name.isdigit() and self._lease(int(name)).exists():
                yield int(name), self._holder(int(name)) or UNREADABLE

    @staticmethod
    def _names(folder: Path) -> list[str]:
        try:
            return sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except FileNotFoundError:
            return []

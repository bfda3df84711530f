"""Starts jobs, each a process in a group of its own, waits for them, and ends those that overrun.

A process is forked from this one, which has imported everything and touched no GPU: that saves each job the seconds of
its imports. Where CUDA does not work in a forked process (`environment` finds out), jobs start a fresh Python instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import ROOT, protocol
from bench.gpu import faults
from bench.gpu.job import AGAIN, Context, Job, Poisoned
from bench.gpu.store import Store, packed

POLL_S = 0.02
SHORTEST_S = 3.0
"""A job is not started with less than this left, or less than half of what it is predicted to take."""
PR_SET_PDEATHSIG = 1


@dataclass
class Running:
    """A started job."""

    job: Job
    pid: int
    start: float
    end: float
    attempt: int
    log: Path


@dataclass
class Launcher:
    """Runs jobs.

    Args:
        store: where all write.
        folder: scratch shared by the jobs.
        device, rehearsal: as `Context`.
        end: `time.time()` at which everything must be over.
        width: processes side by side.
        fresh: start a fresh Python for each job instead of forking.
    """

    store: Store
    folder: Path
    device: str
    rehearsal: bool
    end: float
    width: int
    fresh: bool = False

    def run(self, jobs: Sequence[Job], *, wave_s: float = float("inf")) -> None:
        """All jobs in order; neighbours that need not be alone share the machine, for at most `wave_s` together."""
        left = list(jobs)
        while left:
            wave = [left.pop(0)]
            while left and not wave[0].alone and not left[0].alone:
                wave.append(left.pop(0))
            self._wave(wave, min(self.end, time.time() + (float("inf") if wave[0].alone else wave_s)))

    def _wave(self, jobs: list[Job], end: float) -> None:
        waiting, running = [(job, 1) for job in jobs], list[Running]()
        width = 1 if jobs[0].alone else self.width
        try:
            while waiting or running:
                while waiting and len(running) < width:
                    job, attempt = waiting.pop(0)
                    left = end - time.time()
                    if left < max(SHORTEST_S, job.predicted_s / 2):
                        self._not_reached(job, attempt, left)
                    else:
                        running.append(self._start(job, attempt, end, len(jobs)))
                for one in list(running):
                    words = self._ended(one)
                    if words is None:
                        continue
                    running.remove(one)
                    if self._settle(one, words):
                        waiting.insert(0, (one.job, one.attempt + 1))
                time.sleep(POLL_S)
        finally:
            for one in running:  # only when this process is asked to stop
                _kill(one.pid)

    def _not_reached(self, job: Job, attempt: int, left: float) -> None:
        text = f"not reached: {job.name}: {left:.0f} s were left, {job.predicted_s:.0f} s predicted"
        self.store.add("note", job=job.name, text=text)
        if attempt > 1:  # it died before: what it had not begun stays unknown
            self._blame(job, "no time for what was left after it died")

    def _start(self, job: Job, attempt: int, end: float, neighbours: int) -> Running:
        now = time.time()
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        over = min(now + job.timeout_s, end)
        context = Context(job, self.store, self.device, self.rehearsal, self.folder, over)
        cores = os.cpu_count() or 1
        threads = 1 if self.rehearsal else job.threads or max(1, cores // min(self.width, neighbours))
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _in_child(context, log, threads, self.fresh)
        return Running(job, pid, now, over, attempt, log)

    def _ended(self, one: Running) -> str | None:
        """None while it runs, "" if it went well, else how it ended in words."""
        pid, status = os.waitpid(one.pid, os.WNOHANG)
        if pid:
            _kill(one.pid, reap=False)  # what it may have left behind
            if os.WIFSIGNALED(status):
                return f"its process was killed by {signal.Signals(os.WTERMSIG(status)).name}"
            code = os.WEXITSTATUS(status)
            return "" if code == 0 else f"its process ended with status {code}: {_last_words(one.log)}"
        if time.time() < one.end:
            return None
        _kill(one.pid)
        return f"hung: killed after {time.time() - one.start:.0f} s"

    def _settle(self, one: Running, words: str) -> bool:
        """Tells how a job ended; True if what it had not begun should be tried in another process."""
        seconds = round(time.time() - one.start, 2)
        self.store.add("job", job=one.job.name, stage=one.job.stage, attempt=one.attempt, seconds=seconds,
                        predicted_s=one.job.predicted_s, outcome=words or "ok")  # fmt: skip
        print(f"{seconds:6.1f} s  {one.job.name}: {words or 'ok'}", flush=True)
        if not words:
            return False
        poisoned = f"status {AGAIN}:" in words
        again = one.attempt < one.job.attempts and not words.startswith("hung")
        if not (poisoned and again):
            self._blame(one.job, words)
        return again

    def _blame(self, job: Job, words: str) -> None:
        """A failed row for a death: of what had begun and wrote nothing, else of the job."""
        begun, answered = None, set()
        for record in self.store.mine():
            if record.get("job") == job.name and record["kind"] == "begin":
                begun = record["label"]
            elif record.get("job") == job.name and record["kind"] == "row":
                answered.add(record["row"]["case"])
        section, case, contender = job.blame or (job.stage, "the job", job.name)
        if begun is not None and begun not in answered:
            section, case, contender = job.stage, begun, "its process"
        row = protocol.Row(section, case, contender, False, words)
        self.store.add("row", job=job.name, row=packed(row))


def _in_child(context: Context, log: Path, threads: int, fresh: bool) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_DFL)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(ROOT)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if fresh:
            os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'kernels'}"
            os.execv(sys.executable, [sys.executable, "-m", "bench.gpu.launch", packed_context(context)])
        code = work(context, threads)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def work(context: Context, threads: int) -> int:
    """Does a job in this process; its exit status."""
    import torch

    torch.set_num_threads(threads)
    module, _, function = context.job.work.partition(":")
    try:
        faults.after(context.job.name, 0)
        getattr(import_module(f"bench.gpu.{module}"), function)(context, **context.job.arguments)
    except Poisoned as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return AGAIN
    return 0


def packed_context(context: Context) -> str:
    """One line of JSON, for a fresh Python."""
    return json.dumps(
        {
            "job": {**asdict(replace(context.job, arguments={})), "arguments": dict(context.job.arguments)},
            "store": [str(context.store.path), context.store.run],
            "folder": str(context.folder),
            "plain": [context.device, context.rehearsal, context.end],
        }
    )


def unpacked_context(line: str) -> Context:
    """The inverse of `packed_context`."""
    given: dict[str, Any] = json.loads(line)
    job = Job(**{**given["job"], "blame": tuple(given["job"]["blame"]) if given["job"]["blame"] else None})
    device, rehearsal, end = given["plain"]
    path, run = given["store"]
    return Context(job, Store(Path(path), run), device, rehearsal, Path(given["folder"]), end)


def _kill(pid: int, *, reap: bool = True) -> None:
    """Ends a process group, whatever it ignores."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if reap:
        os.waitpid(pid, 0)


def _last_words(log: Path) -> str:
    """The last line that a process printed that says something; its exception as a rule."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if ": " in line and "Error" in line.partition(":")[0]]
    return (named or lines or ["it said nothing"])[-1][:300]


if __name__ == "__main__":
    sys.exit(work(unpacked_context(sys.argv[1]), int(os.environ.get("OMP_NUM_THREADS", "1"))))

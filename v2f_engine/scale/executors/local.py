"""`local`: one supervised process per device, started afresh (no fork, no `multiprocessing.Pool`).

A pool hangs when a worker is killed (measured on img2dataset); here a death is an exit status like any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import v2f_kernels

from v2f_engine import orphans
from v2f_engine.scale.executors import Ended
from v2f_engine.scale.job import Job, Limits
from v2f_engine.scale.report import WorkReport, heard


def gpus() -> int:
    """GPUs that a worker process could use, asked of the driver without starting CUDA in this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


class _Process:
    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the coordinator alone, which then asks workers to stop
        )

    def ended(self) -> Ended | None:
        code = self._process.poll()
        if code is None:
            return None
        self._output.seek(0)
        output = self._output.read().decode(errors="replace")
        said = heard(output)
        if isinstance(said, WorkReport):
            return Ended(report=said)
        if said is not None:
            return Ended(error=said)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        last = "; ".join(line.strip() for line in output.strip().splitlines()[-3:])
        return Ended(why=f"{how}{f': {last}' if last else ''}")

    def stopped(self) -> bool:
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_bytes()
        except OSError:
            return False
        return stat[stat.rindex(b")") + 2 :][:1] in (b"T", b"t")

    def terminate(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class LocalExecutor:
    """Worker processes on this machine, one per GPU, or as many as asked on the CPU."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._started: list[_Process] = []

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *details: object) -> None:
        for process in self._started:
            process.kill()

    def devices(self, asked: str) -> int:
        return 1 if asked == "cpu" or ":" in asked else max(1, gpus())

    def start(self, slot: int, job: Job) -> _Process:
        environment = {**os.environ, orphans.VARIABLE: str(os.getpid())}
        roots = [str(Path(__file__).parents[3]), str(Path(v2f_kernels.__path__[0]).parent)]
        environment["PYTHONPATH"] = os.pathsep.join(
            [*dict.fromkeys(roots), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        count = gpus()
        if job.device.split(":")[0] in ("auto", "cuda") and ":" not in job.device and count:
            seen = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = [part.strip() for part in seen.split(",")] if seen else [str(k) for k in range(count)]
            environment["CUDA_VISIBLE_DEVICES"] = names[slot % count]
        command = [sys.executable, "-m", "v2f_engine.scale.worker", job.to_json()]
        process = _Process(command, environment)
        self._started.append(process)
        return process

"""A job, which runs in a process of its own, and what its function is given to write results with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench import protocol
from bench.gpu import faults
from bench.gpu.store import Store, packed

AGAIN = 75
"""Exit status of a job whose CUDA context is poisoned and which wants another process (EX_TEMPFAIL)."""


class Poisoned(RuntimeError):
    """The CUDA context is lost: this process can do no more work, another one may go on."""


@dataclass(frozen=True)
class Job:
    """One process of the plan.

    Args:
        name: unique; stage and what, e.g. `ladder/7 + CUDA graph`.
        stage: of the plan.
        work: `module:function` below `bench.gpu`, called with a `Context` and `arguments`.
        arguments: plain values.
        predicted_s: seconds it should take, from earlier runs.
        timeout_s: after which its process group is killed.
        alone: nothing else runs meanwhile: it measures. Others run side by side.
        attempts: processes it may use up; later ones leave out what earlier ones began.
        threads: of a CPU; its share of the machine by default.
        blame: (section, case, contender) of the failed row if it dies.
    """

    name: str
    stage: str
    work: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    predicted_s: float = 10.0
    timeout_s: float = 60.0
    alone: bool = True
    attempts: int = 1
    threads: int = 0
    blame: tuple[str, str, str] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.predicted_s <= self.timeout_s or self.attempts < 1 or ":" not in self.work:
            raise ValueError(
                f"job {self.name}: expected 0 < predicted <= timeout, attempts and module:function, found"
                f" {self.predicted_s}, {self.timeout_s}, {self.attempts}, {self.work}"
            )


@dataclass
class Context:
    """What a job's function works with.

    Args:
        job: the job.
        store: where it writes.
        device: `cpu` in a rehearsal.
        rehearsal: tiny shapes.
        folder: scratch shared by the jobs of a run, on this machine only.
        end: `time.time()` at which the process will be killed.
    """

    job: Job
    store: Store
    device: str
    rehearsal: bool
    folder: Path
    end: float
    written: int = 0

    @property
    def left_s(self) -> float:
        """Seconds until this process is killed."""
        return max(0.0, self.end - time.time())

    def row(self, row: protocol.Row) -> None:
        """Tells a result."""
        self.store.add("row", job=self.job.name, row=packed(row))
        self.written += 1
        faults.after(self.job.name, self.written)

    def note(self, text: str) -> None:
        """Tells what is no result, e.g. what could not run here and why."""
        self.store.add("note", job=self.job.name, text=text)

    def ceiling(self, name: str, value: float) -> None:
        """Tells what the card does at best."""
        self.store.add("ceiling", job=self.job.name, name=name, value=value)

    def begun(self, job: str | None = None) -> set[str]:
        """Labels that this job, or another of this run, began, in whatever process."""
        name = self.job.name if job is None else job
        return {r["label"] for r in self.store.mine() if r["kind"] == "begin" and r["job"] == name}

    def begin(self, label: str) -> None:
        """Tells that `label` begins: if this process dies now, that is what killed it."""
        self.store.add("begin", job=self.job.name, label=label)

    def lost(self) -> bool:
        """Whether the device answers no more."""
        if self.device == "cpu":
            return faults.poisoned()
        import torch

        try:
            torch.cuda.synchronize()
        except Exception:
            return True
        return False

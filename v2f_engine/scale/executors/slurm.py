"""`slurm`: workers as Slurm jobs through submitit; with `cluster="local"` as processes, which is what tests use.

Each job is one worker on one GPU that pulls shards from the queue in the shared folder, so jobs may start when
they like, be preempted, time out or die: the next one goes on. submitit's own files lie in the queue's folder.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from v2f_kernels._extras import install

from v2f_engine.data.layout import QUEUE, WORK
from v2f_engine.errors import ConfigError, MissingDependency
from v2f_engine.scale.executors import Ended
from v2f_engine.scale.job import Job, Limits
from v2f_engine.scale.worker import outcome_of

CLUSTERS = ("slurm", "local")


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise MissingDependency(
            f"The executor 'slurm' needs submitit. Install it: {install('scale')}"
        ) from error
    return submitit


class _SlurmJob:
    def __init__(self, job: Any, cluster: str) -> None:
        self._job = job
        self._cluster = cluster

    def ended(self) -> Ended | None:
        if not self._job.done():
            return None
        try:
            result = self._job.result()
        except Exception as error:  # submitit's own, and whatever the job raised
            return Ended(why=f"job {self._job.job_id} {self._job.state}: {str(error).strip()[-1500:]}")
        return Ended.of(result)

    def stopped(self) -> bool:
        return False

    def terminate(self) -> None:
        """Nothing to send: the worker looks at the queue's stop mark before every shard."""

    def kill(self) -> None:
        with contextlib.suppress(Exception):  # it may be gone already; Slurm says so in several ways
            self._job.cancel(check=False)
        if self._cluster == "local":
            with contextlib.suppress(Exception):
                self._job._process.kill()
                self._job._process.wait()


class SlurmExecutor:
    """Workers as Slurm jobs.

    Args:
        limits: see `job.Limits`; `SHARED` by default, since jobs see each other through a network file system.
        cluster: `"slurm"`, or `"local"` for processes on this machine.
        minutes: time limit of a job. What it has committed then stays; the coordinator submits the next.
        gpus: of each job; 0 for the CPU.
        cpus: of each job.
        partition, account, setup: as Slurm knows them; `setup` are shell lines run before the worker.
    """

    def __init__(
        self,
        limits: Limits,
        cluster: str = "slurm",
        minutes: int = 240,
        gpus: int | None = None,
        cpus: int = 4,
        partition: str = "",
        account: str = "",
        setup: tuple[str, ...] = (),
    ) -> None:
        if cluster not in CLUSTERS:
            raise ConfigError(f"cluster must be one of {CLUSTERS}, found {cluster!r}.")
        self.limits = limits
        self._submitit = _submitit()
        self._cluster = cluster
        self._minutes = minutes
        self._gpus = gpus
        self._cpus = cpus
        slurm = {"partition": partition, "account": account, "setup": list(setup)}
        self._slurm = {f"slurm_{key}": value for key, value in slurm.items() if value}
        self._jobs: list[_SlurmJob] = []

    def __enter__(self) -> SlurmExecutor:
        return self

    def __exit__(self, *details: object) -> None:
        for job in self._jobs:
            if job.ended() is None:
                job.kill()

    def devices(self, asked: str) -> int:
        if asked == "cpu":
            return 1
        raise ConfigError("How many jobs? The executor 'slurm' needs --workers: this machine cannot know.")

    def start(self, slot: int, job: Job) -> _SlurmJob:
        folder = Path(job.root) / WORK / QUEUE / "slurm"
        try:
            executor = self._submitit.AutoExecutor(folder=folder, cluster=self._cluster)
        except RuntimeError as error:
            raise ConfigError(
                f"Slurm cannot be used from here: {error}. Run this on a login node, or use another executor."
            ) from error
        gpus = self._gpus if self._gpus is not None else int(job.device != "cpu")
        executor.update_parameters(
            name=f"v2f-{slot}",
            timeout_min=self._minutes,
            gpus_per_node=gpus,
            cpus_per_task=self._cpus,
            **(self._slurm if self._cluster == "slurm" else {}),
        )
        started = _SlurmJob(executor.submit(outcome_of, job.to_json()), self._cluster)
        self._jobs.append(started)
        return started

"""`ray`: one actor per GPU on a Ray cluster, or on this machine when none is named (Ray Core).

Actors hold the model and pull shards from the queue in the shared folder; nothing but their final report goes
through Ray's object store. Ray's own retries stay off: the coordinator restarts actors with back-off, the same
way for every executor, and repeating a shard changes nothing. No dashboard, no usage statistics; without an
address, all of Ray's ports are on the loopback interface.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from v2f_kernels._extras import install

from v2f_engine.errors import BackendUnavailable, ConfigError, MissingDependency
from v2f_engine.scale.executors import Ended
from v2f_engine.scale.job import Job, Limits
from v2f_engine.scale.report import Outcome
from v2f_engine.scale.worker import outcome_of

POLL_S = 0.05


class RayWorker:
    """The actor. Its process is the worker."""

    def work(self, job: str) -> Outcome:
        """See `worker.outcome_of`."""
        return outcome_of(job)


def _ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # on by default in Ray's source
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(f"The executor 'ray' needs Ray. Install it: {install('scale')}") from error
    return ray


ATTEMPTS = 3
"""Ray gives its own processes 30 s to start, which a machine busy with other things exceeds."""


def _begin(ray: Any, **options: Any) -> None:
    """Starts a private Ray on this machine."""
    for attempt in range(ATTEMPTS):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises a plain Exception here
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if attempt == ATTEMPTS - 1:
                raise BackendUnavailable(
                    f"Ray did not start within 30 s, {ATTEMPTS} times: this machine is too busy, or lets it open no "
                    "ports on 127.0.0.1. Use the executor 'local'."
                ) from error


@contextlib.contextmanager
def _python_path() -> Iterator[None]:
    """Actors on this machine import what this process can import."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


class _Actor:
    def __init__(self, ray: Any, worker: Any, job: Job) -> None:
        self._ray = ray
        self._worker = worker
        self._result = worker.work.remote(job.to_json())

    def ended(self) -> Ended | None:
        ready, _ = self._ray.wait([self._result], timeout=POLL_S)
        if not ready:
            return None
        try:
            result = self._ray.get(self._result)
        except self._ray.exceptions.RayError as error:
            return Ended(why=str(error).strip()[-2000:])
        finally:
            self._ray.kill(self._worker)
        return Ended.of(result)

    def stopped(self) -> bool:
        return False

    def terminate(self) -> None:
        """Nothing to send: the worker looks at the queue's stop mark before every shard."""

    def kill(self) -> None:
        self._ray.kill(self._worker)


class RayExecutor:
    """Actors on a Ray cluster.

    Args:
        limits: see `job.Limits`.
        address: of a cluster; "" starts one on this machine, for this run, on loopback.
        gpus: GPUs of each actor; by default 1 where the cluster has any.
    """

    def __init__(self, limits: Limits, address: str = "", gpus: float | None = None) -> None:
        self.limits = limits
        self._address = address
        self._gpus = gpus
        self._ray = _ray()
        self._began = False

    def __enter__(self) -> RayExecutor:
        ray = self._ray
        if not ray.is_initialized():
            common: dict[str, Any] = {
                "log_to_driver": False,
                "logging_level": "ERROR",
            }
            if self._address:
                try:
                    ray.init(address=self._address, **common)
                except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                    raise ConfigError(
                        f"executor option address={self._address!r}: no Ray cluster answers there ({error}). Start one "
                        "(`ray start --head`), correct the address, or leave it out for a Ray of this machine's own."
                    ) from error
            else:
                with _python_path():
                    _begin(
                        ray,
                        include_dashboard=False,
                        _node_ip_address="127.0.0.1",
                        num_cpus=1,  # how many idle workers Ray starts beforehand; actors here ask for none
                        object_store_memory=80 << 20,  # reports only
                        **common,
                    )
            self._began = True
        return self

    def __exit__(self, *details: object) -> None:
        if self._began:
            self._ray.shutdown()
            self._began = False

    def devices(self, asked: str) -> int:
        if asked == "cpu":
            return 1
        with self:
            return max(1, int(self._ray.cluster_resources().get("GPU", 0)))

    def start(self, slot: int, job: Job) -> _Actor:
        ray = self._ray
        there = ray.cluster_resources().get("GPU", 0) > 0 and job.device != "cpu"
        gpus = self._gpus if self._gpus is not None else float(there)
        cpus = 1 if self._address else 0
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)
        return _Actor(ray, remote(RayWorker).remote(), job)

"""Executors: thin adapters that start, watch and end worker processes. One file each, one table of names.

An executor knows nothing of shards. Supervision (restart with back-off, lost and stuck workers, poison shards)
is the coordinator's, the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Protocol, cast

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError, V2FError
from v2f_engine.scale.job import SHARED, Job, Limits
from v2f_engine.scale.report import Outcome, WorkReport, named


@dataclass(frozen=True)
class Ended:
    """How a worker ended.

    Args:
        report: what it did, when it ended by itself.
        error: the named error that ended it; any other worker would meet it too.
        why: in words, when it died.
    """

    report: WorkReport | None = None
    error: V2FError | None = None
    why: str = ""

    @classmethod
    def of(cls, outcome: Outcome) -> Ended:
        """Of a worker that could say how it ended."""
        return cls(report=outcome) if isinstance(outcome, WorkReport) else cls(error=named(*outcome))


class Handle(Protocol):
    """A worker that was started."""

    def ended(self) -> Ended | None:
        """How it ended; None while it runs. Never blocks for more than a moment."""
        ...

    def stopped(self) -> bool:
        """Whether it is known to be stopped (SIGSTOP); False where that cannot be seen."""
        ...

    def terminate(self) -> None:
        """Asks it to stop after the shard in hand."""
        ...

    def kill(self) -> None:
        """Ends it now, even if it is stopped (SIGSTOP) or stuck."""
        ...


class Executor(Protocol):
    """A way of running workers. A context manager: leaving it leaves no process behind."""

    limits: Limits

    def __enter__(self) -> Executor: ...
    def __exit__(self, *details: object) -> None: ...

    def devices(self, asked: str) -> int:
        """How many devices of the asked kind there are: the number of workers by default."""
        ...

    def start(self, slot: int, job: Job) -> Handle:
        """Starts a worker in place `slot`, 0..workers-1; it sees one device."""
        ...


EXECUTORS: Mapping[str, str] = {
    "local": "v2f_engine.scale.executors.local:LocalExecutor",
    "ray": "v2f_engine.scale.executors.ray:RayExecutor",
    "slurm": "v2f_engine.scale.executors.slurm:SlurmExecutor",
}
"""Executor name -> where it lives; imported when asked for."""

DEFAULT_LIMITS: Mapping[str, Limits] = {"local": Limits(), "ray": SHARED, "slurm": SHARED}


def get_executor(name: str, limits: Limits | None = None, **options: Any) -> Executor:
    """The executor called `name`.

    Args:
        limits: by default `DEFAULT_LIMITS[name]`.
        options: of that executor, e.g. `address` for ray, `partition` for slurm.

    Raises:
        ConfigError: an unknown name; the message names the nearest one.
        MissingDependency: it needs an optional package; the message is the install line.
    """
    check_options(name, options)
    return cast(Executor, _class_of(name)(limits=limits or DEFAULT_LIMITS[name], **options))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Whether an executor takes these options; needs nothing that it needs itself.

    Raises:
        ConfigError: an unknown executor or option, or a value of another kind; the message lists its options.
    """
    one_of("executor", name, ["inline", *EXECUTORS])
    taken = {} if name == "inline" else dict(signature(_class_of(name)).parameters)
    taken.pop("limits", None)
    known = ", ".join(f"{key} ({_kind(one)})" for key, one in taken.items()) or "none"
    for key, value in options.items():
        if key not in taken:
            raise ConfigError(f"executor option {key!r} is unknown to {name!r}. Its options: {known}.")
        kinds = {"int": (int,), "float | None": (int, float), "int | None": (int,), "str": (str,)}
        fits = kinds.get(str(taken[key].annotation))
        if fits is not None and value is not None and not isinstance(value, fits):
            raise ConfigError(
                f"executor option {key}={value!r}: expected {_kind(taken[key])}. Its options: {known}."
            )


def _class_of(name: str) -> Callable[..., Any]:
    module, attribute = EXECUTORS[name].split(":")
    found: Callable[..., Any] = getattr(import_module(module), attribute)
    return found


def _kind(parameter: Parameter) -> str:
    default = parameter.default
    return f"{str(parameter.annotation).removesuffix(' | None')}, {default!r} by default"

"""What a worker says when it ends: its report or a named error; the only thing that travels back from it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

from v2f_engine import errors
from v2f_engine.errors import V2FError

MARK = "v2f-worker: "


@dataclass(frozen=True)
class WorkReport:
    """What a worker did; vectors and images never travel.

    Args:
        worker: its name.
        shards: numbers of the shards it committed.
        images: in them.
    """

    worker: str
    shards: tuple[int, ...]
    images: int


Outcome = WorkReport | tuple[str, str]
"""A report, or a named error's class and message: what survives the way between processes and hosts."""


def named(kind: str, message: str) -> V2FError:
    """A named error as it was raised elsewhere."""
    error = getattr(errors, kind, V2FError)(message)
    assert isinstance(error, V2FError)
    return error


def say_report(report: WorkReport) -> None:
    sys.stdout.write(f"{MARK}{json.dumps({'report': asdict(report)})}\n")


def say_error(error: V2FError) -> None:
    sys.stdout.write(f"{MARK}{json.dumps({'error': type(error).__name__, 'message': str(error)})}\n")


def heard(output: str) -> WorkReport | V2FError | None:
    """The report or error in a worker's output; None when it died before it could speak."""
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        return None
    value = json.loads(lines[-1].removeprefix(MARK))
    if "report" in value:
        report = value["report"]
        return WorkReport(report["worker"], tuple(report["shards"]), report["images"])
    return named(value["error"], value["message"])

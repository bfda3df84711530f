"""What a worker process says when it ends: one line of JSON, its report or a named error."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from v2f_engine import errors
from v2f_engine.errors import V2FError
from v2f_engine.scale.work_report import WorkReport

MARK = "v2f-worker: "


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
    kind = getattr(errors, value["error"], V2FError)
    error = kind(value["message"])
    assert isinstance(error, V2FError)
    return error

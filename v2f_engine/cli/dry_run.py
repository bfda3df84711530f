"""`--dry-run`: what a command would do, said after all its checks and before its first byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from v2f_engine.cli.saying import result, say

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="check everything, write nothing, and say what would be done"),
]


def say_plan(lines: Sequence[tuple[str, str]], **values: Any) -> None:
    """Prints a plan, a fact a line, and gives it to a script."""
    result(dry_run=True, **values)
    for name, words in lines:
        say(f"{name:<14} {words}")
    say("nothing was written; the same command without --dry-run does this")

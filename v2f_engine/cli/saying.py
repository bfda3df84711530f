"""What a command says: sentences for people, and one JSON object for a script.

    say("1,000 images in faces")            a sentence: on stdout; with --json on stderr; with --quiet nowhere
    note("faces: 3 pictures are grey")      a remark: on stderr; with --quiet nowhere
    result(images=1000, out=out)            adds to what --json prints in the end

With `--json` stdout holds exactly one object: `command`, `status` (complete, error, stopped) and what the command
gave; whatever else would print there, a library or a process of ours, is sent to stderr. With `--quiet` errors alone
are said. `cli/main.py` begins and ends it; a command called from Python says its sentences and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import typer

from v2f_engine.asked import Asked


@dataclass
class Saying:
    """How the running command speaks.

    Args:
        command: its words, `ids sample`; of a mistyped command line as many as were known.
        json: whether a script listens on stdout.
        quiet: whether errors alone are said.
        values: what the command gave so far.
        begun: whether its work began: `--help` and `--version` are answers of their own.
        depth: of commands inside one another.
        asked: the command that began last, as typed, for what is said when it is stopped.
        answer: a file that was asked for on stdout, which is no sentence: not even `--quiet` keeps it back.
    """

    command: str = ""
    json: bool = False
    quiet: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    begun: bool = False
    depth: int = 0
    asked: Asked | None = None
    answer: str | None = None


OWN = ("command", "status")
"""Names of every object that no command gives."""
_now = Saying()


def begin(argv: Sequence[str]) -> None:
    """A command line begins; what its options say counts once they are read, until then how it looks."""
    global _now
    typed = list(argv[: argv.index("--")] if "--" in argv else argv)
    _now = Saying(json="--json" in typed, quiet="--quiet" in typed)


def now() -> Saying:
    """How the running command speaks; to be changed by whoever reads its options."""
    return _now


def say(words: str, nl: bool = True) -> None:
    """A sentence about what was done."""
    if not _now.quiet:
        typer.echo(words, nl=nl, err=_now.json)


def note(words: str) -> None:
    """A remark that is no result: how something is read, what is begun."""
    if not _now.quiet:
        typer.echo(words, err=True)


def result(**values: Any) -> None:
    """Adds what a script wants to know; numbers stay numbers, paths become texts, NaN and infinities null."""
    _now.values.update(values)


def answer(text: str) -> None:
    """What was asked for on stdout, such as a file to be redirected: printed at the end, with `--quiet` too.

    With `--json` stdout belongs to the object, so it is on stderr, or with `--quiet` nowhere; give it as a result too.
    """
    if _now.quiet and not _now.json:
        _now.answer = text
    else:
        say(text)


def plain(value: Any) -> Any:
    """The value as strict JSON has it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({one.name: getattr(value, one.name) for one in dataclasses.fields(value)})
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy and torch
        return plain(value.tolist())
    return str(value)


@contextlib.contextmanager
def running(command: str) -> Iterator[None]:
    """The work of a command: nothing but its object reaches stdout with --json, and nothing at all with --quiet."""
    if not _now.depth:  # else a command runs another, as `resume` does: the object is the outer one's
        _now.command, _now.begun, _now.values = command, True, {}
    _now.depth += 1
    with contextlib.ExitStack() as stack:
        stack.callback(_left)
        if _now.quiet:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        elif _now.json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if _now.json or _now.quiet:
            stack.enter_context(_descriptor_elsewhere(os.devnull if _now.quiet else None))
        yield


def _left() -> None:
    _now.depth -= 1


@contextlib.contextmanager
def _descriptor_elsewhere(file: str | None) -> Iterator[None]:
    """The process's stdout, which libraries in C and processes of ours write to, is `file` or stderr meanwhile."""
    try:
        kept = os.dup(1)
    except OSError:  # closed by whoever started us
        yield
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        (sys.__stdout__ or io.StringIO()).flush()
    try:
        if file is None:
            os.dup2(2, 1)
        else:
            with open(file, "wb") as opened:
                os.dup2(opened.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def end(status: str, **values: Any) -> None:
    """Prints the object, where one was asked for.

    Args:
        status: complete, error or stopped.
        values: of an error: `error`, its name; `message`; `advice`.
    """
    if status == "complete" and _now.answer is not None:
        print(_now.answer)
    if not _now.json or os.environ.get("RANK", "0") != "0":  # of several ranks one speaks
        return
    whole = {**_now.values, **values}
    whole = {"command": _now.command, "status": status} | {k: v for k, v in whole.items() if k not in OWN}
    print(json.dumps(plain(whole), allow_nan=False, ensure_ascii=False))
    if status == "complete":  # who ends the command says what it thinks of a stdout that cannot be written
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

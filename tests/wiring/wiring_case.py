"""How the tables say where an option's value ends, and how a command is run to find it there."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from typer.main import get_command
from wiring_spies import Answer, Calls, Reached, same, spy, through, value_at

from v2f_engine.cli.common_options import NAMES
from v2f_engine.cli.main import app


@dataclass(frozen=True)
class Seen:
    """The place where a value is used.

    Args:
        target: `module:function`, `module:Class` or `module:Class.method`.
        path: argument of it, and attributes of that: `settings.budget.steps`.
        value: what must be found there in one of the calls; texts are filled in, a function is a predicate.
    """

    target: str
    path: str
    value: Any


@dataclass(frozen=True)
class Case:
    """One option with a value that is not its default.

    Args:
        words: the value as typed; None for a flag. Of an argument: what stands in its place.
        seen: where it ends; all of them.
        also: further options, without which this one means nothing; they are there when it is not, too.
        spies: target -> answer, instead of or beside the scene's.
        instead: another command line than the scene's, where its options would be in the way.
    """

    words: str | None
    seen: tuple[Seen, ...]
    also: str = ""
    spies: Mapping[str, Answer] = field(default_factory=dict)
    instead: str | None = None


@dataclass(frozen=True)
class Scene:
    """How a command is run: the shortest command line, and what is spared on the way.

    Args:
        line: the arguments after `v2f`; `<name>` is an argument's place and its usual value: `<data={set}>`.
        spies: target -> answer, for functions that would take long or need what is not here.
        options: option or argument -> its cases.
    """

    command: str
    line: str
    options: Mapping[str, Case | tuple[Case, ...]]
    spies: Mapping[str, Answer] = field(default_factory=dict)


def case(words: str | None, *seen: tuple[str, str, Any], **further: Any) -> Case:
    """A case, shortly: `case("7", ("module:function", "argument", 7))`."""
    return Case(words, tuple(Seen(*place) for place in seen), **further)


CLAIM = "v2f_engine.cli.outputs:Claim"
OVERWRITE: dict[str, Case] = {"--overwrite": case(None, (CLAIM, "overwrite", True))}
"""What every command that writes files offers."""


SAY_PLAN = "v2f_engine.cli.dry_run:say_plan"


def dry_run(*seen: tuple[str, str, Any], **further: Any) -> dict[str, Case]:
    """What every long command offers: its plan is said, by `seen` or where plans are said."""
    return {
        "--dry-run": case(None, *(seen or ((SAY_PLAN, "lines", lambda lines: len(lines) > 2),)), **further)
    }


@functools.cache
def root() -> click.Command:
    """The command line, built once: reading its annotations takes 0.2 s."""
    return get_command(app)


def commands() -> dict[str, click.Command]:
    """Every command of `v2f` by its words; a new one appears here by itself."""

    def walk(command: click.Command, words: tuple[str, ...]) -> dict[str, click.Command]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return {" ".join(words): command}
        found: dict[str, click.Command] = {}
        for name, one in inner.items():
            found |= walk(one, (*words, name))
        return found

    return walk(root(), ())


def own_of(command: click.Command) -> list[click.Parameter]:
    """Its parameters without those that every command has: `tests/test_saying.py` has these."""
    return [one for one in command.params if not names_of(one) & set(NAMES)]


def names_of(parameter: click.Parameter) -> set[str]:
    """What a table may call it: `--out`, `--full` or `--fast`, an argument's name."""
    return {*parameter.opts, *parameter.secondary_opts}


def filled(value: Any, places: Mapping[str, Path | str]) -> Any:
    """Texts with `{name}` filled in, also inside lists and tuples."""
    if isinstance(value, str):
        return value.format(**places)
    if isinstance(value, tuple | list):
        return type(value)(filled(one, places) for one in value)
    return value


def typed(scene: Scene, name: str, case: Case, with_it: bool, places: Mapping[str, Path | str]) -> list[str]:
    """The command line with the option, or without it."""
    words = []
    for word in shlex.split(scene.line if case.instead is None else case.instead):
        place, _, usual = word.strip("<>").partition("=")
        if word.startswith("<"):
            word = str(case.words) if with_it and place == name else usual
        words += shlex.split(word) if word else []
    words += shlex.split(case.also)
    if with_it and name.startswith("-"):
        words = without(words, scene.command, [name])
        words += [name] if case.words is None else [name, *shlex.split(f"'{case.words}'")]
    return [word.format(**places) for word in [*scene.command.split(), *words]]


def without(words: list[str], command: str, options: Collection[str]) -> list[str]:
    """Words of a command without those of its options that hold one value: typed twice they are refused."""
    takes = {
        name: not getattr(parameter, "is_flag", False)
        for parameter in commands()[command].params
        if names_of(parameter) & set(options) and not getattr(parameter, "multiple", False)
        for name in names_of(parameter)
    }
    kept, rest = [], iter(words)
    for word in rest:
        if word not in takes:
            kept.append(word)
        elif takes[word]:
            next(rest)
    return kept


@dataclass(frozen=True)
class Played:
    """A command that was run: what its spies saw, and how it ended where it did not simply end."""

    calls: Calls
    ended: str


def play(argv: list[str], spies: Mapping[str, Answer]) -> Played:
    """Runs `v2f ARGV` in this process."""
    calls: Calls = {}
    ended = ""
    with pytest.MonkeyPatch.context() as patch:
        for target, answer in spies.items():
            spy(patch, target, answer, calls)
        try:
            root().main(args=argv, prog_name="v2f", standalone_mode=False)
        except Reached:
            ended = ""
        except click.exceptions.Exit as left:
            ended = f"exit status {left.exit_code}"
        except Exception as error:
            ended = f"{type(error).__name__}: {error}"
    return Played(calls, ended)


def spies_of(scene: Scene, case: Case) -> dict[str, Answer]:
    """The scene's and the case's, and whatever the case looks at."""
    return {**{place.target: through for place in case.seen}, **scene.spies, **case.spies}


def missing(played: Played, case: Case, places: Mapping[str, Path | str]) -> list[str]:
    """The places of a case where its value was not seen, each in words."""
    absent = []
    for place in case.seen:
        expected, found = filled(place.value, places), []
        for arguments in played.calls[place.target]:
            try:
                found.append(value_at(arguments, place.path))
            except (AttributeError, KeyError, IndexError, TypeError) as error:
                found.append(error)
        if not any(same(value, expected) for value in found):
            absent.append(f"{place.target} {place.path}: expected {expected!r}, found {found}")
    return absent


def cases_of(scene: Scene) -> list[tuple[str, Case]]:
    """(option, case) of a scene."""
    found = []
    for name, told in scene.options.items():
        found += [(name, one) for one in (told if isinstance(told, tuple) else (told,))]
    return found

"""The helps of all commands: every default is said, what is typed most stands first, and no word changes unseen.

The texts stand in `tests/snapshots/help/`, one a command; `make helps` writes them anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from v2f_engine.cli.dependent import leaves
from v2f_engine.cli.help import FIRST, WITHOUT, says_itself, words_of
from v2f_engine.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOTS = ROOT / "tests" / "snapshots" / "help"
WIDTH = 100
V2F = get_command(app)
COMMANDS = leaves(V2F)


def help_of(words: str) -> str:
    """The help of a command, or of a group of them, as wide as the snapshots whatever the terminal is."""
    command: Any = V2F
    context = command.make_context("v2f", [], resilient_parsing=True)
    for name in words.split():
        command = command.commands[name]
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    formatter = context.make_formatter()
    formatter.width = WIDTH
    command.format_help(context, formatter)
    return str(formatter.getvalue())


GROUPS = ["", *sorted({words.rpartition(" ")[0] for words in COMMANDS} - {""})]
ALL = [*GROUPS, *COMMANDS]


def file_of(words: str) -> Path:
    return SNAPSHOTS / f"{('v2f ' + words).strip().replace(' ', '_')}.txt"


@pytest.mark.parametrize("words", ALL)
def test_no_word_changes_unseen(words: str) -> None:
    assert file_of(words).is_file(), "`make helps` writes it"
    assert help_of(words) == file_of(words).read_text(), "where this is meant, `make helps` writes it anew"


def test_no_snapshot_is_of_a_command_that_is_gone() -> None:
    assert {path.name for path in SNAPSHOTS.iterdir()} == {file_of(words).name for words in ALL}


def test_a_terminal_changes_nothing_but_the_width() -> None:
    """Colours, another width, no terminal at all: the same words in the same order."""
    said = set()
    for more in (
        {"COLUMNS": "60"},
        {"COLUMNS": "200", "FORCE_COLOR": "1"},
        {"TERM": "dumb", "NO_COLOR": "1"},
    ):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", **more}
        done = subprocess.run(
            [sys.executable, "-m", "v2f_engine", "render", "--help"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        said.add("".join(done.stdout.partition("Render")[2].split()))
    assert len(said) == 1


def shown(parameter: Any, words: str) -> str:
    """How the help says an option's default; empty where it does not."""
    record = parameter.get_help_record(COMMANDS[words].make_context(words, [], resilient_parsing=True))
    return "" if record is None else " ".join(record)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_says_its_default(words: str) -> None:
    for parameter in COMMANDS[words].params:
        if parameter.param_type_name != "option" or "--help" in parameter.opts:
            continue
        name, told = parameter.opts[0], shown(parameter, words)
        assert parameter.help, f"v2f {words} {name}: no help"
        if parameter.required:
            assert "[required]" in told, told
        elif parameter.default is None:
            assert says_itself(parameter) or "default: (" in told, (
                f"v2f {words} {name}: say it in cli/help.py"
            )
        elif parameter.default is not False or parameter.secondary_opts:
            assert "default: " in told, f"v2f {words} {name}"


def test_every_line_of_the_table_is_some_option() -> None:
    used: set[str] = set()
    for words, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.default is None and not says_itself(parameter) and words_of(words, parameter):
                own = {f"{words} {name}" for name in parameter.opts} & set(WITHOUT)
                used |= own or set(parameter.opts) & set(WITHOUT)
    assert used == set(WITHOUT)


@pytest.mark.parametrize("words", COMMANDS)
def test_what_is_typed_most_stands_first(words: str) -> None:
    options = [one.opts[0] for one in COMMANDS[words].params if one.param_type_name == "option"]
    found = [name for name in options if name in FIRST]
    assert found == [name for name in FIRST if name in options]
    assert options[: len(found)] == found


if __name__ == "__main__":
    SNAPSHOTS.mkdir(parents=True, exist_ok=True)
    for path in SNAPSHOTS.iterdir():
        path.unlink()
    for every in ALL:
        file_of(every).write_text(help_of(every))

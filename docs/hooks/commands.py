"""The page of all commands, written from the app itself when the site is built: help that cannot go stale."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

URI = "commands.md"
HEAD = """# Command line

Every command and all of its options, as `v2f COMMAND --help` says them; this page is written from the program when the
site is built. Options that every command has stand in the last table.

"""
COMMON = "Options of every command"
DEFAULT = re.compile(r"\s*\[default: (.*?)\]")


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words, command) of every command that does something, in the order of the help."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, one in command.commands.items():
        if not one.hidden:
            yield from leaves(one, (*words, name))


def cell(text: str) -> str:
    """Text as a table's cell takes it; what stands in backticks is code already."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    parts[::2] = [re.sub(r"([*_\[\]])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`" if text else ""


def row(parameter: Any, context: Any) -> tuple[str, str, str]:
    """(as typed, default, help) of an option or argument, as the help has them."""
    typed, said = parameter.get_help_record(context)
    default = DEFAULT.search(said)
    return typed, default[1] if default else "", DEFAULT.sub("", said)


def table(rows: list[tuple[str, str, str]]) -> str:
    lines = ["| | default | |", "|---|---|---|"]
    lines += [f"| {code(typed)} | {code(default)} | {cell(said)} |" for typed, default, said in rows]
    return "\n".join(lines) + "\n"


def page(root: Any) -> str:
    """The whole page of a click group, whichever click the program has."""
    found = list(leaves(root, ()))
    rows = {}
    for words, command in found:
        context = command.make_context("v2f " + " ".join(words), [], resilient_parsing=True)
        rows[words] = [
            row(one, context) for one in command.get_params(context) if not getattr(one, "hidden", False)
        ]
    shared = [one for one in next(iter(rows.values())) if all(one in others for others in rows.values())]
    parts = [HEAD]
    for words, command in found:
        said = (command.help or "").split("\f")[0].strip()
        own = [one for one in rows[words] if one not in shared]
        parts.append(f"## v2f {' '.join(words)}\n\n{said}\n\n{table(own) if own else ''}\n")
    parts.append(f"## {COMMON}\n\n{table(shared)}")
    return "".join(parts)


def on_files(files: Files, config: Any) -> Files:
    for folder in (".", "kernels"):
        path = str(Path(config.config_file_path).parent / folder)
        if path not in sys.path:
            sys.path.insert(0, path)
    from typer.main import get_command

    from v2f_engine.cli.main import app

    files.append(File.generated(config, URI, content=page(get_command(app))))
    return files

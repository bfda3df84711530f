"""Options that every command has, added to all of them in one place: `--json`, `--quiet`, `--config`.

They are read before all others and reach no command's function: what they say holds for whatever it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from v2f_engine.cli import saying


def _json(asked: bool) -> None:
    if not saying.now().depth:  # a command that is run by another speaks as that does
        saying.now().json = asked


def _quiet(asked: bool) -> None:
    if not saying.now().depth:
        saying.now().quiet = asked


def _common(
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="print the result as one JSON object on stdout; sentences go to stderr",
            callback=_json,
            is_eager=True,
            expose_value=False,
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="say nothing but errors; no progress bars",
            callback=_quiet,
            is_eager=True,
            expose_value=False,
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="options from a TOML file, or the manifest.json of a set to make again; what is typed goes before",
            expose_value=False,
        ),
    ] = None,
) -> None:
    pass


NAMES = ("--json", "--quiet", "--config")
"""What every command has."""


def add_to(commands: Any) -> None:
    """Gives every command of these (name -> command) the common options, after its own, and refuses options twice."""
    made = typer.Typer(add_completion=False)
    made.command()(_common)
    options = [one for one in typer.main.get_command(made).params if set(one.opts) & set(NAMES)]
    for command in commands:
        command.params.extend(options)
        _refuse_twice(command)


def _refuse_twice(command: Any) -> None:
    """An option that holds one value and is typed twice is a mistake: the first would be dropped without a word."""
    original: Callable[[Any], Any] = command.make_parser

    def make_parser(context: Any) -> Any:
        if not saying.now().depth:
            saying.now().command = context.command_path.partition(" ")[2]
        parser = original(context)
        parse = parser.parse_args

        def once(args: list[str]) -> Any:
            opts, rest, order = parse(args=args)
            once_only = [one for one in order if one.param_type_name == "option" and not one.multiple]
            for one in once_only:
                if once_only.count(one) > 1 and not context.resilient_parsing:
                    _refuse(one)
            return opts, rest, order

        parser.parse_args = once
        return parser

    command.make_parser = make_parser


def _refuse(option: Any) -> None:
    from v2f_engine.errors import ConfigError

    names = " or ".join((*option.opts, *option.secondary_opts))
    raise ConfigError(f"{names} is given more than once, and holds one value: leave all but one of them out.")

"""`--config FILE`: options from a TOML file, or from what a finished set says of itself.

    ids = 100                   what every command that reads the file is given
    [generate]
    out = "faces"               what this one is; it goes before what stands above
    exclude = ["a.npy", "b"]    an option that may be repeated
    [train.generator]
    data = "people"             an argument, by its name in the usage line

Names are those of the options, with `-` or `_`; what is typed goes before both. Values count as typed, so an option
that says nothing beside the others is refused here too. Paths are taken from the current folder, as typed ones are.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from v2f_engine.asked import RUNNING, Asked

MOST_BYTES = 1 << 20
"""Of a TOML file; those of people have a hundred lines. What a set says of itself has its own limit."""
NEVER = frozenset({"--config", "--help"})
"""Options that a file does not hold."""


def configure(command: Any, words: tuple[str, ...], known: Callable[[], Iterable[tuple[str, ...]]]) -> None:
    """Lets a command take its options from `--config`.

    Args:
        command: click's, with the option `--config` among its own.
        words: its name: `("train", "generator")`.
        known: the words of every command.
    """
    original = command.parse_args

    def parse_args(context: Any, args: list[str]) -> Any:
        if args and not context.resilient_parsing:
            typed, _, _ = command.make_parser(context).parse_args(args=list(args))
            if typed.get("extend") and words == ("generate",) and not typed.get("help"):
                context.default_map = _of_a_set_to_extend(command, Path(typed["extend"]), typed)
            elif typed.get("config") and not typed.get("help"):
                file = Path(typed["config"])
                if file.suffix == ".json":
                    context.default_map = _of_a_set(context, command, words, file, typed)
                else:
                    context.default_map = values(command, words, file, typed, tuple(known()))
        return original(context, args)

    command.parse_args = parse_args


def values(
    command: Any,
    words: tuple[str, ...],
    path: Path,
    typed: Mapping[str, Any] = {},
    known: tuple[tuple[str, ...], ...] = (),
) -> dict[str, Any]:
    """Parameter -> value, of everything that the file says to this command and nobody typed.

    Raises:
        ConfigError: a file that is no TOML, names that are no options, values of another type, tables of commands that
            do not exist.
    """
    parameters = by_name(command)
    found: dict[str, Any] = {}
    for name, value in _said_to(words, _read(path), path, known).items():
        parameter = parameters.get(name.replace("_", "-"))
        if parameter is None:
            raise _error(
                f"{path}: {_unknown(name, parameters)} of `v2f {' '.join(words)}`: {_shown(parameters)}."
            )
        if typed.get(parameter.name) in (None, (), []):
            found[parameter.name] = _value(parameter, name, value, path)
    return found


def _unknown(name: str, parameters: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name.replace("_", "-"), sorted(parameters), 1)
    return f"{name!r} is no option{f'; did you mean {near[0]!r}?' if near else '.'} Known"


def _shown(parameters: Mapping[str, Any]) -> str:
    """All names but those that turn a flag off."""
    return ", ".join(
        name for name, one in sorted(parameters.items()) if f"--{name}" not in one.secondary_opts
    )


def _of_a_set(
    context: Any, command: Any, words: tuple[str, ...], path: Path, typed: Mapping[str, Any]
) -> dict[str, Any]:
    """`values` of a set's manifest; what its run is held to waits in the context."""
    from v2f_engine.cli import replay

    parameters = by_name(command)
    beside = {name for name, one in parameters.items() if typed.get(one.name) not in (None, (), [])}
    options, held_to = replay.replayed(path, words, beside)
    context.meta[replay.KEY] = held_to
    return {
        parameters[name].name: _value(parameters[name], name, value, path) for name, value in options.items()
    }


def _of_a_set_to_extend(command: Any, root: Path, typed: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of the set that is to get more people."""
    from v2f_engine.cli import replay

    parameters = by_name(command)
    beside = {
        name: typed[one.name] for name, one in parameters.items() if typed.get(one.name) not in (None, (), [])
    }
    if typed.get("config"):
        raise _error(
            f"--config {typed['config']}: a set that is extended (--extend) has its own settings; leave it out."
        )
    options = replay.extended(root, beside)
    return {
        parameters[name].name: _value(parameters[name], name, value, root) for name, value in options.items()
    }


@contextlib.contextmanager
def noted(context: Any, words: str) -> Iterator[None]:
    """Inside the block `asked.RUNNING` is this command, with what was typed or configured."""
    given = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if parameter.expose_value and source is not None and source.name != "DEFAULT":
            given[parameter.name] = _plain(context.params.get(parameter.name))
    ranks = os.environ.get("WORLD_SIZE", "1")
    command = Asked(words, os.getcwd(), given, int(ranks) if ranks.isdigit() else 1)
    token = RUNNING.set(command)
    try:
        yield
    finally:
        RUNNING.reset(token)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def by_name(command: Any) -> dict[str, Any]:
    """What a file may name -> the parameter: the options without their dashes, the arguments by name and metavar."""
    found: dict[str, Any] = {}
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            names = [parameter.name, *([parameter.metavar] if parameter.metavar else [])]
            found |= {name.lower().replace("_", "-"): parameter for name in names}
        elif not NEVER & set(parameter.opts):
            found |= {
                name[2:]: parameter
                for name in (*parameter.opts, *parameter.secondary_opts)
                if name[:2] == "--"
            }
    return found


def _read(path: Path) -> dict[str, Any]:
    from v2f_engine.errors import ConfigError
    from v2f_engine.outside import admit

    admit(path, ConfigError, most=MOST_BYTES)
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _error(f"{path}: expected TOML, such as `ids = 100`: {error}.") from error
    except OSError as error:
        raise _error(f"{path}: cannot be read: {error.strerror}.") from error


def _said_to(
    words: tuple[str, ...], table: Mapping[str, Any], path: Path, known: tuple[tuple[str, ...], ...]
) -> dict[str, Any]:
    """What stands at the top, then what stands in the command's own table; tables of no command are refused."""
    found: dict[str, Any] = {}

    def look(inside: Mapping[str, Any], above: tuple[str, ...]) -> None:
        for name, value in inside.items():
            here = (*above, name)
            if isinstance(value, Mapping):
                if not any(one[: len(here)] == here for one in known):
                    near = difflib.get_close_matches(".".join(here), [".".join(one) for one in known], 1)
                    raise _error(
                        f"{path}: [{'.'.join(here)}] is no command{f'; did you mean [{near[0]}]?' if near else '.'} "
                        f"Known: {', '.join('.'.join(one) for one in sorted(known))}."
                    )
                look(value, here)
            elif not above or above == words:
                found[name] = value
            elif above not in known:
                raise _error(
                    f"{path}: [{'.'.join(above)}] is a group of commands, so {name!r} says nothing there."
                )

    look({name: value for name, value in table.items() if not isinstance(value, Mapping)}, ())
    look({name: value for name, value in table.items() if isinstance(value, Mapping)}, ())
    return found


def _value(parameter: Any, name: str, value: Any, path: Path) -> Any:
    """The value as the command line's own parser takes it."""
    repeated = parameter.nargs == -1 or getattr(parameter, "multiple", False)
    if repeated:
        several = value if isinstance(value, list) else [value]
        return [_word(parameter, name, one, path) for one in several]
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise _error(f"{path}: {name} is true or false, found {value!r:.80}.")
        return value != (f"--{name.replace('_', '-')}" in parameter.secondary_opts)
    return _word(parameter, name, value, path)


def _word(parameter: Any, name: str, value: Any, path: Path) -> str:
    """One value as it would be typed."""
    kind = kind_of(parameter)
    fits = {
        "int": isinstance(value, int),
        "float": isinstance(value, int | float),
        "str": isinstance(value, str | int | float),
        "path": isinstance(value, str),
    }
    if isinstance(value, bool) or not fits[kind]:
        called = {"int": "a whole number", "float": "a number", "str": "a text", "path": "a text, a path"}[
            kind
        ]
        raise _error(f"{path}: {name} is {called}, found {value!r:.80}.")
    return value if isinstance(value, str) else repr(value)


def kind_of(parameter: Any) -> str:
    """`int`, `float`, `str` or `path`: what one value of a parameter is."""
    own = getattr(parameter, "type", None)  # of earlier versions of Typer, which have click's
    if own is not None:
        return {"integer": "int", "float": "float", "path": "path"}.get(str(own.name), "str")
    told = parameter.type_descriptor.annotation
    inner = getattr(told, "__args__", (told,))[0]
    return "path" if inner is Path else {int: "int", float: "float"}.get(inner, "str")


def _error(words: str) -> Exception:
    from v2f_engine.errors import ConfigError

    return ConfigError(words)

"""`--config`: for every command and every option a value in a file gives the parameters that typing it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from test_dependent_options import type_of
from wiring_case import commands, play

from v2f_engine.cli.common_options import NAMES
from v2f_engine.cli.config import by_name
from v2f_engine.errors import ConfigError

VALUES: dict[str, list[Any]] = {
    "int": [7],
    "float": [0.25, 3],
    "path": ["a folder/b.npy"],
    "str": ["0.3,0.5", "-5:5"],
}
"""Type -> values of it; texts that begin with a dash, numbers without a point and blanks among them."""


READ_AT_ONCE = ("--extend",)
"""Options whose value is opened while words are parsed: `tests/test_extension.py` has a real one."""


def kind(parameter: click.Parameter) -> str:
    name = type_of(parameter)
    told = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    for inner in getattr(told, "__args__", ()):  # of a list
        name = inner.__name__
    return {"int": "int", "float": "float", "path": "path", "Path": "path"}.get(name, "str")


def parsed(words: str, args: list[str]) -> dict[str, Any]:
    return dict(commands()[words].make_context(words, args).params)


def pairs(words: str, parameter: click.Parameter) -> list[tuple[str, Any, list[str]]]:
    """(key, value in the file, what is typed for it)."""
    if parameter.param_type_name == "argument":
        several = parameter.nargs == -1
        values = [str(value) if kind(parameter) == "str" else value for value in VALUES[kind(parameter)][:1]]
        return [(parameter.name or "", values if several else values[0], ["--", *map(str, values)])]
    option = max(parameter.opts, key=len)
    key = option[2:]
    if getattr(parameter, "is_flag", False):
        off = [(key, False, [other]) for other in parameter.secondary_opts[:1]]
        off += [(other[2:], True, [other]) for other in parameter.secondary_opts[:1]]
        return [(key, True, [option]), *off]
    values = VALUES[kind(parameter)]
    if getattr(parameter, "multiple", False):
        typed = [word for value in values for word in (option, str(value))]
        return [(key.replace("-", "_"), values, typed), (key, values[0], [option, str(values[0])])]
    return [(key, value, [option, str(value)]) for value in values]


def others(words: str, but: click.Parameter) -> list[str]:
    """What the command cannot do without, as typed."""
    found: list[str] = []
    for parameter in commands()[words].params:
        if parameter is but or not parameter.required:
            continue
        value = str(VALUES[kind(parameter)][0])
        found += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return found


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_option_in_a_file_is_as_typed(words: str, tmp_path: Path) -> None:
    file, tried = tmp_path / "run.toml", 0
    for parameter in commands()[words].params:
        if set(parameter.opts) & {*NAMES, *READ_AT_ONCE}:
            continue
        required = others(words, parameter)
        if parameter.param_type_name == "argument" and any(not word.startswith("-") for word in required[:1]):
            first = next(p for p in commands()[words].params if p.param_type_name == "argument")
            if parameter is first:  # the one typed argument would be taken for this one
                continue
        for key, value, typed in pairs(words, parameter):
            tables = (
                f"{key} = {json.dumps(value)}",
                f"[{words.replace(' ', '.')}]\n{key} = {json.dumps(value)}",
            )
            expected = parsed(words, [*required, *typed])
            for text in tables:
                file.write_text(text)
                assert parsed(words, [*required, "--config", str(file)]) == expected, (words, text)
            tried += 1
    assert tried or words == "env"


def test_what_is_typed_goes_before_both_tables(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'seed = 1\nimages = 2\nexclude = ["a.npy"]\n[generate]\nseed = 2\n[train.generator]\nseed = 3\n'
    )
    found = parsed("generate", ["--config", str(file), "--images", "9", "--exclude", "b.npy"])
    assert (found["seed"], found["images_per_id"], found["exclude"]) == (2, 9, [Path("b.npy")])
    assert parsed("generate", ["--config", str(file)])["exclude"] == [Path("a.npy")]


REFUSED = (
    ("idz = 3", "'idz' is no option.*did you mean 'ids'.*jpeg-quality"),
    ("ids = 'many'", "ids is a whole number, found 'many'"),
    ("ids = true", "ids is a whole number, found True"),
    ("ids = 3.5", "ids is a whole number"),
    ("out = 3", "out is a text, a path"),
    ("fetch = 1", "fetch is true or false"),
    ("sigma = [0.3]", "sigma is a text"),
    ("[generete]", r"\[generete\] is no command; did you mean \[generate\]"),
    ("[train]\nseed = 1", r"\[train\] is a group of commands"),
    ("[train.nobody]", r"\[train.nobody\] is no command"),
    ("ids = ", "expected TOML"),
)


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_mistakes_are_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        parsed("generate", ["--config", str(file)])


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        parsed("generate", ["--config", str(tmp_path / "none.toml")])
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="expected TOML"):
        parsed("generate", ["--config", str(tmp_path / "b.toml")])
    with pytest.raises(ConfigError, match="expected a file"):
        parsed("generate", ["--config", "/dev/zero"])


def test_what_a_file_says_counts_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that says nothing beside the others is refused before anything is read."""
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text('landmark-heights = "published"')
    assert play(["generate", "--config", "run.toml"], {}).ended.startswith(
        "ConfigError: --landmark-heights says nothing"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.toml"]


def test_names_stand_for_one_parameter_each() -> None:
    for command in commands().values():
        names = by_name(command)
        assert {one.name for one in names.values()} | {"config"} >= {p.name for p in command.params}

"""Options that count only beside others are refused without them; every option of every command is one or the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from wiring_case import commands, names_of, own_of, play

from v2f_engine.cli.dependent import CALLED, KINDS, TABLE, Dependent

ALWAYS: dict[str, str] = {
    "generate": "--ids --vectors --exclude --images --out --format --jpeg-quality --images-per-shard --model --masks "
    "--device --precision --runner --fetch --compute-batch --perturbation --seed --by --executor --workers "
    "--make --as-published --rounding --mask-batch --sigma-shares --jpeg-encoder --extend --dry-run",
    "render": "--ids --images --out --format --seed --first --processes --world --quality --dry-run",
    "align": "photographs --out --several --min-side --codec --processes --skip-bad",
    "features": "dataset --recogniser --mask --split --channels --mean --std --on-bad --batch --bf16 --device --probe",
    "convert": "source target --dry-run",
    "select": "dataset --keep --by --out --format --min-cosine --duplicate-cosine --at-least --split --device "
    "--dry-run",
    "verify": "dataset --full",
    "repair": "dataset --model --device --fetch",
    "inspect": "file --split",
    "resume": "place",
    "show": "place --toml",
    "push": "source repository --private --revision --yes",
    "pull": "repository --out --revision",
    "bench": "what --model --device --precision --runner --images --rounds",
    "ui": "--model --vectors --out --host --port --open --recogniser --device --precision --fetch",
    "env": "--device --precision --self-test",
    "ids sample": "n_ids --source --model --backend --out --overwrite --exclude --extend --dry-run",
    "ids centres": "features --labels --out --overwrite --mask --people --unit --on-bad",
    "ids within": "features --labels --out --overwrite --components --shrinkage",
    "ids fit": "features --images --out --overwrite --length --components --shrinkage --groups",
    "ids plan": "n_ids --source --model --backend --max-candidates --extend --plot --pack --perturbation --images "
    "--make",
    "ids check": "vectors --step --plot",
    "ids pack": "table --out --curve --plot --overwrite --max-cosine --steps --pull --max-drift --source --exclude "
    "--device --dry-run",
    "ids prove": "n_ids --out --report --plot --features --overwrite --model --masks --device --precision --runner "
    "--fetch --compute-batch --source --max-cosine --exclude --recogniser --perturbation --seed --max-rounds "
    "--max-made --backend --images --dry-run",
    "train recogniser": "data --recipe --mask --split --on-bad --held-out --out --depth "
    "--margin --m --sample-rate --lr --dropout --set --stepping --validate "
    "--epochs --steps --minutes --batch --fp32 --start-from --threads --in-memory --checkpoint-every --seed --device "
    "--dry-run",
    "train generator": "data --preset --recogniser --features --mask --split --on-bad --held-out --vgg --out --size "
    "--base-lr --critic-width --accumulate --as-published --set --stepping --epochs --steps --minutes --batch --fp32 "
    "--start-from --dropout --checkpoint-every --watch-every --log-every --seed --device --dry-run",
    "train estimator": "name data --out --judge --steps --minutes --batch --fp32 --seed --device --overwrite --dry-run",
    "train pose": "data --recipe --epochs --on-bad --model --recogniser --vgg --out --steps --minutes --batch "
    "--lr --fp32 --limit --split --seed --device --dry-run",
    "evaluate separability": "data --threshold --radius --real --groups --out --overwrite",
    "evaluate consistency": "data --out --overwrite",
    "evaluate leakage": "synthetic gallery --threshold --fmr --worst --backend --out --overwrite",
    "evaluate verification": "sets --images --recogniser --bf16 --device --channels --mean --std --out --overwrite",
    "evaluate ijb": "meta --features --crops --name --scores --curve --out --overwrite",
    "evaluate report": "data --recogniser --bf16 --device --channels --mean --std --images "
    "--split --threshold --gallery --beside "
    "--accuracy --groups --card --out --overwrite",
    "evaluate table": "results --table --format --out",
    "export onnx": "--out --model --precision --part --opset --masks --check --fetch --overwrite",
    "export tensorrt": "--out --model --profile --timing-cache --workspace --level --overwrite",
    "export tensorrt-rtx": "--out --model --profile --target --level --overwrite",
    "export verify": "file",
}
"""Command -> options and arguments that count whatever else is typed; the others stand in `dependent.TABLE`."""


def test_every_option_counts_always_or_is_in_the_table() -> None:
    found = commands()
    assert set(ALWAYS) == set(found)
    assert set(TABLE) <= set(found)
    for command, one in found.items():
        always, depends = set(ALWAYS[command].split()), {rule.option for rule in TABLE.get(command, ())}
        assert not always & depends, command
        untold = [names_of(p) for p in own_of(one) if not names_of(p) & (always | depends)]
        assert untold == [], f"v2f {command}: say whether these count without others: {untold}"
        known = {name for p in one.params for name in names_of(p)}
        assert always | depends <= known, f"v2f {command} has no {(always | depends) - known}"
        for rule in TABLE.get(command, ()):
            for condition in (*rule.needs, *rule.bars):
                name, _, kind = condition.lstrip("!").partition(":")
                assert name.partition("=")[0] in known, f"v2f {command}: {condition}"
                assert not kind or (kind in KINDS and kind in CALLED)


SAMPLES = {"npy": "a.npy", "vectors": "a.npy", "onnx": "a.onnx", "weights": "a.pth", "pairs": "a.bin"}
"""Kind -> a path that is of it; `a_folder` is of the others."""
RULES = [(command, rule) for command, rules in TABLE.items() for rule in rules]


def type_of(parameter: click.Parameter) -> str:
    """`int`, `float` or another name, whichever click typer carries."""
    own = getattr(parameter, "type", None)
    if own is not None:
        return {"integer": "int"}.get(own.name, str(own.name))
    told = getattr(getattr(parameter, "type_descriptor", None), "annotation", str)
    return str(getattr(told, "__name__", told))


def value_of(parameter: click.Parameter) -> list[str]:
    """What an option is followed by: nothing for a flag, else something of its type."""
    if getattr(parameter, "is_flag", False):
        return []
    return [{"float": "0.25", "int": "3"}.get(type_of(parameter), "a_folder")]


def sides(condition: str) -> tuple[str, str, str]:
    """(name, `=` or `:` or nothing, value)."""
    for sign in "=:":
        name, found, value = condition.partition(sign)
        if found:
            return name, found, value
    return condition, "", ""


def refused(command: str, rule: Dependent) -> Iterator[list[str]]:
    """Ways to type the option in vain: without any need, and beside each bar."""
    parameters = {name: p for p in commands()[command].params for name in names_of(p)}

    def line(options: dict[str, list[str]], arguments: dict[str, str]) -> list[str]:
        words = command.split()
        for p in commands()[command].params:
            if p.param_type_name == "argument":
                given = arguments.get(p.name or "")
                plain = {"int": "3"}.get(type_of(p), "a_folder" if p.name != "name" else "pose")
                words += [given or plain] if (p.required or given) else []
            elif p.required and not set(options) & names_of(p):
                words += [max(p.opts, key=len), *value_of(p)]
        return [*words, *(word for name, value in options.items() for word in (name, *value))]

    own = {rule.option: value_of(parameters[rule.option])}
    if rule.needs:
        options, arguments = dict(own), dict[str, str]()
        for condition in rule.needs:
            name, sign, value = sides(condition.lstrip("!"))
            if condition.startswith("!") and not name.startswith("-"):
                arguments[name] = "a_folder"
            elif condition.startswith("!"):
                options[name] = value_of(parameters[name])
            elif sign == ":" and not name.startswith("-"):
                arguments[name] = (
                    "a_folder" if value in SAMPLES else "a.npy" if value != "dataset" else "a.pth"
                )
        yield line(options, arguments)
    for bar in rule.bars:
        name, sign, value = sides(bar)
        typed = {"=": [value], ":": [SAMPLES.get(value, "a_folder")], "": value_of(parameters[name])}[sign]
        if name.startswith("-"):
            yield line({**own, name: typed}, {})
        else:
            yield line(own, {name: typed[0]})


@pytest.mark.parametrize(
    ("command", "rule"), RULES, ids=[f"{command} {rule.option}" for command, rule in RULES]
)
def test_it_is_refused_before_anything_is_read(
    command: str, rule: Dependent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = list(refused(command, rule))
    assert lines
    for words in lines:
        ended = play(words, {}).ended
        assert ended.startswith(f"ConfigError: {rule.option} says nothing "), (words, ended)
    assert list(tmp_path.iterdir()) == []


def test_the_message_names_both(tmp_path: Path) -> None:
    ended = play(["generate", "--landmarks", "a"], {}).ended
    assert ended == (
        "ConfigError: --landmarks says nothing without --by pose-model: give that as well, or leave it out."
    )
    ended = play(["evaluate", "consistency", "a.npy", "--images", "3"], {}).ended
    assert "--images says nothing without DATA being pictures" in ended

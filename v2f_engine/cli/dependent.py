"""Options that say something only beside others: typed where they would change nothing, they are refused.

An option that is silently ignored is a wrong result with exit 0: `--exclude` beside given vectors was lost protection
from leakage. One table says for every command which options depend on which; `tests/wiring` holds that each option of
each command stands either in it or among those that always count.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from v2f_engine.asked import RUNNING
from v2f_engine.cli import common_options, completion, config, help, saying
from v2f_engine.models.file_hash import is_weights

VECTORS = (".npy", ".npz", ".pt", ".pth", ".safetensors")

KINDS: Mapping[str, Callable[[Path], bool]] = {
    "vectors": lambda path: path.suffix.lower() in VECTORS,
    "faces": lambda path: path.suffix.lower() not in VECTORS,
    "weights": is_weights,
    "dataset": lambda path: not is_weights(path),
    "onnx": lambda path: path.suffix == ".onnx",
    "pairs": lambda path: path.suffix == ".bin",
}
"""What a path is taken for, by its ending alone: nothing is opened to find out whether an option counts."""
CALLED = {
    "vectors": "a file of vectors",
    "faces": "pictures",
    "weights": "weights",
    "dataset": "a dataset",
    "onnx": "an .onnx file",
    "pairs": "a .bin of pairs",
}


@dataclass(frozen=True)
class Dependent:
    """An option and what it depends on.

    Args:
        option: as typed, `--sigma`.
        needs: one of these must be there, if any is named.
        bars: none of these may be there.

    Both hold conditions: `--out` (typed), `--by=pose-model` (its value, typed or not), `--exclude:faces` (a path, or
    one of several, of a kind in `KINDS`), `!--threshold` (not typed). An argument goes by its name: `data:vectors`.
    """

    option: str
    needs: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()


def needing(needs: Sequence[str], *options: str, bars: Sequence[str] = ()) -> tuple[Dependent, ...]:
    """The same for several options."""
    return tuple(Dependent(option, tuple(needs), tuple(bars)) for option in options)


READING = ("--bf16", "--device", "--channels", "--mean", "--std")
"""How a recogniser reads images."""
BY_FEATURES = ("!--by", "--by=centre", "--by=diversity", "--by=vector", "--min-cosine", "--duplicate-cosine")
"""What of `v2f select` reads features."""
GOALS = ("--yaw", "--pitch", "--quality", "--attribute")
STEERED = (
    "--steer", "--iterations", "--steering", "--steer-recogniser", "--steer-rate", "--tolerance", "--min-cosine",
    "--dead-zone",
)  # fmt: skip
FORMS = ("published-2024", "published-2025", "plus")
"""Of steering, which leave left and right open."""
RATE = (Dependent("--fmr", ("--calibration",)), Dependent("--calibration", ("--fmr",)))
SIGMA = (
    *needing((), "--sigma", "--sigma-weights", bars=("--target-cosine", "--perturbation")),
    Dependent("--target-cosine", (), ("--perturbation",)),
)
OF_A_TABLE = needing((), "--seed", "--fmr", "--calibration", bars=("--extend",))
"""What a table that goes on says itself."""
THRESHOLD = (
    Dependent("--fmr", ("--reference",), ("--threshold",)),
    Dependent("--reference", (), ("--threshold",)),
)
ENGINE = (
    Dependent("--recogniser", (), ("--check=0", "--model:onnx")),
    Dependent("--force", (), ("--check=0", "--model:onnx")),
    *needing((), "--part", "--precision", "--opset", "--masks", "--check", "--fetch", bars=("--model:onnx",)),
)

TABLE: Mapping[str, tuple[Dependent, ...]] = {
    "generate": (
        Dependent("--max-cosine", (), ("--fmr",)),
        *RATE,
        *SIGMA,
        Dependent("--source", (), ("--vectors", "--references")),
        Dependent("--mix", (), ("--vectors", "--references")),
        Dependent("--references", (), ("--vectors",)),
        Dependent("--reference-identity", ("--references",)),
        Dependent("--rescale", ("--vectors", "--references", "--source")),
        Dependent("--recogniser", ("--references", "--calibration:faces", "--exclude:faces")),
        Dependent("--unsigned", ("--yaw", "--pitch"), ("--by=pose-model", *(f"--steering={form}" for form in FORMS))),
        *needing(GOALS, *STEERED, bars=("--by=pose-model",)),
        Dependent("--quality-model", ("--quality",), ("--by=pose-model",)),
        Dependent("--pose-model", ("--yaw", "--pitch"), ("--by=pose-model",)),
        *needing((), "--attribute", "--quality", bars=("--by=pose-model",)),
        *needing((), "--yaw", "--pitch", bars=("--landmarks",)),
        Dependent("--landmark-heights", ("--by=pose-model",), ("--landmarks",)),
        Dependent("--landmarks", ("--by=pose-model",)),
        Dependent("--executor-option", ("--executor", "--workers"), ("--executor=inline",)),
        *needing(("--make",), "--select", "--select-recogniser", "--select-min-cosine", "--select-duplicate-cosine"),
        Dependent("--select-quality-model", ("--select=quality",)),
    ),
    "ids sample": (
        Dependent("--max-cosine", (), ("--fmr", "--extend")),
        *RATE,
        *OF_A_TABLE,
        Dependent("--mix", (), ("--extend",)),
        Dependent("--rescale", ("--model",), ("--source=auto",)),
        Dependent("--recogniser", ("--calibration:faces", "--exclude:faces")),
    ),
    "ids plan": (
        Dependent("--max-cosine", (), ("--fmr", "--extend")),
        *RATE,
        *OF_A_TABLE,
        Dependent("--mix", (), ("--extend",)),
        Dependent("--rescale", ("--model",), ("--source=auto",)),
        Dependent("--recogniser", ("--calibration:faces",)),
        Dependent("--overwrite", ("--plot",)),
        Dependent("--steps", ("--pack",)),
        Dependent("--select", ("--make",)),
        Dependent("--format", ("--images", "--make")),
    ),
    "ids fit": (
        Dependent("--recogniser", ("--images",)),
        Dependent("--labels", (), ("--images",)),
        *needing(("--groups",), "--column", "--covariance"),
    ),
    "ids check": (
        Dependent("--threshold", (), ("--fmr",)),
        *RATE,
        Dependent("--recogniser", ("--calibration:faces",)),
        *needing(("--plot",), "--overwrite"),
    ),
    "ids pack": (Dependent("--recogniser", ("--exclude:faces",)),),
    "ids prove": (
        Dependent("--image-cosine", (), ("--fmr",)),
        *RATE,
        *SIGMA,
        Dependent("--rescale", ("--source",), ("--source=auto",)),
    ),
    "evaluate separability": (
        *THRESHOLD,
        Dependent("--labels", ("data:vectors",)),
        Dependent("--recogniser", ("data:faces", "--reference:faces", "--real:faces", "!--threshold")),
        *needing(("data:faces", "--reference:faces", "--real:faces"), "--images", *READING),
        Dependent("--split", ("data:faces",)),
    ),
    "evaluate consistency": (
        Dependent("--labels", ("data:vectors",)),
        *needing(("data:faces",), "--recogniser", "--images", "--split", *READING),
    ),
    "evaluate leakage": (
        Dependent("--labels", ("synthetic:vectors",)),
        Dependent("--gallery-labels", ("gallery:vectors",)),
        *needing(("synthetic:faces", "gallery:faces"), "--recogniser", "--images", *READING),
        Dependent("--split", ("synthetic:faces",)),
    ),
    "evaluate report": THRESHOLD,
    "evaluate table": (
        *needing(("results",), "--name", "--order", "--against"),
        Dependent("--overwrite", ("--out",)),
    ),
    "evaluate ijb": needing(("--crops",), "--recogniser", *READING),
    "convert": (
        *needing(("source:weights",), "--precision"),
        *needing(("source:weights", "target:pairs"), "--overwrite"),
        *needing(("source:dataset",), "--format", "--split", bars=("target:pairs",)),
        *needing(("source:dataset",), "--resize"),
        *needing(("target:pairs",), "--images"),
    ),
    "select": (
        *needing(("--by=quality",), "--quality-model"),
        *needing(BY_FEATURES, "--recogniser", "--channels", "--mean", "--std", "--bf16"),
    ),
    "features": needing((), "--out", "--overwrite", "--threads", "--dry-run", bars=("--probe",)),
    "show": (Dependent("--pictures", (), ("--toml",)), Dependent("--overwrite", ("--pictures",))),
    "env": (Dependent("--model", ("--self-test",)),),
    "train recogniser": (
        Dependent("--se", ("--depth",)),
        Dependent("--held-out-people", (), ("--held-out",)),
        Dependent("--batch-per-gpu", (), ("--batch",)),
        *needing(("--validate",), "--validate-images", "--validate-every"),
    ),
    "train generator": (
        Dependent("--held-out-people", (), ("--held-out",)),
        Dependent("--batch-per-gpu", (), ("--batch",)),
    ),
    "train pose": (Dependent("--batch-per-gpu", (), ("--batch",)),),
    "train estimator": needing(("!data",), "--people", "--render-seed"),
    "export onnx": needing((), "--recogniser", "--force", bars=("--check=0",)),
    "export tensorrt": ENGINE,
    "export tensorrt-rtx": ENGINE,
}  # fmt: skip
"""Command -> its options that do not always count."""


def refuse_idle(context: Any, rules: Sequence[Dependent]) -> None:
    """Refuses an option that was typed where it changes nothing; `context` is click's, whichever click typer has.

    Raises:
        ConfigError: it and what it lacks, or what makes it idle.
    """
    from v2f_engine.errors import ConfigError

    typed = _Typed(context)
    for rule in rules:
        if not typed.is_typed(rule.option):
            continue
        met = [condition for condition in rule.bars if typed.holds(condition)]
        if met:
            raise ConfigError(f"{rule.option} says nothing beside {_words(met)}: leave one of them out.")
        if rule.needs and not any(typed.holds(condition) for condition in rule.needs):
            raise ConfigError(
                f"{rule.option} says nothing without {_words(rule.needs)}: give that as well, or leave it out."
            )


class _Typed:
    """What was typed on a command line."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._names = {name: p.name or "" for p in context.command.params for name in (*p.opts, p.name or "")}

    def is_typed(self, name: str) -> bool:
        parameter = self._names.get(name, "")
        source = self._context.get_parameter_source(parameter)
        given = source is not None and source.name != "DEFAULT"  # what --config says counts as typed
        return given and self._context.params.get(parameter) is not None

    def holds(self, condition: str) -> bool:
        if condition.startswith("!"):
            return not self.is_typed(condition[1:])
        name, colon, kind = condition.partition(":")
        if colon:
            value = self._context.params.get(self._names.get(name, ""))
            paths = value if isinstance(value, list | tuple) else [] if value is None else [value]
            return any(KINDS[kind](Path(path)) for path in paths)
        name, equals, value = condition.partition("=")
        if equals:
            found = self._context.params.get(self._names.get(name, ""))
            return value in map(str, found if isinstance(found, list | tuple) else [found])
        return self.is_typed(name)


def _words(conditions: Sequence[str]) -> str:
    """`--calibration of pictures or --by pose-model`."""

    def one(condition: str) -> str:
        name, colon, kind = condition.partition(":")
        if colon:
            return f"{name if name.startswith('-') else name.upper()} being {CALLED[kind]}"
        if condition.startswith("!"):
            return f"leaving out {condition[1:] if condition[1:].startswith('-') else condition[1:].upper()}"
        return condition.replace("=", " ")

    return " or ".join(map(one, conditions))


class Refusing(TyperGroup):
    """The root of the commands: each looks at `TABLE` first, and says warnings of the engine in a line on stderr."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        found = leaves(self)
        for words, command in found.items():
            _instrument(command, words)
            config.configure(command, tuple(words.split()), lambda: [tuple(one.split()) for one in found])
        common_options.add_to(found.values())
        completion.add_to(found)
        help.add_to(found)


def leaves(group: Any, before: str = "") -> dict[str, Any]:
    """Words -> command, of every command in a group of them and in its groups."""
    found: dict[str, Any] = {}
    for name, one in group.commands.items():
        words = f"{before} {name}".lstrip()
        found |= {words: one} if getattr(one, "commands", None) is None else leaves(one, words)
    return found


def _instrument(command: Any, words: str) -> None:
    original, rules = command.invoke, TABLE.get(words, ())

    def checked(context: Any) -> Any:
        with saying.running(words), config.noted(context, words), warnings.catch_warnings():
            saying.now().asked = RUNNING.get()
            refuse_idle(context, rules)
            warnings.showwarning = _told(warnings.showwarning)
            return original(context)

    command.invoke = checked


def _told(others: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that prints the engine's own as one line, and leaves the rest to `others`."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        from v2f_engine.errors import V2FWarning

        if issubclass(category, V2FWarning):
            if bars := sys.modules.get("tqdm"):  # above a progress bar, not behind it
                bars.tqdm.write(f"warning: {message}", file=sys.stderr)
            else:
                typer.echo(f"warning: {message}", err=True)
        else:
            others(message, category, *where, **more)

    return show

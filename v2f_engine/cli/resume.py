"""`v2f resume`: goes on with what was interrupted, by the command that the folder itself has noted."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli import saying
from v2f_engine.cli.saying import note

if TYPE_CHECKING:
    from v2f_engine.asked import Asked

OUTPUT = {"convert": "target"}
"""Command -> the parameter that names what it writes; `out` of all others."""


@dataclass(frozen=True)
class Begun:
    """Something interrupted.

    Args:
        asked: the command that began it; options that say where it lies name the place as found now.
        origin: where that was read.
    """

    asked: Asked
    origin: Path


def resume(
    place: Annotated[
        Path,
        typer.Argument(
            help="a folder that was being written: a set, a training; or the file that `features`, `ids prove` make"
        ),
    ],
) -> None:
    """Go on with an interrupted command, as the folder itself has noted it: the same bytes as without a pause."""
    from v2f_engine.cli.main import app

    found = begun(place)
    folder = Path(found.asked.folder)
    words = argv(found.asked)
    note(f"going on with: v2f {shlex.join(words)}")
    common = [f"--{name}" for name in ("json", "quiet") if getattr(saying.now(), name)]
    before = Path.cwd()
    if folder.is_dir():
        os.chdir(folder)
    else:
        note(f"{folder}, where it was begun, is gone: names are taken from {before}")
    count = len(found.asked.command.split())
    try:
        code = app([*words[:count], *common, *words[count:]], standalone_mode=False) or 0
    finally:
        os.chdir(before)
    if code:
        raise typer.Exit(code)


def begun(place: Path) -> Begun:
    """What was interrupted at `place`.

    Raises:
        ConfigError: nothing is there, it is whole, it is a stranger's, or nothing says how it was begun.
        DatasetError: a set's own notes were changed.
    """
    from v2f_engine.data.layout import MANIFEST, RUN, WORK

    place = Path(os.path.abspath(place))
    if (place / WORK / RUN).is_file():
        return _ranked(_of_set(place), place)
    if (place / MANIFEST).is_file():
        raise _refused(_whole_set(place))
    if place.is_dir() and (found := _of_training(place)):
        return _ranked(found, place)
    return _ranked(_of_file(place), place)


def argv(asked: Asked) -> list[str]:
    """The command line of a noted command, without `v2f`.

    Raises:
        ConfigError: a command or an option that this version does not have.
    """
    command = commands().get(asked.command)
    parameters = {} if command is None else {parameter.name: parameter for parameter in command.params}
    unknown = sorted(asked.options.keys() - parameters.keys())
    if command is None or unknown:
        what = (
            f"`v2f {asked.command}`" if command is None else f"{', '.join(unknown)} of `v2f {asked.command}`"
        )
        raise _refused(
            f"this version of v2f does not have {what}, by which it was begun: go on with the version that did."
        )
    options: list[str] = []
    arguments: list[str] = []
    for name, parameter in parameters.items():
        value = asked.options.get(name)
        if value is None:
            continue
        if parameter.param_type_name == "argument":
            arguments += map(str, value) if isinstance(value, list) else [str(value)]
        elif isinstance(value, bool):
            options += [parameter.opts[0]] if value else parameter.secondary_opts[:1]
        else:
            for one in value if isinstance(value, list) else [value]:
                options += [parameter.opts[0], str(one)]
    dashes = ["--"] if any(word.startswith("-") for word in arguments) else []
    if dashes:
        return [*asked.command.split(), *options, *dashes, *arguments]
    return [*asked.command.split(), *arguments, *options]


def read_command(path: Path) -> Asked | None:
    """The command noted in a file; None where there is none, or none that can be read."""
    from v2f_engine.asked import Asked

    try:
        return Asked.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None


def commands() -> dict[str, Any]:
    """Words -> command, of all there are."""
    from typer.main import get_command

    from v2f_engine.cli.dependent import leaves
    from v2f_engine.cli.main import app

    return leaves(get_command(app))


def _at(asked: Asked, place: Path, parameter: str = "") -> Asked:
    """The command with its output at `place`, where it lies now."""
    from dataclasses import replace

    names = {parameter or OUTPUT.get(asked.command, "out")}
    if asked.command == "generate" and asked.options.get("extend") is not None:
        names.add("extend")
    return replace(asked, options={**asked.options, **dict.fromkeys(names, str(place))})


def _of_set(place: Path) -> Begun:
    """A set that is not finished: by its note, or as its own settings tell of it."""
    from v2f_engine.asked import Asked
    from v2f_engine.data.layout import COMMAND, RUN, WORK
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.replay import maker_of, options_of

    noted = read_command(place / WORK / COMMAND)
    if noted is not None:
        return Begun(_at(noted, place), place / WORK / COMMAND)
    path = place / WORK / RUN
    manifest = Manifest.load(path)
    maker = maker_of(manifest.settings)
    try:
        options = options_of(manifest, place)
    except ConfigError as error:
        raise _refused(
            f"{place} is not finished, was begun without a note of its command, and its settings do not tell all of "
            f"it: {error} Repeat the command that began it."
        ) from error
    command = commands()[maker]
    from v2f_engine.cli.config import by_name

    parameters = by_name(command)
    given = {parameters[name].name: value for name, value in options.items()}
    if manifest.grown:
        given["extend"] = str(place)
    return Begun(_at(Asked(maker, os.getcwd(), given), place), path)


def _whole_set(place: Path) -> str:
    from v2f_engine.data.layout import MANIFEST
    from v2f_engine.data.records.manifest import Manifest

    manifest = Manifest.load(place / MANIFEST)
    return (
        f"{place} is complete: {manifest.images:,} images of {manifest.plan.identities:,} people; there is nothing "
        f"to go on with. `v2f verify {place}` looks at every byte, `v2f repair` mends."
    )


def _of_training(place: Path) -> Begun | None:
    """A training's folder; None where it is none."""
    from v2f_engine.asked import NAME

    noted = read_command(place / NAME)
    is_training = (place / "settings.json").is_file() or (place / "checkpoints").is_dir()
    if noted is None:
        if not is_training:
            return None
        raise _refused(
            f"{place} is a training's, begun from Python or by an earlier version: nothing in it says with which data. "
            "Repeat the command that began it; it goes on from the newest whole checkpoint."
        )
    if (whole := used_up(place, noted)) is not None:
        raise _refused(whole)
    return Begun(_at(noted, place), place / NAME)


def used_up(place: Path, noted: Asked | None) -> str | None:
    """Why a training is at its end, where its budget is a number of steps."""
    from v2f_engine.train.checkpoint import Checkpoints, head_of
    from v2f_engine.train.folder import SETTINGS

    try:
        settings = json.loads((place / SETTINGS).read_text())
        steps, weights = settings["budget"]["steps"], place / f"{settings['training']}.safetensors"
        last = int(head_of(weights)["training"]["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if steps is None or last < steps:
        return None
    kept = Checkpoints(place / "checkpoints", lambda words: None).steps()
    if kept and kept[-1] < steps:
        return None  # the weights came before the last checkpoint; where there is no checkpoint, all were removed
    return (
        f"{place} is complete: {last:,} of {steps:,} steps, {weights.name}. To train on, repeat `v2f "
        f"{'train' if noted is None else noted.command}` with a longer budget (--steps)."
    )


def _of_file(place: Path) -> Begun:
    """A file, or several, by the record beside them; `proven.work` is of `proven.safetensors`."""
    from v2f_engine.asked import Asked

    stem = place.with_suffix("") if place.suffix == ".work" else place
    for record in sorted(place.parent.glob(".*.v2f.json")):
        out = place.parent / record.name[1 : -len(".v2f.json")]
        if out not in (place, stem) and out.with_suffix("") != stem:
            continue
        try:
            told = json.loads(record.read_bytes())
        except (OSError, ValueError):
            continue
        if not isinstance(told, dict):
            continue
        if told.get("files") is not None:
            raise _refused(
                f"{out} is complete: `v2f {told.get('settings', {}).get('command', '?')}` wrote it."
            )
        noted = Asked.from_json(told.get("asked"))
        if noted is not None:
            return Begun(_at(noted, out), record)
    what = (
        "is there, and nothing in it or beside it"
        if place.exists()
        else "is not there, and nothing beside it"
    )
    raise _refused(
        f"{place} {what} says of a command of v2f that was interrupted. Expected the folder of a set or a training, or "
        "a file that `v2f features` or `v2f ids prove` was making."
    )


def _ranked(found: Begun, place: Path) -> Begun:
    """The same, unless it takes several processes and this is one."""
    ranks = found.asked.ranks
    if ranks > 1 and "WORLD_SIZE" not in os.environ:
        raise _refused(
            f"{place} is trained by {ranks} processes: torchrun --nproc-per-node {ranks} -m v2f_engine "
            f"{shlex.join(argv(found.asked))}"
        )
    return found


def _refused(words: str) -> Exception:
    from v2f_engine.errors import ConfigError

    return ConfigError(words)

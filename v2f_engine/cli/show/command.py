"""The command: looks at what is there, and says it, prints its options or draws it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from v2f_engine.cli.outputs import Overwrite, claimed
from v2f_engine.cli.saying import answer, result, say
from v2f_engine.cli.show.files import file
from v2f_engine.cli.show.sets import finished_set, strangers, unfinished_set
from v2f_engine.cli.show.shown import Shown
from v2f_engine.cli.show.trainings import training


def show(
    place: Annotated[
        Path,
        typer.Argument(
            help="a set, finished or not; a training's folder; a table of identities, weights, a model"
        ),
    ],
    toml: Annotated[
        bool,
        typer.Option(
            "--toml", help="print the options that made it as a file for --config, and nothing else"
        ),
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="PNG of a set's first people, a row each; of an unfinished one as far as it is there"
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what something is: counts, settings, state, measures, licences, how to read it or go on with it."""
    from v2f_engine.errors import ConfigError

    shown = looked_at(place)
    result(kind=shown.kind, place=place, options=shown.options, made_by=shown.command or None, **shown.facts)
    if toml:
        if shown.options is None:
            raise ConfigError(
                f"{place}: {shown.kind} tells no options: only sets of `v2f generate` and `v2f render` and what was "
                "interrupted do."
            )
        text = as_toml(shown.command, shown.options)
        result(toml=text)
        answer(text)
        return
    if pictures is not None:
        shown = _drawn(place, shown, pictures, overwrite)
    for name, words in (("what", f"{place}: {shown.kind}"), *shown.lines):
        say(f"{name:<14} {words}")


def _drawn(place: Path, shown: Shown, out: Path, overwrite: bool) -> Shown:
    """Writes the picture of a set; what was shown, with where it is.

    Raises:
        ConfigError: no set, or one without a picture. DatasetError: a picture is broken.
    """
    from v2f_engine.atomic import write_file
    from v2f_engine.errors import ConfigError

    if shown.sheet is None:
        raise ConfigError(f"{place}: {shown.kind} has no pictures to draw. Expected a set, finished or not.")
    with claimed(overwrite, out, endings=(".png",), tells=True):
        write_file(out, shown.sheet(), "show")
        result(pictures=out)
    lines = tuple((name, words) for name, words in shown.lines if name != "pictures")
    return replace(shown, lines=(*lines, ("pictures", str(out))))


def as_toml(command: str, options: Mapping[str, Any]) -> str:
    """A file for `--config`."""
    lines = [f"[{command.replace(' ', '.')}]"]
    for name, value in options.items():
        lines.append(
            f"{name} = {json.dumps(value, ensure_ascii=False)}"
        )  # TOML has JSON's strings, numbers and lists
    return "\n".join(lines)


def looked_at(place: Path) -> Shown:
    """What is at `place`.

    Raises:
        ConfigError: nothing.
        DatasetError, VectorError, CheckpointError: it cannot be read as what it seems to be.
    """
    from v2f_engine.data.layout import MANIFEST, RUN, WORK
    from v2f_engine.errors import ConfigError

    if not os.path.lexists(place):
        raise ConfigError(f"{place}: nothing is there. Expected a set, a training's folder or a file.")
    if (place / MANIFEST).is_file():
        return finished_set(place)
    if (place / WORK / RUN).is_file():
        return unfinished_set(place)
    if place.is_dir() and ((place / "settings.json").is_file() or (place / "checkpoints").is_dir()):
        return training(place)
    if place.is_file():
        return file(place)
    return strangers(place)

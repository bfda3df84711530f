"""Folders of trainings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from v2f_engine.cli.show.shown import Shown


def training(place: Path) -> Shown:
    """A training's folder: where it is, what it last measured, how to go on."""
    from v2f_engine.asked import NAME
    from v2f_engine.cli.resume import argv, read_command, used_up

    try:
        settings: dict[str, Any] = dict(json.loads((place / "settings.json").read_text()))
    except (OSError, ValueError, TypeError):
        settings = {}
    log, validation = _last_line(place / "log.jsonl"), _last_line(place / "validation.jsonl")
    checkpoints = sorted(path.stem for path in (place / "checkpoints").glob("*.json") if path.stem.isdigit())
    weights = sorted(path.name for path in place.glob("*.safetensors"))
    noted = read_command(place / NAME)
    budget = settings.get("budget") or {}
    asked = ", ".join(f"{value:g} {name}" for name, value in budget.items() if value is not None)
    whole = used_up(place, noted)
    going = whole or (
        f"`v2f resume {place}` goes on" if noted else "repeat the command that began it to go on"
    )
    lines = [
        ("training", f"{settings.get('training', 'unknown')}, budget {asked or 'unknown'}"),
        ("step", f"{log.get('step', 0):,}: {_words(log)}" if log else "none was logged"),
        ("validation", _words(validation) or "none"),
        ("checkpoints", f"{', '.join(str(int(name)) for name in checkpoints) or 'none'}"),
        ("weights", ", ".join(weights) or "none yet"),
        ("state", going),
        *([("made by", f"v2f {shlex.join(argv(noted))}")] if noted else []),
    ]
    facts = {
        "settings": settings, "step": log.get("step", 0), "last": log, "validation": validation,
        "checkpoints": [int(name) for name in checkpoints], "weights": weights, "complete": whole is not None,
    }  # fmt: skip
    return Shown("a training's folder", tuple(lines), facts)


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a log of JSON lines."""
    from v2f_engine.train.loop import read_log

    try:
        lines = read_log(path)
    except OSError:
        return {}
    return lines[-1] if lines else {}


def _words(line: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}"
        for name, value in line.items()
        if name != "step" and isinstance(value, int | float)
    )

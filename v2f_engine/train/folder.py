"""A training's folder belongs to one training: what another one left there is neither gone on from nor overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from v2f_engine.asked import NAME, RUNNING
from v2f_engine.atomic import write_atomically
from v2f_engine.errors import OutputFolderError
from v2f_engine.train.checkpoint import Checkpoints
from v2f_engine.train.distributed import Ranks

SETTINGS = "settings.json"
"""What the training in a folder was begun with."""
MAY_CHANGE = frozenset(
    {"out", "budget", "device", "threads", "checkpoint_every", "log_every", "picture_every", "accumulate", "stepping",
     "start_from", "vgg", "bf16", "validate_every"}
)  # fmt: skip
"""Settings that a resumed training may have otherwise: its length, and how it computes."""
OURS = ("log.jsonl", "validation.jsonl", "curves.png", "generator.safetensors", "pose.safetensors",
        "recogniser.safetensors", "recogniser-best.safetensors")  # fmt: skip


def open_folder(
    folder: Path,
    settings: Mapping[str, Any],
    kind: str,
    group: Ranks,
    absent: Mapping[str, Any] | None = None,
) -> None:
    """Refuses a folder of another training; notes the settings of this one. Rank 0 looks, within the folder's lock.

    Args:
        settings: everything a training was asked for, JSON values.
        kind: which training: `recogniser`, `generator`, `pose`.
        absent: newer settings, with what they were in trainings whose notes do not name them; of newer parts of a
            setting, those parts.

    Raises:
        OutputFolderError: the folder holds a training with other settings (they are listed) or files of no training.
    """
    if not group.first:
        return
    now = refuse_other(folder, settings, kind, absent)
    write_atomically(folder / SETTINGS, (json.dumps(now, indent=1, sort_keys=True) + "\n").encode())
    if (command := RUNNING.get()) is not None:
        write_atomically(folder / NAME, command.to_bytes())


def refuse_other(
    folder: Path, settings: Mapping[str, Any], kind: str, absent: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`open_folder` without its lock and its note: only looks. Returns what would be noted."""
    now = {"training": kind, **json.loads(json.dumps(dict(settings), default=str))}
    before = _begun_with(folder)
    if before is None:
        there = [name for name in OURS if os.path.lexists(folder / name)]
        if there:
            raise OutputFolderError(
                f"{folder} holds {', '.join(there)} and nothing says of which training. Give another --out, or move "
                "them away."
            )
    else:
        before = _filled(before, absent or {}) if before else before
        names = [
            name for name in now if name in before and name not in MAY_CHANGE and before[name] != now[name]
        ]
        if names:
            differing = "; ".join(_both(name, before[name], now[name]) for name in names)
            raise OutputFolderError(
                f"{folder} belongs to a training with other settings: {differing}. Give another --out, or the settings "
                "of that training to go on with it."
            )
    return now


def _begun_with(folder: Path) -> dict[str, Any] | None:
    """Of the training in a folder; that of an earlier version of this engine stands in its checkpoints."""
    try:
        found = json.loads((folder / SETTINGS).read_text())
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        checkpoints = Checkpoints(folder / "checkpoints", lambda line: None)
        steps = checkpoints.steps()
        if not steps:
            return None
        try:
            record = json.loads((checkpoints.folder / f"{steps[-1]:08d}.json").read_text())
            return dict(record.get("settings", {}))
        except (OSError, ValueError):
            return {}
    except ValueError:
        return {}


def _filled(before: dict[str, Any], absent: Mapping[str, Any]) -> dict[str, Any]:
    """`before` with what it does not name, also within those of its values that have parts."""
    whole = {name: value for name, value in absent.items() if not isinstance(value, Mapping)}
    parts = {
        name: {**value, **before[name]}
        for name, value in absent.items()
        if isinstance(value, Mapping) and isinstance(before.get(name), dict)
    }
    return {**whole, **before, **parts}


def _both(name: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        return "; ".join(_both(f"{name}.{key}", before.get(key), now.get(key)) for key in keys)
    return f"{name} is {before!r} there, {now!r} now"

"""What is said after a signal: what is kept, looked up on the disk, and the command that goes on.

    stopped by SIGINT: 40 of 600 images (2 of 30 shards) kept in faces; the same command resumes, or `v2f resume faces`.
      v2f generate --ids 30 --images 20 --out faces

The room that was at work says it where it can (`stopping.saying_what_is_kept`); of others it is read here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from v2f_engine.asked import Asked

NOTHING = "nothing was kept"


def _set(place: Path) -> str:
    """A set that is being written, or was begun before."""
    from v2f_engine.data.layout import RUN, WORK

    return f"what {place} holds so far is kept" if (place / WORK / RUN).is_file() else NOTHING


def _training(place: Path) -> str:
    steps = sorted(path.stem for path in (place / "checkpoints").glob("[0-9]*.json"))
    if not steps:
        return f"no checkpoint was written yet, so nothing of use was kept in {place}"
    return f"the checkpoint of step {int(steps[-1]):,} is kept in {place}"


def _features(place: Path) -> str:
    table = place if place.suffix == ".npy" else place.with_suffix(".features.npy")
    state = table.with_name(f".{table.name}.progress")
    try:
        done = int(json.loads(state.read_bytes())["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return NOTHING
    return f"the features of {done:,} images are kept beside {place}"


def _proof(place: Path) -> str:
    pieces = len(list(place.with_suffix(".work").glob("[0-9]*.safetensors")))
    return f"{pieces:,} finished pieces are kept in {place.with_suffix('.work')}" if pieces else NOTHING


KEPT: Mapping[str, tuple[str, Callable[[Path], str]]] = {
    "generate": ("out", _set),
    "render": ("out", _set),
    "convert": ("target", _set),
    "select": ("out", _set),
    "features": ("out", _features),
    "ids prove": ("out", _proof),
    "train recogniser": ("out", _training),
    "train generator": ("out", _training),
    "train pose": ("out", _training),
}
"""Command -> the parameter that names what it writes, and what says how much of it there is. Others keep nothing."""


def words(error: BaseException, argv: Sequence[str], asked: Asked | None) -> str:
    """Said after a signal.

    Args:
        error: of the signal; its notes are what the room at work said.
        argv: the command line, without `v2f`.
        asked: the command that was running; None where none had begun.
    """
    by = f"stopped by {error}" if error.args else "stopped"
    if asked is None:
        return f"{by}; nothing was begun."
    notes = "; ".join(getattr(error, "__notes__", []))
    parameter, look = KEPT.get(asked.command, ("", lambda place: NOTHING))
    named = asked.options.get(parameter)
    found = notes or (NOTHING if named is None else look(Path(str(named))))
    program = "v2f" if asked.ranks == 1 else f"torchrun --nproc-per-node {asked.ranks} -m v2f_engine"
    again = f"{program} {shlex.join(argv)}"
    if NOTHING in found or "nothing of use" in found:
        return f"{by}; {found}. To begin anew:\n  {again}"
    if "the same command resumes" not in found:
        found += f"; the same command resumes, or `v2f resume {shlex.quote(str(named))}`"
    return f"{by}: {found}.\n  {again}"

"""What a training leaves beside its weights about the data it read: bad rows, and pictures that were resized."""

from __future__ import annotations

import json
from pathlib import Path

from v2f_engine.atomic import write_atomically
from v2f_engine.data.training.rows import TrainingSet

BAD_ROWS = "bad_rows.json"
RESIZED = "resized.json"


def write_notes(data: TrainingSet, out: Path) -> list[str]:
    """Writes `bad_rows.json` and `resized.json` where there is something to tell, of what was read so far.

    Returns:
        lines for people; resizing is told with the first file only.
    """
    said = []
    if len(data.bad):
        write_atomically(out / BAD_ROWS, json.dumps(data.bad.report(), indent=1).encode())
        said.append(f"{len(data.bad)} bad rows so far, named in {out / BAD_ROWS}")
    record = data.resized.record()
    if record:
        if not (out / RESIZED).exists():
            said.append(f"{data.resized.line()} so far, counted in {out / RESIZED}")
        write_atomically(out / RESIZED, json.dumps(record, indent=1).encode())
    return said

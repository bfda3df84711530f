"""The file of everything a run found: JSON lines, each on the disk before its teller goes on.

Many processes append to it, and any of them may be killed between two bytes. So a line is written under a lock, after
a line end if the file lacks one, and flushed to the disk; a torn line costs itself only, and is skipped by readers.

Kinds of record: `run` (begins one: environment, plan), `begin` (a label of a job), `row` (a `protocol.Row`), `note`,
`ceiling`, `job` (how one ended), `end`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import protocol

FILE = "rows.jsonl"
Record = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """Where one run writes what it finds.

    Args:
        path: of the file; made with the first record.
        run: which run, in every record.
    """

    path: Path
    run: str

    def add(self, kind: str, **facts: Any) -> None:
        """Appends a record; it is on the disk when this returns. Text loses the folders of paths in it."""
        record = {"kind": kind, "run": self.run, "at": round(time.time(), 2), **_cleaned(facts)}
        line = json.dumps(record) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def mine(self) -> Iterator[Record]:
        """Records of this run so far."""
        return (record for record in read(self.path) if record.get("run") == self.run)


def read(path: Path) -> list[Record]:
    """All records of a file in order; none if it does not exist. Lines that a killed writer left torn are skipped."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "kind" in record:
            found.append(record)
    return found


def packed(row: protocol.Row) -> Record:
    """Plain values of a row."""
    return asdict(row)


def unpacked(record: Record) -> protocol.Row:
    """The inverse of `packed`."""
    timing = record["timing"]
    return protocol.Row(**{**record, "timing": protocol.Timing(**timing) if timing else None})


_FOLDERS = re.compile(r"(?<![\w.:/-])(?:/[\w.@+~-]+){2,}")


def without_folders(text: str) -> str:
    """Absolute paths cut to their last part: results name no folder of the machine they were made on."""
    return _FOLDERS.sub(lambda match: match.group().rpartition("/")[2], text)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, dict):
        return {name: _cleaned(part) for name, part in value.items()}
    return [_cleaned(part) for part in value] if isinstance(value, (list, tuple)) else value

"""Which shards are committed, as the ledger grows."""

from __future__ import annotations

import os
from pathlib import Path

from v2f_engine.data.records import ledger
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.shard_record import ShardRecord


class Done:
    """Committed shards, read from the ledger as it grows: each look reads only what was added."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self._offsets: dict[str, tuple[int, int]] = {}
        self.records: dict[int, ShardRecord] = {}

    def refresh(self) -> dict[int, ShardRecord]:
        """All records there are now, by shard number."""
        for path in sorted(self._folder.glob(ledger.FILES)):
            try:
                with open(path, "rb") as file:
                    inode = os.fstat(file.fileno()).st_ino
                    before = self._offsets.get(path.name, (inode, 0))
                    offset = before[1] if before[0] == inode else 0
                    file.seek(offset)
                    for line in file.read().splitlines(keepends=True):
                        if not line.endswith(b"\n"):
                            break  # being written; the next look reads it whole
                        offset += len(line)
                        record = ledger.record_of(line, self._plan, str(path))
                        if record is not None:
                            self.records[record.number] = record
            except FileNotFoundError:
                continue
            self._offsets[path.name] = (inode, offset)
        return self.records

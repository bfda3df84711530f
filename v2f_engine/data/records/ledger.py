"""The ledger of a running job: one line per committed shard, appended and fsynced, each with its checksum.

Every writer appends to a file of its own inside the ledger folder; reading takes the union. A line that a
crash tore, or a flipped bit broke, simply does not count: its shard is made again.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from v2f_engine import disk
from v2f_engine.atomic import write_file
from v2f_engine.data.gate.strict_json import canonical, parse
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.shard_record import ShardRecord, check_against_plan
from v2f_engine.errors import DatasetError

FILES = "[!.]*.jsonl"
"""Finished ledgers; what begins with a dot is a replacement being written, gone in the next moment."""


def line_of(record: ShardRecord) -> bytes:
    """`crc32 json\\n`, the checksum in eight hexadecimal digits."""
    body = canonical(record.to_json()).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def record_of(line: bytes, plan: Plan, where: str) -> ShardRecord | None:
    """The record in one line; None when the line is torn or broken."""
    checksum, space, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or not space or checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        record = ShardRecord.from_json(parse(body, where), where)
        check_against_plan(record, record.number, plan, where)
    except DatasetError:
        return None
    return record


def read(folder: Path, plan: Plan) -> dict[int, ShardRecord]:
    """All records in the ledger files of `folder`, by shard number."""
    records: dict[int, ShardRecord] = {}
    for path in sorted(folder.glob(FILES)):
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                record = record_of(line, plan, f"{path}:{number}")
                if record is not None:
                    records[record.number] = record
    return records


class Ledger:
    """The open ledger of one writer.

    Args:
        folder: the ledger folder; exists.
        writer: name of this writer's file.
        records: what the file shall hold to begin with. The file is replaced when it holds anything else,
            so that a torn last line never swallows the next one.
    """

    def __init__(self, folder: Path, writer: str, records: list[ShardRecord]) -> None:
        self.path = folder / f"{writer}.jsonl"
        expected = b"".join(line_of(record) for record in records)
        if not self.path.exists() or self.path.read_bytes() != expected:
            write_file(self.path, expected, writer)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def append(self, record: ShardRecord) -> None:
        """Adds a record, durably. Called last, when the shard's files have their names."""
        disk.write_all(self._descriptor, line_of(record), str(self.path))
        disk.fsync(self._descriptor, str(self.path))

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

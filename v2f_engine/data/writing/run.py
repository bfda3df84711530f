"""A dataset being written: shards are committed one by one, and what is committed stays.

Everything a run needs until it is finished lies in `.v2f/` inside the dataset: `run.json` (the manifest
without records), `ledger/` (one line per committed shard), `staging/`, `lock`. The manifest is the last thing
written; then `.v2f/` goes. A shard is a pure function of (manifest, number), so committing one twice changes
nothing, and a run may be continued by anyone at any time.

Commit of a shard: temporary names, write, fsync, size and sha256 from memory, rename, fsync of the folder,
and only then its line in the ledger. Continuing trusts a ledger line only if size and sha256 still fit.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from v2f_engine import disk
from v2f_engine.data.formats import get_format
from v2f_engine.data.formats.protocol import Place, ReadShard, Sample
from v2f_engine.data.formats.staging import read_staged
from v2f_engine.data.layout import (
    COMMAND,
    GROWN_FROM,
    LEDGER,
    MANIFEST,
    OLD_SHEET,
    QUEUE,
    RUN,
    SCORES,
    SHEET,
    STAGING,
    WORK,
    pack_name,
)
from v2f_engine.data.records.card import write_card
from v2f_engine.data.records.ledger import Ledger
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.pieces import Piece, are_there, attribute_pieces, write_piece
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.writing.contact_sheet import sheet_of_samples
from v2f_engine.data.writing.room import bytes_per_image, sheet_bytes
from v2f_engine.data.writing.sink import ShardSink
from v2f_engine.errors import DatasetError


class DatasetRun:
    """An open dataset. `open_run` makes those that persist, and holds the lock while they live.

    Args:
        root: the dataset's folder.
        manifest: the run's manifest (without records).
        records: committed shards whose hashes fit.
        writer: name of this writer in ledger and temporary names.
        attachments: pieces that are neither images nor an index.
        persistent: whether a committed shard is written to the ledger; otherwise this object alone remembers it, as
            where nothing is stored, or where a shard is recorded by somebody else.
        before_publish: called last before a shard's files get their names; what it raises abandons the shard.
    """

    def __init__(
        self,
        root: Path,
        manifest: Manifest,
        records: dict[int, ShardRecord],
        writer: str = "main",
        *,
        attachments: tuple[Piece, ...] = (),
        persistent: bool = True,
        before_publish: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.format = get_format(manifest.format)
        extension = "png" if manifest.encoder.get("codec") == "png" else "jpg"
        self.place = Place(root, manifest.plan, extension, writer)
        self._records = records
        self._attachments = attachments
        self._persistent = persistent
        self._before_publish = before_publish
        self._ledger: Ledger | None = None

    @property
    def records(self) -> Mapping[int, ShardRecord]:
        """The committed shards, by number."""
        return MappingProxyType(self._records)

    def missing(self) -> list[int]:
        """Numbers of the shards still to be made."""
        return [number for number in range(self.manifest.plan.shards) if number not in self._records]

    def sink(self, number: int) -> ShardSink:
        """Opens shard `number` for writing."""
        return ShardSink(self.place, self.format, self.manifest.plan.shard(number))

    def commit(self, sink: ShardSink) -> ShardRecord:
        """Prepares, publishes and records a filled sink; from here on the shard is committed."""
        record = sink.prepare()
        self._refuse_changed(record)
        self._before_publish()
        sink.publish()
        if self._persistent:
            if self._ledger is None:
                self._ledger = self._open_ledger()
            self._ledger.append(record)
        self._records[record.number] = record
        return record

    def _refuse_changed(self, record: ShardRecord) -> None:
        """Raises DatasetError for a shard that a growing set had, broken meanwhile, whose images are others here."""
        if record.number not in self._before_growth:
            return
        if record.content != self._before_growth[record.number]:
            raise DatasetError(
                f"{self.root}: shard {record.number} was broken while the set is being extended, and its images, made "
                "again here, are others than before. Restore its files from a copy, or go on where the set was made."
            )

    @cached_property
    def _before_growth(self) -> dict[int, str]:
        """Shard -> hash of its images, of the finished set that this run makes larger; empty for every other run."""
        former = self.root / WORK / GROWN_FROM
        if not self.manifest.grown or not former.is_file():
            return {}
        return {shard.number: shard.content for shard in Manifest.load(former).shards}

    def _open_ledger(self) -> Ledger:
        """This writer's ledger, saying what `records` says."""
        folder = self.root / WORK / LEDGER
        disk.make_folder(folder)
        return Ledger(folder, self.place.writer, [self._records[number] for number in sorted(self._records)])

    def rewrite_ledger(self) -> None:
        """Leaves one ledger file that says what `records` says: what the hashes did not confirm is gone."""
        self._open_ledger().close()
        for path in sorted((self.root / WORK / LEDGER).iterdir()):
            if path.name != f"{self.place.writer}.jsonl":
                disk.remove(path)

    def adopt(self, records: Mapping[int, ShardRecord]) -> None:
        """Takes over shards that workers committed, where their files are there with the recorded sizes."""
        for number, record in records.items():
            if number not in self._records and are_there(self.root, record.pieces, full=False):
                self._records[number] = record

    def remove_temporaries(self) -> None:
        """Removes what dead writers left under temporary names; no other writer may be at work."""
        remove_orphans(self.root)

    def bytes_needed(self) -> int:
        """Estimate of the bytes still to be written: from the committed shards, or from what faces usually take."""
        per_image = self._bytes_per_image() or bytes_per_image(self.manifest.encoder)
        images = self.manifest.plan.images
        left = images - sum(record.count for record in self._committed())
        return int(per_image * (left + images * self.format.staged)) + sheet_bytes(self.manifest.plan)

    def bytes_for_next(self) -> int:
        """Estimate of what the next step writes: a shard, or the assembled file; 0 when unknown."""
        per_image = self._bytes_per_image() or 0.0
        if len(self._records) < self.manifest.plan.shards:
            return int(per_image * self.manifest.plan.images / self.manifest.plan.shards)
        return int(per_image * self.manifest.plan.images * self.format.staged)

    def _bytes_per_image(self) -> float | None:
        records = self._committed()
        done = sum(record.count for record in records)
        return sum(piece.bytes for record in records for piece in record.pieces) / done if done else None

    def _committed(self) -> list[ShardRecord]:
        """The records at one moment: whoever draws asks for room while a thread commits."""
        return list(self._records.copy().values())

    def check_room(self) -> None:
        """Raises ENOSPC before minutes of work go into something that cannot fit."""
        if self.format.stores and disk.free_bytes(self.root) < self.bytes_for_next():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))

    def samples(self, number: int) -> Iterator[Sample]:
        """The samples of a committed shard, in order."""
        if self.format.staged and (self.root / pack_name(number)).exists():
            return read_staged(self.root, number)
        return self.format.read_shard(self.place, self._records[number])

    def finish(self) -> Manifest:
        """Assembles what is left to assemble, draws the contact sheet, writes card and manifest, clears `.v2f/`.

        Raises:
            RuntimeError: a shard is missing.
            DiskFull, OutputFolderError: what was committed stays.
        """
        if self.missing():
            raise RuntimeError(f"finish with {len(self.missing())} shards missing")
        with disk.named_errors(self.root, self.bytes_needed):
            self.check_room()
            manifest = self.assemble()
            disk.remove(self.root / OLD_SHEET)  # of an earlier version that ended between sheet and manifest
            write_card(self.root, manifest, writer=self.place.writer)
            manifest.save(self.root / MANIFEST, self.place.writer)
            self.clear()
        return manifest

    def assemble(self) -> Manifest:
        """Everything `finish` does before the manifest is written; doing it again changes nothing."""
        finished = self.format.finish(self.place, self._records, self.samples)
        shards = {
            number: replace(record, pieces=finished.shards[number] + attribute_pieces(record.pieces))
            for number, record in self._records.items()
        }
        files = (*finished.files, *self._attachments, self.draw_sheet(self.samples))
        return self.manifest.finished(shards, files)

    def draw_sheet(self, read: ReadShard, name: str = SHEET) -> Piece:
        """Writes the contact sheet of the samples that `read` yields."""
        disk.make_folder((self.root / name).parent)
        return write_piece(self.root, name, sheet_of_samples(read, self.manifest.plan), self.place.writer)

    def clear(self) -> None:
        """Empties `.v2f/` but for the lock: the manifest has taken the place of all of it."""
        self.close()
        for name in (QUEUE, LEDGER, STAGING, SCORES, COMMAND, RUN, GROWN_FROM):
            disk.remove(self.root / WORK / name)

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def remove_orphans(root: Path) -> None:
    """Removes what dead writers left in a dataset under temporary names."""
    for folder in (root, *(entry for entry in root.iterdir() if entry.is_dir()), *(root / WORK).iterdir()):
        disk.remove_orphans(folder)

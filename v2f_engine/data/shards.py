"""A dataset being written: shards are committed one by one, and what is committed stays.

Everything a run needs until it is finished lies in `.v2f/` inside the dataset: `run.json` (the manifest
without records), `ledger/` (one line per committed shard), `staging/`, `lock`. The manifest is the last thing
written; then `.v2f/` goes. A shard is a pure function of (manifest, number), so committing one twice changes
nothing, and a run may be continued by anyone at any time.

Commit of a shard: temporary names, write, fsync, size and sha256 from memory, rename, fsync of the folder,
and only then its line in the ledger. Continuing trusts a ledger line only if size and sha256 still fit.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from v2f_engine.data import fs, ledger, lock
from v2f_engine.data.card import write_card
from v2f_engine.data.contact_sheet import SHEET, sheet_of_samples
from v2f_engine.data.formats import Place, ReadShard, Sample, get_format
from v2f_engine.data.formats.staging import STAGING, WORK, read_staged
from v2f_engine.data.manifest import MANIFEST, Manifest, ShardRecord, differences
from v2f_engine.data.pieces import Piece, check_piece
from v2f_engine.data.sidecar import FOLDER as ATTRIBUTES
from v2f_engine.data.sink import ShardSink
from v2f_engine.errors import OutputFolderError

RUN = "run.json"
LEDGER = "ledger"
QUEUE = "queue"
"""What several workers share (`scale.queue`); gone as soon as another run opens the folder, so that workers of a
coordinator that died stop."""

Attachments = Mapping[str, Callable[[], bytes]]
"""Further files of a dataset, by name; each function depends on the dataset's settings only."""

IDENTITIES = "identities.safetensors"
"""The attachment that holds the identity vectors of a generated dataset."""

ATTACHED = frozenset({IDENTITIES})
"""Names of attachments: no image depends on them, and no format writes them."""


class Run:
    """An open dataset. Made by `open_run`; holds the lock while it lives.

    Args:
        root: the dataset's folder.
        manifest: the run's manifest (without records).
        records: committed shards whose hashes fit.
        writer: name of this writer in ledger and temporary names.
        attachments: pieces that are neither images nor an index.
    """

    def __init__(
        self,
        root: Path,
        manifest: Manifest,
        records: dict[int, ShardRecord],
        writer: str,
        attachments: tuple[Piece, ...] = (),
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.format = get_format(manifest.format)
        extension = "png" if manifest.encoder.get("codec") == "png" else "jpg"
        self.place = Place(root, manifest.plan, extension, writer)
        self._records = records
        self._attachments = attachments
        self._ledger: ledger.Ledger | None = None

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
        """Prepares, publishes and records a filled sink."""
        record = sink.prepare()
        sink.publish()
        self.record(record)
        return record

    def record(self, record: ShardRecord) -> None:
        """Adds a published shard to the ledger; from here on it is committed."""
        if self._ledger is None:
            folder = self.root / WORK / LEDGER
            fs.make_folder(folder)
            mine = [self._records[number] for number in sorted(self._records)]
            self._ledger = ledger.Ledger(folder, self.place.writer, mine)
        self._ledger.append(record)
        self._records[record.number] = record

    def rewrite_ledger(self) -> None:
        """Leaves one ledger file that says what `records` says: what the hashes did not confirm is gone."""
        folder = self.root / WORK / LEDGER
        fs.make_folder(folder)
        mine = [self._records[number] for number in sorted(self._records)]
        ledger.Ledger(folder, self.place.writer, mine).close()
        for path in sorted(folder.iterdir()):
            if path.name != f"{self.place.writer}.jsonl":
                fs.remove(path)

    def adopt(self, records: Mapping[int, ShardRecord]) -> None:
        """Takes over shards that workers committed, where their files are there with the recorded sizes."""
        for number, record in records.items():
            if number not in self._records and is_there(self.root, record, full=False):
                self._records[number] = record

    def remove_temporaries(self) -> None:
        """Removes what dead writers left under temporary names; no other writer may be at work."""
        _remove_orphans(self.root)

    def bytes_needed(self) -> int | None:
        """Estimate of the bytes still to be written, from the committed shards; None before the first."""
        per_image = self._bytes_per_image()
        if per_image is None:
            return None
        images = self.manifest.plan.images
        left = images - sum(record.count for record in self._records.values())
        return int(per_image * (left + images * self.format.staged))

    def bytes_for_next(self) -> int:
        """Estimate of what the next step writes: a shard, or the assembled file; 0 when unknown."""
        per_image = self._bytes_per_image() or 0.0
        if len(self._records) < self.manifest.plan.shards:
            return int(per_image * self.manifest.plan.images / self.manifest.plan.shards)
        return int(per_image * self.manifest.plan.images * self.format.staged)

    def _bytes_per_image(self) -> float | None:
        done = sum(record.count for record in self._records.values())
        return sum(p.bytes for r in self._records.values() for p in r.pieces) / done if done else None

    def check_room(self) -> None:
        """Raises ENOSPC before minutes of work go into something that cannot fit."""
        if self.format.stores and fs.free_bytes(self.root) < self.bytes_for_next():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))

    def samples(self, number: int) -> Iterator[Sample]:
        """The samples of a committed shard, in order."""
        if self.format.staged:
            return read_staged(self.root, number)
        return self.format.read_shard(self.place, self._records[number])

    def finish(self) -> Manifest:
        """Assembles what is left to assemble, draws the contact sheet, writes card and manifest, clears `.v2f/`.

        Raises:
            RuntimeError: a shard is missing.
        """
        if self.missing():
            raise RuntimeError(f"finish with {len(self.missing())} shards missing")
        manifest = self.assemble()
        write_card(self.root, manifest, writer=self.place.writer)
        manifest.save(self.root / MANIFEST, self.place.writer)
        self.clear()
        return manifest

    def assemble(self) -> Manifest:
        """Everything `finish` does before the manifest is written; doing it again changes nothing."""
        finished = self.format.finish(self.place, self._records, self.samples)
        shards = {
            number: replace(record, pieces=finished.shards[number] + attribute_pieces(record))
            for number, record in self._records.items()
        }
        files = (*finished.files, *self._attachments, self.draw_sheet(self.samples))
        return self.manifest.finished(shards, files)

    def draw_sheet(self, read: ReadShard) -> Piece:
        """Writes the contact sheet of the samples that `read` yields."""
        text = sheet_of_samples(read, self.manifest.plan)
        sheet = fs.write_file(self.root / SHEET, text, self.place.writer)
        return Piece("file", SHEET, sheet.bytes, sheet.sha256)

    def clear(self) -> None:
        """Empties `.v2f/` but for the lock: the manifest has taken the place of all of it."""
        self.close()
        for name in (QUEUE, LEDGER, STAGING, RUN):
            fs.remove(self.root / WORK / name)

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def attribute_pieces(record: ShardRecord) -> tuple[Piece, ...]:
    return tuple(piece for piece in record.pieces if piece.name.startswith(f"{ATTRIBUTES}/"))


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Holds the dataset's lock inside the block, and makes its folder if need be.

    Raises:
        OutputFolderError: another process holds it, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with fs.named_errors(root):
            fs.make_folder(root)
            stack.enter_context(lock.exclusive(root / WORK / "lock", root))
        yield


@contextlib.contextmanager
def open_run(
    root: Path, manifest: Manifest, *, writer: str = "main", attachments: Attachments | None = None
) -> Iterator[Run | Manifest]:
    """Opens `root` for writing what `manifest` describes: a new run, a continued one, or a finished one.

    Args:
        root: output folder; made if need be.
        manifest: without records.
        writer: name of this writer.
        attachments: files that are written beside the images before the first shard.

    Yields:
        a `Run` that knows which shards are missing; or, when the dataset is finished, its `Manifest`.

    Raises:
        OutputFolderError: the folder belongs to another run (the message lists the differing settings), holds
            foreign files, is being written by another process, or cannot be written.
    """
    with fs.named_errors(root):
        if root.exists() and not root.is_dir():
            raise OutputFolderError(f"{root} is a file; expected a folder, or nothing yet.")
        _refuse_foreign(root)
    with locked(root):
        state = _state(root, manifest, writer, attachments or {})
        try:
            yield state
        finally:
            if isinstance(state, Run):
                state.close()


def _state(root: Path, manifest: Manifest, writer: str, attachments: Attachments) -> Run | Manifest:
    work = root / WORK
    if (root / MANIFEST).exists():
        found = Manifest.load(root / MANIFEST)
        _refuse_other(root, found, manifest)
        with fs.named_errors(root):
            Run(root, found, {}, writer).clear()
            _remove_orphans(root)
        return found
    if (work / RUN).exists():
        found = Manifest.load(work / RUN)
        _refuse_other(root, found, manifest)
        manifest = found  # keeps the versions of the software that began it
        records = _intact(root, ledger.read(work / LEDGER, manifest.plan))
    else:
        _refuse_foreign(root)
        with fs.named_errors(root):
            for name in (LEDGER, STAGING):
                fs.remove(work / name)
            manifest.save(work / RUN, writer)
        records = {}
    with fs.named_errors(root):
        fs.remove(work / QUEUE)
        _remove_orphans(root)
        attached = tuple(attach(root, name, content(), writer) for name, content in attachments.items())
    return Run(root, manifest, records, writer, attached)


def attach(root: Path, name: str, content: bytes, writer: str) -> Piece:
    """Writes an attachment, unless it is there already; returns its piece."""
    piece = Piece("file", name, len(content), hashlib.sha256(content).hexdigest())
    if check_piece(root, piece, full=True) is not None:
        fs.write_file(root / name, content, writer)
    return piece


def is_there(root: Path, record: ShardRecord, *, full: bool) -> bool:
    """Whether all pieces of a record are there with the recorded size and, if `full`, sha256."""
    return all(check_piece(root, piece, full=full) is None for piece in record.pieces)


def _intact(root: Path, records: Mapping[int, ShardRecord]) -> dict[int, ShardRecord]:
    """The records whose pieces are all there with the recorded size and sha256."""
    return {number: record for number, record in sorted(records.items()) if is_there(root, record, full=True)}


def _remove_orphans(root: Path) -> None:
    for folder in (root, *(entry for entry in root.iterdir() if entry.is_dir()), *(root / WORK).iterdir()):
        fs.remove_orphans(folder)


def _refuse_other(root: Path, found: Manifest, asked: Manifest) -> None:
    differing = differences(found, asked)
    if differing:
        raise OutputFolderError(
            f"{root} belongs to a run with other settings: {'; '.join(differing)}. Repeat the command with "
            "the settings of that run to continue it, or choose another output folder."
        )


def _refuse_foreign(root: Path) -> None:
    """Refuses a folder with files in it that no run of ours accounts for; nothing is touched before."""
    if not root.is_dir() or (root / MANIFEST).exists() or (root / WORK / RUN).exists():
        return
    names = sorted(entry.name for entry in root.iterdir() if entry.name != WORK)
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise OutputFolderError(
            f"{root} is not empty and holds no {MANIFEST}: found {shown}. Expected an empty folder, a new "
            "one, or one of an earlier run; choose another output folder."
        )

"""Opening a folder to write a dataset: new, begun or finished; ours, another run's or a stranger's."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from v2f_engine import disk
from v2f_engine.asked import RUNNING
from v2f_engine.atomic import write_file
from v2f_engine.data.layout import COMMAND, LEDGER, LOCK, MANIFEST, QUEUE, RUN, SCORES, STAGING, WORK
from v2f_engine.data.records import ledger
from v2f_engine.data.records.manifest import Manifest, differences
from v2f_engine.data.records.pieces import Piece, are_there, check_piece, write_piece
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.writing.grow import base_of, begin
from v2f_engine.data.writing.lock import exclusive
from v2f_engine.data.writing.run import DatasetRun, remove_orphans
from v2f_engine.errors import DatasetError, OutputFolderError

SHOWN = 5
"""Differing settings that are named; the rest are hashes and counts that follow from them."""

Attachments = Mapping[str, Callable[[], bytes]]
"""Further files of a dataset, by name; each function depends on the dataset's settings only."""


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Holds the dataset's lock inside the block, and makes its folder if need be.

    Raises:
        OutputFolderError: another process holds it, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with disk.named_errors(root):
            disk.make_folder(root)
            stack.enter_context(exclusive(root / WORK / LOCK, root))
        yield


@contextlib.contextmanager
def open_run(
    root: Path, manifest: Manifest, *, writer: str = "main", attachments: Attachments | None = None
) -> Iterator[DatasetRun | Manifest]:
    """Opens `root` for writing what `manifest` describes: a new run, a continued one, or a finished one.

    Args:
        root: output folder; made if need be.
        manifest: without records.
        writer: name of this writer.
        attachments: files that are written beside the images before the first shard.

    Yields:
        a `DatasetRun` that knows which shards are missing; or, when the dataset is finished, its `Manifest`.

    Raises:
        OutputFolderError: the folder belongs to another run (the message lists the differing settings), holds
            foreign files, is being written by another process, or cannot be written.
    """
    with disk.named_errors(root):
        _refuse_file(root)
        _refuse_foreign(root)
    with locked(root):
        state = _state(root, manifest, writer, attachments or {})
        try:
            yield state
        finally:
            if isinstance(state, DatasetRun):
                state.close()


def _state(root: Path, manifest: Manifest, writer: str, attachments: Attachments) -> DatasetRun | Manifest:
    work = root / WORK
    base = base_of(root, manifest)
    found, records = looked_at(root, manifest)
    if base is not None:
        begin(root, base, manifest, writer)
    if found is not None:
        with disk.named_errors(root):
            DatasetRun(root, found, {}, writer).clear()
            remove_orphans(root)
        return found
    new = not (work / RUN).exists()
    if not new:
        manifest = Manifest.load(work / RUN)  # keeps the versions of the software that began it
    with disk.named_errors(root):
        for name in (LEDGER, STAGING, SCORES) if new else ():
            disk.remove(work / name)
        if (command := RUNNING.get()) is not None:
            write_file(work / COMMAND, command.to_bytes(), writer)
        if new:  # after the note: what can be seen to be begun can be resumed
            manifest.save(work / RUN, writer)
        disk.remove(work / QUEUE)
        remove_orphans(root)
        attached = tuple(attach(root, name, content(), writer) for name, content in attachments.items())
    return DatasetRun(root, manifest, records, writer, attachments=attached)


def looked_at(
    root: Path, manifest: Manifest, *, full: bool = True
) -> tuple[Manifest | None, dict[int, ShardRecord]]:
    """What lies at `root` of the set that `manifest` describes; only reads.

    Args:
        full: whether the bytes of committed shards are hashed, or their sizes looked at.

    Returns:
        The finished set's manifest, or None; and of an unfinished one the records of intact shards, by number.

    Raises:
        OutputFolderError: a file, foreign files, or a set of other settings.
        DatasetError: a finished set that is to grow and is broken.
    """
    _refuse_file(root)
    if (base := base_of(root, manifest)) is not None:
        records = {record.number: record for record in base.shards}
        return None, _refuse_broken(root, records, _intact(root, records, full))
    if (root / MANIFEST).exists():
        found = Manifest.load(root / MANIFEST)
        _refuse_other(root, found, manifest)
        return found, {}
    if (root / WORK / RUN).exists():
        begun = Manifest.load(root / WORK / RUN)
        records = ledger.read(root / WORK / LEDGER, begun.plan)
        _refuse_other(root, begun, manifest, " No shard of that run was finished: its folder can be deleted, to begin "
                      "anew." if not records else "")  # fmt: skip
        return None, _intact(root, records, full)
    _refuse_foreign(root)
    return None, {}


def attach(root: Path, name: str, content: bytes, writer: str) -> Piece:
    """Writes an attachment, unless it is there already; returns its piece."""
    piece = Piece("file", name, len(content), hashlib.sha256(content).hexdigest())
    if not check_piece(root, piece, full=True):
        return piece
    disk.make_folder((root / name).parent)
    return write_piece(root, name, content, writer)


def _intact(root: Path, records: Mapping[int, ShardRecord], full: bool) -> dict[int, ShardRecord]:
    """The records whose pieces are all there with the recorded size, and sha256 where `full`."""
    return {
        number: record
        for number, record in sorted(records.items())
        if are_there(root, record.pieces, full=full)
    }


def _refuse_broken(
    root: Path, records: Mapping[int, ShardRecord], intact: dict[int, ShardRecord]
) -> dict[int, ShardRecord]:
    """`intact`, if that is all: what a set that grows makes anew is not compared with what it was, as repair does."""
    if broken := sorted(records.keys() - intact.keys()):
        shown = ", ".join(map(str, broken[:SHOWN])) + (", ..." if len(broken) > SHOWN else "")
        raise DatasetError(
            f"{root}: {len(broken):,} of its {len(records):,} shards are broken (shard {shown}), and growing leaves "
            f"what is there as it is. Mend it first, `v2f repair {root}` or the command that made it; then extend it."
        )
    return intact


def _refuse_file(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise OutputFolderError(f"{root} is a file; expected a folder, or nothing yet.")


def _refuse_other(root: Path, found: Manifest, asked: Manifest, beside: str = "") -> None:
    differing = differences(found, asked)
    larger = asked.plan.identities > found.plan.identities
    grows = " With --extend a finished set grows to more identities." if larger and found.complete else ""
    further = f"; and {len(differing) - SHOWN} more that follow from these" if len(differing) > SHOWN else ""
    if differing:
        raise OutputFolderError(
            f"{root} belongs to a run with other settings: {'; '.join(differing[:SHOWN])}{further}. Repeat the command "
            "with the settings of that run to continue it, or choose another output folder; where `runner` differs and"
            " you changed nothing, this machine or version computes another way, and only another folder will do."
            f"{grows}{beside}"
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

"""Every step that changes the disk, in one place, and what the operating system's refusals mean.

Files that appear whole or not at all are made of these steps in `atomic`. Each step can be counted, failed and
killed by tests through `before`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from v2f_engine.errors import DiskFull, OutputFolderError

TEMPORARY = ".v2f-tmp."
"""Prefix of every temporary name; whatever carries it and is not in use is an orphan of a killed run."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""No more can be written here. EIO among them: file systems over a network, and those that promise room before they
have it, report a full disk so when they write back; on a disk that fails there is no room either."""
_REFUSED = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
)

REMOVAL_TURNS = 100
"""Tries to remove a folder that others still use. A worker has two files there, so a turn or two is the rule."""

StepHook = Callable[[str, str], None]


def _no_hook(operation: str, path: str) -> None:
    """Stands in for the hook of the fault-injection tests."""


before: StepHook = _no_hook
"""Called with (operation, path) before each step. Tests replace it to kill or fail at the k-th one."""


def temporary_path(path: Path, writer: str) -> Path:
    """The name under which `writer` prepares `path`: same folder, so that the rename is atomic."""
    return path.with_name(f"{TEMPORARY}{writer}.{path.name}")


def write_all(descriptor: int, data: bytes | memoryview, path: str) -> None:
    """Writes all of `data`; a short write continues where it stopped."""
    view = memoryview(data)
    while view:
        before("write", path)
        view = view[os.write(descriptor, view) :]


def fsync(descriptor: int, path: str) -> None:
    before("fsync", path)
    os.fsync(descriptor)


def fsync_folder(folder: Path) -> None:
    """Makes renames and removals inside `folder` durable."""
    before("fsync-folder", str(folder))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Flushes the whole file system of `folder`: one call instead of an fsync per small file.

    10,000 files of 7 KB take 0.1 s this way and 3 s with one fsync each (0.3 ms on ext4).
    """
    before("syncfs", str(folder))
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    before("rename", str(target))
    os.replace(source, target)


def make_folder(folder: Path) -> None:
    if not folder.is_dir():
        before("mkdir", str(folder))
        folder.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Removes a file or a whole folder; what is not there needs no removing.

    A folder may be in use while it goes: the workers of a killed coordinator take their last note out of its queue, or
    put one in, just then. What vanished is gone, and what was put in is removed by the next turn.
    """
    if path.is_dir() and not path.is_symlink():
        before("rmtree", str(path))
        for turn in range(REMOVAL_TURNS):
            try:
                shutil.rmtree(path)
                return
            except OSError as error:
                if not path.exists():
                    return
                vanished_or_filled = error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)
                if not vanished_or_filled or turn == REMOVAL_TURNS - 1:
                    raise
    elif path.exists() or path.is_symlink():
        before("unlink", str(path))
        path.unlink(missing_ok=True)


def remove_orphans(folder: Path) -> int:
    """Removes the temporaries that killed runs left directly inside `folder`; returns how many."""
    if not folder.is_dir():
        return 0
    orphans = sorted(entry for entry in folder.iterdir() if entry.name.startswith(TEMPORARY))
    for orphan in orphans:
        remove(orphan)
    return len(orphans)


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the file system of `folder` (or its nearest parent)."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def refuse_unwritable(folder: Path) -> None:
    """Looks, before any work, whether `folder` can be made or written; changes nothing.

    Raises:
        OutputFolderError: it is a file, lies below one, or neither it nor its nearest parent can be written.
    """
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OutputFolderError(f"Cannot write {folder}: {place} is a file. Give another --out.")
    if not os.access(place, os.W_OK | os.X_OK):
        why = (
            "is on a file system that is read-only" if _is_read_only(place) else "is not this user's to write"
        )
        raise OutputFolderError(
            f"Cannot write {folder}: {place} {why}. Give --out, a folder that this user may write, or correct its "
            "permissions."
        )


def _is_read_only(place: Path) -> bool:
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def in_words(size: float) -> str:
    """Bytes as people read them: `12.3 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


@contextlib.contextmanager
def named_errors(root: Path, needed: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Turns the operating system's refusals inside the block into DiskFull or OutputFolderError.

    Args:
        root: the output folder, for the message.
        needed: bytes still to be written, asked only when the disk is full; None when unknown.
    """
    try:
        yield
    except (DiskFull, OutputFolderError):
        raise
    except OSError as error:
        where = error.filename or root
        if error.errno in FULL:
            need = needed()
            wanted = (
                f"about {in_words(need)} ({need} bytes) more needed"
                if need is not None
                else "its records need some kB"
            )
            free = free_bytes(root)
            full = DiskFull(
                f"Cannot write {where}: {error.strerror}; {wanted}, {in_words(free)} ({free} bytes) free. "
                f"Every committed shard in {root} is intact. Make room (or mend the disk) and run the same "
                "command again: it continues with the first missing shard."
            )
            full.errno = error.errno  # not an argument: OSError would begin the message with it
            raise full from error
        if error.errno in _REFUSED:
            raise OutputFolderError(
                f"Cannot write {where}: {error.strerror}. Expected a folder that this user may write; choose "
                "another output folder or correct its permissions."
            ) from error
        raise

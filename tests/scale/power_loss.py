"""Power loss, modelled: which states may a disk be in, and does a resumed run accept a wrong shard in any?

    python power_loss.py FORMAT STATES SEED [careless]

Records every change that a writer makes (creations, bytes, renames, removals, fsyncs), then draws legal states
after a crash at a random point: bytes that no fsync covered may be missing, cut, or zeros; names that no fsync of
their folder covered may have happened or not, each on its own. (Like ALICE, OSDI'14, and harsher than ext4.)
Each state is put on disk and opened as a resumed run would. Accepted: a shard whose record the run believes.
Prints one line of JSON; `by_name` counts what a reader who trusts existing files would have accepted wrongly.
"""

from __future__ import annotations

import builtins
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]

from stub_people import make_batches, tree  # noqa: E402

from v2f_engine import disk  # noqa: E402
from v2f_engine.data import Encoder, Plan, write_dataset  # noqa: E402
from v2f_engine.data.formats import get_format  # noqa: E402
from v2f_engine.data.records.manifest import Manifest, software_versions  # noqa: E402
from v2f_engine.data.records.verify import verify_manifest  # noqa: E402
from v2f_engine.data.writing import contact_sheet  # noqa: E402
from v2f_engine.data.writing.open_run import open_run  # noqa: E402
from v2f_engine.errors import V2FError  # noqa: E402

PLAN = Plan.of(3, 2, 2)
ENCODER = Encoder(quality=80)
SETTINGS = {"seed": 3}


@dataclass
class Write:
    file: int
    offset: int
    data: bytes
    durable_at: int | None = None


@dataclass
class Name:
    """A change of a folder: `added` gets `file` (None: a folder), `removed` goes; both or neither happen."""

    added: str | None
    file: int | None
    removed: str | None
    durable_at: int | None = None


@dataclass
class Log:
    root: Path
    changes: list[Write | Name] = field(default_factory=list)
    inode: dict[int, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    files: int = 0

    def relative(self, path: Any) -> str | None:
        text = os.path.abspath(os.fspath(path))
        return os.path.relpath(text, self.root) if text.startswith(f"{self.root}{os.sep}") else None

    def persist(self, choose: Callable[[Write | Name], bool]) -> None:
        for change in self.changes:
            if change.durable_at is None and choose(change):
                change.durable_at = len(self.changes)


@contextmanager
def recording(log: Log) -> Iterator[None]:
    """Inside the block, what this process changes below `log.root` is recorded."""
    real = {
        name: getattr(os, name) for name in ("open", "write", "pwrite", "fsync", "replace", "mkdir", "rmdir")
    }
    real |= {name: getattr(os, name) for name in ("unlink", "ftruncate")}
    sync = disk.sync_file_system
    folders: dict[int, str] = {}
    position: dict[int, int] = {}

    def open_(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        name = None if "dir_fd" in more else log.relative(path)
        there = name is not None and name in log.names
        descriptor = real["open"](path, flags, mode, **more)
        log.inode.pop(descriptor, None)  # the number of a file that was closed
        folders.pop(descriptor, None)
        if name is None:
            if os.path.abspath(os.fspath(path)) == str(log.root):
                folders[descriptor] = ""
            return descriptor
        if flags & os.O_DIRECTORY:
            folders[descriptor] = name
        elif flags & (os.O_WRONLY | os.O_RDWR):
            if not there or flags & os.O_TRUNC:
                log.files += 1
                log.names[name] = log.files
                log.changes.append(Name(name, log.files, None))
            log.inode[descriptor] = log.names[name]
            position[descriptor] = os.fstat(descriptor).st_size if flags & os.O_APPEND else 0
        return descriptor

    def write(descriptor: int, data: Any) -> int:
        count: int = real["write"](descriptor, data)
        if descriptor in log.inode:
            log.changes.append(Write(log.inode[descriptor], position[descriptor], bytes(data)[:count]))
            position[descriptor] += count
        return count

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        count: int = real["pwrite"](descriptor, data, offset)
        if descriptor in log.inode:
            log.changes.append(Write(log.inode[descriptor], offset, bytes(data)[:count]))
        return count

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        if descriptor in log.inode:
            number = log.inode[descriptor]
            log.persist(lambda change: isinstance(change, Write) and change.file == number)
        elif descriptor in folders:
            folder = folders[descriptor]
            log.persist(
                lambda change: (
                    isinstance(change, Name)
                    and folder
                    in {os.path.dirname(n) for n in (change.added, change.removed) if n is not None}
                )
            )

    def sync_file_system(folder: Path) -> None:
        sync(folder)
        log.persist(lambda change: True)

    def replace(source: Any, target: Any, **more: Any) -> None:
        real["replace"](source, target, **more)
        old, new = log.relative(source), log.relative(target)
        if old is None or new is None:
            return
        moved = {n: f for n, f in log.names.items() if n == old or n.startswith(f"{old}/")}
        for name in moved:
            log.names.pop(name)
        for name, number in moved.items():
            log.names[new + name[len(old) :]] = number
        log.changes.append(Name(new, log.names.get(new), old))

    def mkdir(path: Any, *mode: Any, **more: Any) -> None:
        real["mkdir"](path, *mode, **more)
        name = log.relative(path)
        if name is not None:
            log.changes.append(Name(name, None, None))

    def gone(kind: str) -> Callable[..., None]:
        def remove(path: Any, **more: Any) -> None:
            if more.get("dir_fd") is not None:
                path = os.path.join(os.readlink(f"/proc/self/fd/{more['dir_fd']}"), os.fspath(path))
                real[kind](path)
            else:
                real[kind](path)
            name = log.relative(path)
            if name is not None:
                log.names.pop(name, None)
                log.changes.append(Name(None, None, name))

        return remove

    patched = {
        "open": open_,
        "write": write,
        "pwrite": pwrite,
        "fsync": fsync,
        "replace": replace,
        "mkdir": mkdir,
        "unlink": gone("unlink"),
        "rmdir": gone("rmdir"),
    }
    plain_open = builtins.open
    try:
        for name, function in patched.items():
            setattr(os, name, function)
        disk.sync_file_system = sync_file_system
        yield
    finally:
        for name in patched:
            setattr(os, name, real[name])
        disk.sync_file_system = sync
        builtins.open = plain_open


def state(log: Log, dice: random.Random) -> tuple[int, dict[str, bytes | None]]:
    """(crash point, files by name; None is a folder) of one legal state."""
    point = dice.randrange(len(log.changes) + 1)
    keep = dice.choice((0.0, 0.3, 0.7, 1.0))
    content: dict[int, bytearray] = {}
    names: dict[str, int | None] = {}
    for change in log.changes[:point]:
        safe = change.durable_at is not None and change.durable_at <= point
        happened = safe or dice.random() < keep
        if isinstance(change, Write):
            data = change.data
            if not happened:
                way = dice.randrange(3)
                if way == 0:
                    continue
                data = data[: dice.randrange(len(data) + 1)] if way == 1 else bytes(len(data))
            file = content.setdefault(change.file, bytearray())
            if len(file) < change.offset + len(data):
                file.extend(bytes(change.offset + len(data) - len(file)))
            file[change.offset : change.offset + len(data)] = data
        elif happened:
            moved: dict[str, int | None] = {}
            if change.removed is not None:
                old = change.removed
                for name in [n for n in names if n == old or n.startswith(f"{old}/")]:
                    moved[name[len(old) :]] = names.pop(name)
            if change.added is not None:
                for name in [n for n in names if n.startswith(f"{change.added}/")] if moved else []:
                    names.pop(name)
                names[change.added] = change.file
                for rest, number in moved.items():
                    names[change.added + rest] = number if rest or number is not None else change.file
    files = {n: None if f is None else bytes(content.get(f, b"")) for n, f in names.items()}
    return point, files


def materialise(root: Path, files: dict[str, bytes | None]) -> None:
    for name in sorted(files):
        path = root / name
        data = files[name]
        if path.parent.is_file() or any(p.is_file() for p in path.parents if p != root and root in p.parents):
            continue
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        elif not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def main(format: str, states: int, seed: int, careless: bool = False) -> None:
    contact_sheet.ROWS = contact_sheet.COLUMNS = 1
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)).resolve()
    dice = random.Random(seed)
    try:

        def run(root: Path) -> None:
            write_dataset(root, SETTINGS, PLAN, make_batches(2), format=format, encoder=ENCODER, threads=1)

        run(base / "whole")
        expected = tree(base / "whole")
        finished = Manifest.load(base / "whole" / "manifest.json")
        content = {record.number: record.content for record in finished.shards}
        log = Log(base / "logged")
        (base / "logged").mkdir()
        with recording(log):
            if careless:  # the same writer without a single fsync: the model must notice
                disk.fsync = disk.fsync_folder = disk.sync_file_system = lambda *nothing: None
            run(base / "logged")
        asked = Manifest(
            format, get_format(format).describe(), PLAN, ENCODER.describe(), SETTINGS, software_versions()
        )
        outcome = {"format": format, "changes": len(log.changes), "states": 0, "accepted": 0, "wrong": 0}
        outcome |= {"by_name": 0, "resumed": 0, "unequal": 0, "refused": 0}
        root = base / "state"
        for number in range(states):
            _, files = state(log, dice)
            root.mkdir()
            materialise(root, files)
            outcome["by_name"] += named_wrongly(root, expected)
            outcome["states"] += 1
            try:
                with open_run(root, asked) as opened:
                    if isinstance(opened, Manifest):
                        report = verify_manifest(root, opened, full=True)
                        believed = {r.number: r for r in opened.shards if r.number not in report.broken}
                        wrong = 0 if opened.to_bytes() == finished.to_bytes() else len(believed)
                    else:
                        believed = dict(opened.records)
                        wrong = sum(not sound(root, r, content, expected) for r in believed.values())
                    outcome["accepted"] += len(believed)
                    outcome["wrong"] += wrong
                if number % 10 == 0:
                    run(root)
                    outcome["resumed"] += 1
                    outcome["unequal"] += tree(root) != expected
            except V2FError as error:
                outcome["refused"] += 1
                print(f"state {number}: {sorted(files)}: {error}", file=sys.stderr)
            shutil.rmtree(root)
        print(json.dumps(outcome))
    finally:
        shutil.rmtree(base)


def sound(root: Path, record: Any, content: dict[int, str], expected: dict[str, str]) -> bool:
    """Whether an accepted record is the undisturbed run's, and its files (if not staged) have its bytes."""
    if record.content != content[record.number]:
        return False
    there = tree(root)
    for piece in record.pieces:
        folders = tuple(f"{piece.name}/{folder}/" for folder in piece.folders)
        for name in expected:
            mine = name == piece.name or (folders and name.startswith(folders))
            if mine and not name.endswith("/") and there.get(name) != expected[name]:
                return False
    return True


def named_wrongly(root: Path, expected: dict[str, str]) -> int:
    """How many data files stand under their final names with other bytes."""
    return sum(
        there != expected[name]
        for name, there in tree(root).items()
        if name in expected and not name.endswith("/") and not name.startswith(".v2f")
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["careless"])

"""What a command writes, claimed before its work: nothing is overwritten unasked, nothing is lost for want of a place.

    with claimed(overwrite, out, picture):
        ...                         the work; numbers are written before pictures of them

    OUT             what was asked for
    .OUT.v2f.json   which command writes it, with which settings, and in the end the sha256 of every file

A file that is there already is left alone. Where its record says that the same command with the same settings wrote
it, there is nothing to do; where that command was interrupted, it goes on; else the command ends with an
OutputFolderError, unless it was told to `--overwrite`. The record is written first, so a folder that cannot be written
is found out before the work and not after it. Folders of datasets and of trainings have records of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from v2f_engine.asked import RUNNING
from v2f_engine.cli import saying

Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="replace files that are there; never folders of datasets or trainings"),
]

SCHEMA = "v2f-output/1"
NOT_DECISIVE = frozenset(
    {"out", "overwrite", "backend", "batch", "card", "device", "dry_run", "fetch", "max_made", "max_rounds",
     "pictures", "plot", "report", "target", "threads", "timing_cache"}
)  # fmt: skip
"""Parameters that name the outputs, or that decide speed, place or bounds of the work only."""
WRITTEN = {("ids prove", "features"), ("ids pack", "curve")}
"""(command, parameter) that names an output there and an input elsewhere."""
PROBE = 1 << 20
"""Bytes at both ends of a file that tell it from another of its size: a gallery of 30 GB takes a minute to hash."""


@contextlib.contextmanager
def claimed(
    overwrite: bool, *files: Path | None, endings: tuple[str, ...] = (), room: int = 0, tells: bool = False
) -> Iterator[None]:
    """Claims the files that the running command will write; inside the block it may write them.

    Args:
        overwrite: whether files that are there may be replaced.
        files: the first is what was asked for; None among the others for what is not written.
        endings: what the first may end in; any where none is given.
        room: bytes that the command will write, as far as it is known.
        tells: the command's words matter more than its files, so it works again where they are complete.

    Raises:
        OutputFolderError: an ending nobody knows, a file that is there, or a folder that cannot be written.
        DiskFull: less than `room` is free.
        typer.Exit: the same command wrote them before; it was told so.
    """
    claim = Claim(tuple(file for file in files if file is not None), overwrite, asked())
    if not claim.files:
        yield
        return
    _check_names(claim.files, endings)
    _refuse_inputs(claim.files)
    if claim.complete() and not tells:
        saying.result(**{**claim.told(), "out": claim.files[0], "already_complete": True})
        saying.say(f"already complete: {', '.join(map(str, claim.files))} (the same command wrote it before)")
        raise typer.Exit(0)
    claim.begin(room)
    try:
        yield
    except BaseException:
        claim.give_up()
        raise
    claim.finish(saying.now().values)


def would_write(
    overwrite: bool, *files: Path | None, endings: tuple[str, ...] = (), room: int = 0
) -> list[tuple[str, str]]:
    """What `claimed` would find, for `--dry-run`: the same refusals, and nothing written.

    Returns:
        (name, words) of the files and of what is there.
    """
    from v2f_engine import disk

    claim = Claim(tuple(file for file in files if file is not None), overwrite, asked())
    _check_names(claim.files, endings)
    _refuse_inputs(claim.files)
    whole = claim.complete()
    for file in claim.files:
        disk.refuse_unwritable(file.parent)
    free = disk.free_bytes(claim.files[0].absolute().parent)
    if not whole:
        claim.refuse_full(claim.files[0].parent, free, room)
    there = [file for file in claim.files if os.path.lexists(file)]
    state = (
        "all of it, by this command: nothing is left to do" if whole
        else "nothing" if not there
        else f"{_named(there)} {'replaced' if overwrite else 'gone on with'}"
    )  # fmt: skip
    size = f"about {disk.in_words(room)}; " if room else ""
    return [
        ("out", ", ".join(map(str, claim.files))),
        ("there", state),
        ("disk", f"{size}{disk.in_words(free)} are free"),
    ]


def beside(measured: Path | str, name: str) -> Path:
    """Where results about `measured` lie unless told otherwise: `MEASURED.evaluation/NAME`, next to it.

    Not in it: torchvision takes every folder in a root for a class, Hugging Face every picture for a face.
    """
    path = Path(os.path.normpath(measured))
    if path.name in ("", "..", "."):
        path = path.resolve()
    whole = (
        path if path.exists() else Path(path.name)
    )  # `mini` and other names lie nowhere: the current folder
    return whole.with_name(f"{whole.name}.evaluation") / name


def asked() -> dict[str, str]:
    """The running command and its decisive settings; files and folders among them by their content."""
    context = _running()
    if context is None:
        return {}
    names = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    settings = {"command": _words(context)}
    for name, value in sorted(context.params.items()):
        if value is not None and _decides(context, name):
            settings[names.get(name, name)] = json.dumps(_told(value), default=str, sort_keys=True)
    return settings


def _words(context: Any) -> str:
    words: list[str] = []
    while context.parent is not None:
        words, context = [str(context.info_name), *words], context.parent
    return " ".join(words)


def _decides(context: Any, name: str) -> bool:
    return name not in NOT_DECISIVE and (_words(context), name) not in WRITTEN


def _running() -> Any:
    """The context of the running command; None where a command's function is called from Python."""
    try:
        from typer._click.globals import get_current_context  # later versions of Typer bring Click along
    except ImportError:
        from click import get_current_context  # type: ignore[no-redef]
    return get_current_context(silent=True)


def _told(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_told(one) for one in value]
    if isinstance(value, str | Path) and str(value) and os.path.exists(value):
        return f"{Path(value).name} {_content(Path(value))[:16]}"
    if isinstance(value, str):  # `covariance:FILE`: another file of that name is another setting
        form, _, file = value.partition(":")
        if file and os.path.isfile(file):
            return f"{form}:{Path(file).name} {_content(Path(file))[:16]}"
    return value


def _content(path: Path) -> str:
    """A hash that changes with the content: of the manifest, of names and sizes, or of a file's size and ends."""
    from v2f_engine.data.layout import MANIFEST

    digest = hashlib.sha256()
    if path.is_dir() and (path / MANIFEST).is_file():
        path = path / MANIFEST
    if path.is_dir():
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n".encode())
    elif path.is_file():
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as opened:
            digest.update(opened.read(PROBE))
            opened.seek(max(0, size - PROBE))
            digest.update(opened.read(PROBE))
    return digest.hexdigest()


@dataclass
class Claim:
    """The files of one command.

    Args:
        files: what it will write; the record lies beside the first.
        overwrite: whether files that are there may be replaced.
        settings: what decides their content, and `command`.
    """

    files: tuple[Path, ...]
    overwrite: bool
    settings: Mapping[str, str]
    _before: bytes | None = field(default=None, init=False)
    _stats: list[tuple[int, ...] | None] = field(default_factory=list, init=False)
    _folders: list[Path] = field(default_factory=list, init=False)

    @property
    def record(self) -> Path:
        """Where it is written who wrote them."""
        return self.files[0].with_name(f".{self.files[0].name}.v2f.json")

    def complete(self) -> bool:
        """Whether this command wrote all of them before.

        Raises:
            OutputFolderError: some are there that are not this command's to replace.
        """
        from v2f_engine.errors import OutputFolderError

        there = [file for file in self.files if os.path.lexists(file)]
        for file in there:
            if not file.is_file() and not (file.suffix == ".lmdb" and file.is_dir()):
                raise OutputFolderError(f"{file} is there and is no plain file; give another name.")
        if not there or self.overwrite:
            return False
        found = self._read()
        if found is None:
            raise OutputFolderError(
                f"{_named(there)} there already, and nothing says that `v2f {self.settings.get('command', '')}` wrote "
                f"{'it' if len(there) == 1 else 'them'}. Give another name, or --overwrite to replace it."
            )
        if found["settings"] != dict(self.settings):
            raise OutputFolderError(
                f"{_named(there)} there already, of {_differing(found['settings'], self.settings)}. Give another name, "
                "or --overwrite to replace it."
            )
        hashes = found["files"]
        if hashes is None:  # interrupted: what lies there is a part of this very result
            return False
        for file in there:
            if hashes.get(self._key(file)) not in (None, _sha256(file)):
                raise OutputFolderError(
                    f"{file} was changed after this command wrote it. Give another name, or --overwrite to replace it."
                )
        return len(there) == len(self.files) or set(map(self._key, there)) >= set(hashes)

    def begin(self, room: int) -> None:
        """Makes the folders, looks whether they can be written, and notes what is begun."""
        from v2f_engine import disk
        from v2f_engine.atomic import write_atomically
        from v2f_engine.errors import OutputFolderError

        self._before = self.record.read_bytes() if self.record.is_file() else None
        self._stats = self._look()
        self._folders = [parent for file in self.files for parent in file.parents if not parent.exists()]
        for folder in {file.parent for file in self.files}:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = disk.temporary_path(folder / "probe", str(os.getpid()))
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise OutputFolderError(
                    f"{folder} cannot be written ({error.strerror}), so {self.files[0].name} has no place there. Give "
                    "--out, a file in a folder that this user may write."
                ) from error
            self.refuse_full(folder, disk.free_bytes(folder), room)
        write_atomically(self.record, self._bytes(None))

    def refuse_full(self, folder: Path, free: int, room: int) -> None:
        """Raises DiskFull where less than `room` bytes are free."""
        from v2f_engine import disk
        from v2f_engine.errors import DiskFull

        if free < room:
            raise DiskFull(
                f"{self.files[0]}: needs about {disk.in_words(room)} ({room:,} bytes), {disk.in_words(free)} "
                f"({free:,} bytes) are free in {folder}. Make room or give --out on another disk; nothing was begun."
            )

    def give_up(self) -> None:
        """After an error: where nothing was written, there is nothing to remember."""
        if self._look() != self._stats:
            return
        with contextlib.suppress(OSError):
            if self._before is None:
                self.record.unlink(missing_ok=True)
            else:
                self.record.write_bytes(self._before)
        for folder in self._folders:  # the innermost first, and only those that this command made
            with contextlib.suppress(OSError):
                folder.rmdir()

    def told(self) -> dict[str, Any]:
        """What the command gave when it wrote them."""
        found = self._read() or {}
        given = found.get("result")
        return given if isinstance(given, dict) else {}

    def finish(self, result: Mapping[str, Any] | None = None) -> None:
        """Notes what was written.

        Args:
            result: what the command gave, to be given again when it is repeated.

        Raises:
            OutputFolderError: a command with other settings began to write here while this one worked.
        """
        from v2f_engine.atomic import write_atomically
        from v2f_engine.errors import OutputFolderError

        found = self._read()
        if found is not None and found["settings"] != dict(self.settings):
            raise OutputFolderError(
                f"{_named(list(self.files))} of two commands at once: while this one worked, another began, of "
                f"{_differing(found['settings'], self.settings)}. Run them again with a name each."
            )
        hashes = {self._key(file): _sha256(file) for file in self.files if os.path.lexists(file)}
        write_atomically(self.record, self._bytes(hashes, result or {}))

    def _key(self, file: Path) -> str:
        return os.path.relpath(file, self.record.parent)

    def _look(self) -> list[tuple[int, ...] | None]:
        found: list[tuple[int, ...] | None] = []
        for file in self.files:
            try:
                status = file.lstat()
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return found

    def _bytes(self, hashes: Mapping[str, str] | None, result: Mapping[str, Any] | None = None) -> bytes:
        record: dict[str, Any] = {"schema": SCHEMA, "settings": dict(self.settings), "files": hashes}
        if result:
            record["result"] = saying.plain(result)
        command = RUNNING.get()
        if hashes is None and command is not None:  # of no use once the files are whole
            record["asked"] = command.to_json()
        return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.record.read_bytes())
            sound = found["schema"] == SCHEMA and isinstance(found["settings"], dict)
            return found if sound and isinstance(found["files"], dict | None) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _check_names(files: tuple[Path, ...], endings: tuple[str, ...]) -> None:
    from v2f_engine.errors import OutputFolderError

    if endings and files[0].suffix not in endings:
        raise OutputFolderError(
            f"{files[0]}: expected a name that ends in {' or '.join(endings)}, "
            f"found {files[0].suffix or 'no ending'!r}."
        )
    twice = sorted({str(file) for file in files if files.count(file) > 1})
    if twice:
        raise OutputFolderError(
            f"{twice[0]}: two outputs of this command have this name; give them different ones."
        )


def _refuse_inputs(files: tuple[Path, ...]) -> None:
    """What a command reads it never replaces, whatever it was told."""
    from v2f_engine.errors import OutputFolderError

    context = _running()
    typed = {} if context is None else context.params
    for name, value in typed.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if not _decides(context, name) or not isinstance(one, str | Path) or not os.path.exists(one):
                continue
            for file in files:
                if file.exists() and file.samefile(one):
                    raise OutputFolderError(
                        f"{file} is what this command reads ({name}); give another name to write."
                    )


def _named(files: list[Path]) -> str:
    return f"{files[0]} is" if len(files) == 1 else f"{', '.join(map(str, files))} are"


def _differing(found: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How two runs differ, in words."""
    if found.get("command") != now.get("command"):
        return f"`v2f {found.get('command', '?')}`"
    names = sorted(name for name in {*found, *now} if found.get(name) != now.get(name))
    return "a run with other settings: " + "; ".join(
        f"{name} was {found.get(name, 'not given')}, is {now.get(name, 'not given')}" for name in names
    )


def _sha256(path: Path) -> str:
    if path.is_dir():
        return _content(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Photographs to aligned 112x112 faces: found, brought to the template, written; every picture is accounted for.

    OUT/...               faces, in the folders of their photographs
    OUT.alignment/
        settings.json     what was asked for; another run may not mix with it
        pictures.csv      a row a face, or why a photograph has none; not among the faces, where it is a list

A photograph's faces depend on nothing but it and the settings. Rows are written in the order of the photographs, after
their files; a run that was killed goes on behind the last row whose files are as written.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.atomic import write_atomically
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.config import at_least, one_of
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.data.writing.encode import EXTENSIONS, Encoder
from v2f_engine.data.writing.lock import exclusive
from v2f_engine.errors import DatasetError, OutputFolderError, V2FError
from v2f_engine.faces.finder import Face, Finder
from v2f_engine.faces.geometry import warp_by_area
from v2f_engine.faces.outcomes import (
    ALIGNED,
    HEADER,
    NO_FACE,
    SEVERAL,
    TOO_SMALL,
    UNREADABLE,
    Row,
    counted,
    lines_of,
    row_of,
    rows_in,
    stands,
)
from v2f_engine.faces.photographs import ACCOUNT, SETTINGS, Photograph, photographs_at, read
from v2f_engine.orphans import end_with_parent
from v2f_engine.stopping import saying_what_is_kept

SEVERAL_FACES = ("refuse", "largest", "all")
RIVAL = 0.5
"""A face counts beside the largest from half its side on; smaller ones stand in the background."""
_AHEAD = 4
"""Photographs under way in each process."""
SCHEMA = "v2f-alignment/1"


@dataclass(frozen=True)
class AlignOptions:
    """What decides the faces of a photograph.

    Args:
        several: of several faces: `refuse` the photograph, take the `largest`, or `all`, numbered from the largest.
        min_side: pixels of the photograph along a side of the aligned face, at least; smaller ones would be enlarged.
        codec: `png` (lossless) or `jpeg`.

    Raises:
        ConfigError: none of these, or a side below 1.
    """

    several: str = "refuse"
    min_side: int = 56
    codec: str = "png"

    def __post_init__(self) -> None:
        one_of("several", self.several, SEVERAL_FACES)
        one_of("codec", self.codec, EXTENSIONS)
        at_least("min_side", self.min_side, 1)


@dataclass(frozen=True)
class Alignment:
    """What became of the photographs: rows in their order, and how many faces this run aligned."""

    rows: tuple[Row, ...]
    pictures: int
    written: int

    @property
    def counts(self) -> dict[str, int]:
        return counted(self.rows)


def chosen(faces: Sequence[Face], options: AlignOptions) -> tuple[str, list[Face]]:
    """The outcome of the faces in a photograph, largest first, and those to be aligned."""
    if not faces:
        return NO_FACE, []
    beside = [face for face in faces if face.side >= RIVAL * faces[0].side]
    if len(beside) > 1 and options.several == "refuse":
        return SEVERAL, []
    taken = beside if options.several == "all" else beside[:1]
    large = [face for face in taken if face.side >= options.min_side]
    return (ALIGNED, large) if large else (TOO_SMALL, [])


def align_picture(
    image: NDArray[np.uint8], finder: Finder, options: AlignOptions | None = None
) -> tuple[str, list[tuple[Face, NDArray[np.uint8]]]]:
    """The faces of uint8 `[H, W, 3]` RGB as uint8 `[112, 112, 3]`, by area where the picture is larger.

    Returns:
        One of `outcomes.OUTCOMES`, and each face with its aligned picture; none where the outcome is not `aligned`.
    """
    outcome, taken = chosen(finder(image), options or AlignOptions())
    return outcome, [(face, warp_by_area(image, face.matrix, IMAGE_SIZE)) for face in taken]


def align(
    source: Path | str,
    out: Path | str,
    options: AlignOptions | None = None,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Alignment:
    """Aligns the faces of all photographs; the same call goes on after an interruption.

    Args:
        source: a folder, a list or one picture; see `photographs.photographs_at`.
        out: folder of the faces, new or of the same call.
        options: what decides the faces.
        processes: that look for faces (spawned: call from under `if __name__ == "__main__":`); changes no byte.
        progress: called with (photographs done, of all).

    Raises:
        DatasetError: no photographs. A photograph that cannot be read is a row, and no error.
        OutputFolderError: `out` holds what this call did not write, or cannot be written.
        MissingDependency: dlib is not installed.
        V2FError: a process was killed.
    """
    source, out, options = Path(source), Path(out), options or AlignOptions()
    at_least("processes", processes, 1)
    photographs = photographs_at(source)
    if processes == 1:
        Finder.load()  # said before anything is written
    about = account_of(out)
    with ExitStack() as held:
        with disk.named_errors(out):
            held.enter_context(exclusive(about / ".lock", out))
        return _run(photographs, about / "pictures.csv", source, out, options, processes, progress)


def _run(
    photographs: Sequence[Photograph],
    table: Path,
    source: Path,
    out: Path,
    options: AlignOptions,
    processes: int,
    progress: Callable[[int, int], None] | None,
) -> Alignment:
    done = _begin(table.parent, table, source, out, options)
    waiting = [one for one in photographs if one.name not in done]
    rows = {name: done[name] for name in done}
    written = 0

    def kept() -> str:
        return (
            f"{len(rows):,} of {len(photographs):,} photographs are done, in {out}; the same command goes on."
        )

    with saying_what_is_kept(kept), _opened(table) as lines:
        for photograph, made in zip(waiting, _made(waiting, options, processes), strict=True):
            for row, data in made:
                if data:
                    with disk.named_errors(out):
                        disk.make_folder((out / row.file).parent)
                    write_atomically(out / row.file, data)
                    written += 1
            rows[photograph.name] = [row for row, _ in made]
            lines.write(lines_of(rows[photograph.name]))
            lines.flush()
            if progress is not None:
                progress(len(rows), len(photographs))
    in_order = chain.from_iterable(rows[one.name] for one in photographs)
    return Alignment(tuple(in_order), len(photographs), written)


def _opened(table: Path) -> TextIO:
    with disk.named_errors(table.parent):
        return table.open("a", encoding="utf-8", errors="backslashreplace", newline="")


def account_of(out: Path) -> Path:
    """The folder beside `out` that says what became of each photograph.

    Raises:
        OutputFolderError: the root of a disk has nothing beside it.
    """
    place = out if out.name not in ("", "..") else out.resolve()
    if not place.name:
        raise OutputFolderError(f"{out} is the root of a disk. Give a folder below it.")
    return place.with_name(f"{place.name}{ACCOUNT}")


def _begin(about: Path, table: Path, source: Path, out: Path, options: AlignOptions) -> dict[str, list[Row]]:
    """Makes or opens the account of a run: name of each photograph that is done -> its rows."""
    settings = {"schema": SCHEMA, "source": str(source.resolve()), **asdict(options)}
    record = about / SETTINGS
    if record.is_file():
        found = _settings_in(record, out)
        if found != settings:
            differing = sorted(name for name in settings if found.get(name) != settings[name])
            raise OutputFolderError(
                f"{out}: faces of another run are there: "
                + "; ".join(f"{name} was {found.get(name)!r}, is {settings[name]!r}" for name in differing)
                + f". Give another folder, or remove {out} and {about}."
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputFolderError(
            f"{out} is there already{_first_of(out)}, and nothing says that faces were aligned into it. Give another "
            "folder."
        )
    elif about.is_dir() and any(not is_hidden(entry.name) for entry in about.iterdir()):
        raise OutputFolderError(
            f"{about} is there already{_first_of(about)}, and this command did not write it. Give another folder."
        )
    else:
        try:
            out.mkdir(parents=True, exist_ok=True)
            about.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputFolderError(
                f"{out} cannot be made ({error.strerror}). Give a writable folder."
            ) from error
        write_atomically(record, (json.dumps(settings, indent=1, sort_keys=True) + "\n").encode())
    done = {name: rows for name, rows in rows_in(table).items() if stands(rows, out)}
    kept = chain.from_iterable(done.values())
    write_atomically(table, (",".join(HEADER) + "\n" + lines_of(kept)).encode(errors="backslashreplace"))
    return done


def _settings_in(record: Path, out: Path) -> dict[str, Any]:
    try:
        found = json.loads(record.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise OutputFolderError(
            f"{record} is damaged, so nothing says what {out} holds. Give another folder, or remove {out} and "
            f"{record.parent}."
        )
    return found


def _first_of(folder: Path) -> str:
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return f" with {min(names, key=lambda name: (is_hidden(name), name))} in it" if names else ""


Made = list[tuple[Row, bytes]]
_finder: Finder | None = None


def _make(photograph: Photograph, options: AlignOptions) -> Made:
    """Rows and encoded faces of one photograph."""
    global _finder
    if _finder is None:
        _finder = Finder.load()
    try:
        image = read(photograph)
    except DatasetError as error:
        return [(Row(photograph.name, -1, UNREADABLE, why=str(error)), b"")]
    found = _finder(image)
    outcome, taken = chosen(found, options)
    if not taken:
        why = {
            NO_FACE: "none was found",
            SEVERAL: f"{len(found)} faces, none chosen",
            TOO_SMALL: f"fewer than {options.min_side} pixels along a side of the aligned face",
        }[outcome]
        if found:
            return [(row_of(photograph.name, -1, outcome, found[0], why=why), b"")]
        return [(Row(photograph.name, -1, outcome, why=why), b"")]
    encoder = Encoder(codec=options.codec, quality=95)
    encode = encoder.function()
    made = []
    for number, face in enumerate(taken):
        data = encode(warp_by_area(image, face.matrix, IMAGE_SIZE))
        ending = f"_{number}" if options.several == "all" else ""
        name = f"{photograph.target}{ending}.{encoder.extension}"
        digest = hashlib.sha256(data).hexdigest()
        made.append((row_of(photograph.name, number, ALIGNED, face, file=name, sha256=digest), data))
    return made


def _start(parent: int) -> None:
    """First act of a process: Ctrl-C is its parent's business, and it does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)


def _made(photographs: Sequence[Photograph], options: AlignOptions, processes: int) -> Iterator[Made]:
    if processes == 1 or len(photographs) < 2:
        yield from (_make(one, options) for one in photographs)
        return
    pool = ProcessPoolExecutor(
        min(processes, len(photographs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(os.getpid(),),
    )
    under_way: deque[Future[Made]] = deque()
    try:
        for one in photographs:
            under_way.append(pool.submit(_make, one, options))
            if len(under_way) >= _AHEAD * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise V2FError(
            "a process that looks for faces died: out of memory, or killed from outside. What is done is kept; the "
            "same command goes on, with fewer --processes where memory was short."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

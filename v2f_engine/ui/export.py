"""The set of those who are kept: written by `generation.run`, as the command line beside it would, in a thread.

    OUT/set-1.safetensors   the people
    OUT/set-1/              the set; the same command resumes it

Each export takes the next free number: nothing is overwritten.
"""

from __future__ import annotations

import os
import shlex
import threading
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from v2f_engine.data.formats import FORMATS
from v2f_engine.errors import ConfigError, OutputFolderError
from v2f_engine.options import IdentityOptions, ImageOptions, OutputOptions, WorkerOptions
from v2f_engine.pipeline import generation
from v2f_engine.ui.asked import Settings
from v2f_engine.ui.begun import Begun
from v2f_engine.ui.desk import Superseded
from v2f_engine.ui.sliders import COUNTS
from v2f_engine.ui.words import told
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.perturbation import Perturbation

OFFERED = tuple(name for name in FORMATS if name != "null")
"""Formats of a set."""


@dataclass(frozen=True)
class Order:
    """A set that is asked for.

    Args:
        settings: how images are drawn.
        images: of each person.
        format: in `OFFERED`.

    Raises:
        ConfigError: a number or a format that is not offered.
    """

    settings: Settings
    images: int = 10
    format: str = "imagefolder"

    def __post_init__(self) -> None:
        if self.format not in OFFERED:
            raise ConfigError(
                f"format {str(self.format)[:40]!r} is not offered; known: {', '.join(OFFERED)}."
            )
        object.__setattr__(self, "images", COUNTS["images_per_person"].checked("images", self.images))

    def request(
        self, begun: Begun, pose_model: str | None, table: Identities, out: Path
    ) -> generation.Request:
        """What `generation.run` is asked."""
        wanted = self.settings
        request = generation.Request(
            wanted.engine_options(begun.engine, pose_model),
            IdentityOptions(identities=table),
            ImageOptions(self.images, wanted.variation, wanted.perturbation or Perturbation()),
            OutputOptions(out, self.format),
            WorkerOptions(executor="inline"),
            wanted.control(pose_model is not None),
        )
        return request.settled(wanted.chosen)

    def command(self, begun: Begun, pose_model: str | None, place: Path) -> str:
        """The command line that writes the same bytes into another folder, or resumes this one."""
        engine, name = self.settings.engine_options(begun.engine, pose_model), in_sight(begun, place)
        how = {"--device": engine.device, "--precision": engine.precision}
        words = [
            *("v2f", "generate", "--model", shown(engine.model)),
            *(word for name, value in how.items() if value != "auto" for word in (name, value)),
            *("--vectors", f"{name}.safetensors", "--images", str(self.images)),
            *self.settings.words(pose_model is not None),
            *("--format", self.format, "--executor", "inline", "--out", name),
        ]
        return shlex.join(words)


def shown(place: str | Path) -> str:
    """A path as the page may show it: as typed, or of an absolute one its last part."""
    path = Path(place)
    return path.name if path.is_absolute() else path.as_posix()


def in_sight(begun: Begun, place: Path) -> str:
    """A set's folder as the page may show it."""
    return f"{shown(begun.out)}/{place.name}"


@dataclass(frozen=True)
class State:
    """How an export stands.

    Args:
        status: `none`, `running`, `complete`, `stopped` or `failed`.
        done, total: images.
        folder, command: of it, for people.
        words: what is said of it.
    """

    status: str = "none"
    done: int = 0
    total: int = 0
    folder: str = ""
    command: str = ""
    words: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Exports:
    """One export at a time; its methods are safe in threads.

    Args:
        begun: what `v2f ui` was started with.
        pose_model: of the generator, if any.
    """

    def __init__(self, begun: Begun, pose_model: str | None) -> None:
        self.begun, self.pose_model = begun, pose_model
        self.state = State()
        self._lock = threading.Lock()
        self._unwanted = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, order: Order, table: Identities) -> State:
        """Begins to write.

        Raises:
            ConfigError: another is under way. OutputFolderError: the folder cannot be written.
        """
        with self._lock:
            if self.state.status == "running":
                raise ConfigError("A set is being written; wait for it, or stop it first.")
            place = _claimed(self.begun.out, table)
            command = order.command(self.begun, self.pose_model, place)
            total = len(table) * order.images
            self.state = State("running", 0, total, in_sight(self.begun, place), command, "loading the model")
            self._unwanted.clear()
            request = order.request(self.begun, self.pose_model, table, place)
            self._thread = threading.Thread(target=self._write, args=(request,), name="v2f-ui-export")
            self._thread.start()
            return self.state

    def stop(self) -> None:
        """Ends it after the batch under way; what is committed stays."""
        self._unwanted.set()

    def close(self, seconds: float | None = None) -> None:
        """Ends it and waits."""
        self.stop()
        if self._thread is not None:
            self._thread.join(seconds)

    def _note(self, **changed: Any) -> None:
        self.state = replace(self.state, **changed)

    def _write(self, request: generation.Request) -> None:
        def progress(done: int, total: int) -> None:
            if self._unwanted.is_set():
                raise Superseded
            self._note(done=done, total=total, words="writing")

        try:
            report = generation.run(request, progress, lambda sentence: self._note(words=sentence))
        except Superseded:
            self._note(status="stopped", words="Stopped; what was finished is kept, and the command goes on.")
        except Exception as error:
            self._note(status="failed", words=told(error).words)
        else:
            failed = f", {report.failed} of them failed" if report.failed else ""
            words = (
                f"{report.identities:,} people, {report.images:,} pictures{failed}, {report.seconds:.1f} s"
            )
            self._note(status="complete", done=report.images, words=words)


def _claimed(out: Path, table: Identities) -> Path:
    """The place of a new set, its people written beside it: nobody else has that number."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            place = out / f"set-{number}"
            if os.path.lexists(place):
                continue
            try:
                with open(f"{place}.safetensors", "xb"):
                    pass
            except FileExistsError:
                continue
            break
    except OSError as error:
        raise OutputFolderError(
            f"{shown(out)} cannot be written ({error.strerror}). Start `v2f ui` with another --out."
        ) from error
    table.save(f"{place}.safetensors")
    return place

"""Reference faces as people keep them; every maker writes one layout and says which pictures make each identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from people_given import People

Maker = Callable[[Path, People], tuple[Path, list[list[bytes]]]]


def _single(people: People) -> list[list[bytes]]:
    return [[picture] for pictures in people for picture in pictures]


def _names(people: People) -> list[str]:
    return [f"person_{p}_{k}.jpg" for p, pictures in enumerate(people) for k in range(len(pictures))]


def flat_folder(folder: Path, people: People) -> tuple[Path, list[list[bytes]]]:
    """A folder of pictures, as Vec2Face's image_generation_with_reference.py takes; macOS has left its own beside."""
    (folder / "flat").mkdir()
    for name, (picture,) in zip(_names(people), _single(people), strict=True):
        (folder / "flat" / name).write_bytes(picture)
        (folder / "flat" / f"._{name}").write_bytes(b"\0\5\x16\7 AppleDouble")
    (folder / "flat" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "flat" / "notes.txt").write_text("mine\n")
    return folder / "flat", _single(people)


def one_picture(folder: Path, people: People) -> tuple[Path, list[list[bytes]]]:
    (folder / "one.jpg").write_bytes(people[0][0])
    return folder / "one.jpg", [[people[0][0]]]


def _listed(text: Callable[[list[str]], str], name: str) -> Maker:
    def make(folder: Path, people: People) -> tuple[Path, list[list[bytes]]]:
        place, single = flat_folder(folder, people)
        names = [f"{place.name}/{each}" for each in _names(people)][::-1]  # a list has an order of its own
        (folder / name).write_text(text(names))
        return folder / name, single[::-1]

    return make


list_of_paths = _listed(lambda names: "".join(f"{name}\n" for name in names), "paths.txt")
list_windows = _listed(lambda names: "\r\n".join(name.replace("/", "\\") for name in names), "paths.lst")
list_blank_lines = _listed(lambda names: "\n" + "\n\n".join(names) + "\n\n", "paths.txt")


def list_with_labels(folder: Path, people: People) -> tuple[Path, list[list[bytes]]]:
    place, _ = flat_folder(folder, people)
    labels = [p for p, pictures in enumerate(people) for _ in pictures]
    lines = [f"{place.name}/{name} {label}\n" for name, label in zip(_names(people), labels, strict=True)]
    (folder / "labelled.txt").write_text("".join(lines))
    return folder / "labelled.txt", [list(pictures) for pictures in people]


def person_folders(folder: Path, people: People) -> tuple[Path, list[list[bytes]]]:
    for p, pictures in enumerate(people):
        (folder / "people" / f"p{p}").mkdir(parents=True)
        for k, picture in enumerate(pictures):
            (folder / "people" / f"p{p}" / f"{k}.jpg").write_bytes(picture)
    (folder / "people" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    return folder / "people", [list(pictures) for pictures in people]


LAYOUTS: tuple[tuple[str, Maker], ...] = (
    ("flat folder", flat_folder),
    ("one picture", one_picture),
    ("list of paths", list_of_paths),
    ("list of paths of Windows", list_windows),
    ("list with blank lines", list_blank_lines),
    ("list with labels", list_with_labels),
    ("person folders", person_folders),
)

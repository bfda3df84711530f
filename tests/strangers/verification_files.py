"""Verification sets as people write them: pickles in many dialects, and lists of pairs over folders of pictures.

A maker of a pickle gives its bytes from the pictures and labels. A maker of a list writes the list and the folder from
people (encoded pictures of each) and the pairs wanted, and gives the path of the list.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from people_given import People

Pair = tuple[tuple[int, int], tuple[int, int]]
"""(person, picture) twice."""


def arrays(pictures: Sequence[bytes]) -> list[Any]:
    """As `cv2.imencode` returned them."""
    return [np.frombuffer(data, np.uint8).copy() for data in pictures]


def objects(items: Sequence[Any]) -> Any:
    """A NumPy array of Python's objects."""
    made = np.empty(len(items), object)
    made[:] = items
    return made


PICTURES: dict[str, Callable[[list[bytes]], Any]] = {
    "bytes": list,
    "tuple of bytes": tuple,
    "bytearrays": lambda pictures: [bytearray(data) for data in pictures],
    "arrays": arrays,
    "columns": lambda pictures: [a.reshape(-1, 1) for a in arrays(pictures)],
    "rows": lambda pictures: [a.reshape(1, -1) for a in arrays(pictures)],
    "object array of bytes": objects,
    "object array of arrays": lambda pictures: objects(arrays(pictures)),
    "column of objects": lambda pictures: objects(pictures).reshape(-1, 1)[:, 0],
    "twos": lambda pictures: list(zip(pictures[0::2], pictures[1::2], strict=True)),
    "object array of twos": lambda pictures: objects(pictures).reshape(-1, 2),
    "byte strings of NumPy": lambda pictures: np.array(pictures),
    "latin-1 text": lambda pictures: [data.decode("latin1") for data in pictures],
}
LABELS: dict[str, Callable[[list[bool]], Any]] = {
    "booleans": list,
    "tuple": tuple,
    "ints": lambda same: [int(item) for item in same],
    "floats": lambda same: [float(item) for item in same],
    "text": lambda same: ["1" if item else "0" for item in same],
    "words": lambda same: [str(item) for item in same],
    "object array": lambda same: objects(same),
    "column": lambda same: np.array(same, int).reshape(-1, 1),
    "text of NumPy": lambda same: np.array([str(int(item)) for item in same]),
    "big-endian": lambda same: np.array(same, ">i4"),
    **{
        f"{kind} of {code}": (
            lambda same, code=code, each=each: list(np.array(same, code)) if each else np.array(same, code)
        )
        for code in ("?", "u1", "i1", "i2", "i4", "i8", "u8", "f2", "f4", "f8")
        for kind, each in (("array", False), ("list", True))
    },
}
ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "tuple": lambda pictures, labels: (pictures, labels),
    "list": lambda pictures, labels: [pictures, labels],
    "labels first": lambda pictures, labels: (labels, pictures),
    "object array": lambda pictures, labels: objects([pictures, labels]),
}


def pickled(pictures: list[bytes], same: list[bool], dialect: tuple[str, str, str], protocol: int) -> bytes:
    """The bytes of a `.bin` in a dialect (of PICTURES, LABELS, ORDERS)."""
    kind, labels, order = dialect
    return pickle.dumps(ORDERS[order](PICTURES[kind](pictures), LABELS[labels](same)), protocol)


# -- lists of pairs over folders ---------------------------------------------------------------------------


def _suffix(data: bytes) -> str:
    return ".png" if data.startswith(b"\x89PNG") else ".jpg"


def _name(person: int) -> str:
    return f"Ann_{'ABCDEFGHIJ'[person % 10]}{person}"


def lfw_folder(root: Path, people: People, *, nested: bool = True) -> None:
    """`Ann_A0/Ann_A0_0001.jpg`, or all in one folder."""
    for person, pictures in enumerate(people):
        folder = root / _name(person) if nested else root
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(pictures, start=1):
            (folder / f"{_name(person)}_{number:04d}{_suffix(data)}").write_bytes(data)


def _lfw_line(pair: Pair) -> str:
    (one, first), (two, second) = pair
    if one == two:
        return f"{_name(one)}\t{first + 1}\t{second + 1}\n"
    return f"{_name(one)}\t{first + 1}\t{_name(two)}\t{second + 1}\n"


def lfw(folder: Path, people: People, pairs: Sequence[Pair]) -> Path:
    """Without a first line of counts, as RFW publishes its pairs."""
    lfw_folder(folder / "faces", people)
    (folder / "pairs.txt").write_text("".join(map(_lfw_line, pairs)))
    return folder / "pairs.txt"


def lfw_path(pair: tuple[int, int], suffix: str = ".jpg") -> str:
    return f"{_name(pair[0])}/{_name(pair[0])}_{pair[1] + 1:04d}{suffix}"


def sllfw(folder: Path, people: People, pairs: Sequence[Pair]) -> Path:
    """A line a picture; one person where both lie in one folder. The list says `.jpg` whatever the files are."""
    lfw_folder(folder / "faces", people)
    (folder / "pair_SLLFW.txt").write_text("".join(f"{lfw_path(side)}\n" for pair in pairs for side in pair))
    return folder / "pair_SLLFW.txt"


def cplfw(folder: Path, people: People, pairs: Sequence[Pair]) -> Path:
    """A line a picture with its label: 0 for two people, the number of the fold for one; a flat folder."""
    lfw_folder(folder / "faces", people, nested=False)
    lines = []
    for number, (one, two) in enumerate(pairs):
        label = 1 + number % 10 if one[0] == two[0] else 0
        lines += [f"{lfw_path(side).split('/')[1]} {label}\n" for side in (one, two)]
    (folder / "pairs_CPLFW.txt").write_text("".join(lines))
    return folder / "pairs_CPLFW.txt"


def doppelver(folder: Path, people: People, pairs: Sequence[Pair]) -> Path:
    """Names with blanks, pictures numbered within their person, all pairs of one split."""
    lines = ["ID,INDIVIDUAL_1,IMAGE_1,INDIVIDUAL_2,IMAGE_2,LABEL,SPLIT\n"]
    for person, pictures in enumerate(people):
        place = folder / "faces" / "CCA_Images" / f"Ann {person}"
        place.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(pictures):
            (place / f"{number:02d}_0{_suffix(data)}").write_bytes(data)
    for number, ((one, first), (two, second)) in enumerate(pairs):
        lines.append(
            f"{number},Ann {one},{first:02d}_0.jpg,Ann {two},{second:02d}_0.jpg,{int(one == two)},3\n"
        )
    (folder / "DoppelgangerProtocol.csv").write_text("".join(lines))
    return folder / "DoppelgangerProtocol.csv"


def paths(separator: str, order: str, prefix: str = "") -> Callable[[Path, People, Sequence[Pair]], Path]:
    """`path path label` with this separator; `order` gives the columns: of `a`, `b`, `label`."""

    def make(folder: Path, people: People, pairs: Sequence[Pair]) -> Path:
        lfw_folder(folder / "faces", people)
        lines = []
        for one, two in pairs:
            columns = {
                "a": prefix + lfw_path(one),
                "b": prefix + lfw_path(two),
                "label": str(int(one[0] == two[0])),
            }
            lines.append(separator.join(columns[name] for name in order.split()) + "\r\n")
        (folder / "list.txt").write_bytes("".join(lines).encode("utf-8-sig"))
        return folder / "list.txt"

    return make


def named_columns(folder: Path, people: People, pairs: Sequence[Pair]) -> Path:
    """As pandas writes a table of pairs, labels as floats."""
    lfw_folder(folder / "faces", people)
    lines = ["img1,img2,issame\n"]
    lines += [f"{lfw_path(one)},{lfw_path(two)},{float(one[0] == two[0])}\n" for one, two in pairs]
    (folder / "list.csv").write_text("".join(lines))
    return folder / "list.csv"


LAYOUTS: tuple[tuple[str, Callable[[Path, People, Sequence[Pair]], Path]], ...] = (
    ("LFW", lfw),
    ("SLLFW", sllfw),
    ("CPLFW", cplfw),
    ("DoppelVer", doppelver),
    ("paths by blanks", paths(" ", "a b label")),
    ("paths by tabs", paths("\t", "a b label")),
    ("paths by commas", paths(",", "a b label")),
    ("label first", paths(" ", "label a b")),
    ("paths of another machine", paths(" ", "a b label", "/data/somebody/lfw/")),
    ("backslashes", paths(",", "a b label", ".\\lfw\\")),
    ("named columns", named_columns),
)
"""(name, maker) of every list of pairs; its pictures lie in `faces` beside it."""

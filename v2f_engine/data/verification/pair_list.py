"""Lists of pairs over folders of pictures, in the layouts in which test sets are published as text.

LFW, XQLFW, RFW     10 300 / name 1 4 / name 1 other 2      tabs; the first line counts folds and pairs of each kind
SLLFW               Ann/Ann_0001.jpg, a line a picture      one person where both lie in one folder
CALFW, CPLFW        Ann_0001.jpg 3, a line a picture        0: two people; else one (the number of its fold)
DoppelVer           CSV of INDIVIDUAL_1, IMAGE_1, INDIVIDUAL_2, IMAGE_2, LABEL[, SPLIT]
others              path path label, or label path path; blanks, tabs or commas; or CSV whose first line names columns
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.verification.pickled import label_of
from v2f_engine.errors import DatasetError

SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".list")
"""Files that are taken for lists of pairs."""
MAX_BYTES = 1 << 28

Names = tuple[str, ...]
"""The names that a picture may have, the likeliest first."""
Row = tuple[int, list[str]]
"""Number of a line and its columns."""


@dataclass(frozen=True)
class PairList:
    """A list of pairs.

    Args:
        layout: its name, for people.
        pictures: 2N, pair i is 2i and 2i + 1, fold after fold.
        same: bool `[N]`.
        folds: pairs in each fold that the list states, or None.
    """

    layout: str
    pictures: list[Names]
    same: NDArray[np.bool_]
    folds: tuple[int, ...] | None = None


def read_pair_list(path: Path) -> PairList:
    """The pairs of a list.

    Raises:
        DatasetError: of no layout above, or a line that is not of the layout of the others; its number is given.
    """
    rows = _rows(path)
    for layout in (_named_columns, _lfw, _line_a_picture, _paths):
        found = layout(path, rows)
        if found is not None:
            return found
    number, columns = rows[0]
    raise DatasetError(
        f"{path}: line {number}: no layout of pairs that is known: {columns[:6]}. Expected LFW's `name 1 4` and "
        "`name 1 other 2`, `path path label`, a line a picture (CALFW, SLLFW), or CSV of path1, path2, label."
    )


def _rows(path: Path) -> list[Row]:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DatasetError(f"{path}: {size} bytes; expected a list of pairs of at most {MAX_BYTES}.")
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin1")  # every byte is a character: names of files are then looked up as such
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise DatasetError(f"{path}: no line; expected a list of pairs.")
    body = [line for _, line in lines[1:]] or [lines[0][1]]
    separator = next((mark for mark in ("\t", ",", ";") if all(mark in line for line in body)), None)
    return [(number, _columns(line, separator)) for number, line in lines]


def _columns(line: str, separator: str | None) -> list[str]:
    if separator is None or separator not in line:
        return line.split()
    if separator == "\t":
        return [word.strip() for word in line.strip().split("\t") if word.strip()]
    return [word.strip() for word in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]


def _of_folds(
    layout: str, pairs: Sequence[tuple[Names, Names, bool]], folds: Sequence[int] | None
) -> PairList:
    """The list, ordered by fold where folds are stated; pairs of a fold keep their order."""
    order = list(range(len(pairs)))
    sizes = None
    if folds is not None:
        order.sort(key=lambda pair: folds[pair])
        sizes = tuple(count for _, count in sorted(Counter(folds).items()))
    pictures = [names for at in order for names in pairs[at][:2]]
    return PairList(layout, pictures, np.array([pairs[at][2] for at in order], np.bool_), sizes)


def _label(word: str, where: str) -> bool:
    label = label_of(word)
    if label is None:
        raise DatasetError(f"{where}: expected the label 0, 1, true or false, found {word[:20]!r}.")
    return label


PERSONS = ("individual", "person", "identity", "name")
IMAGES = ("image", "img", "path", "file", "photo")
"""Words of the columns of either side, before 1 and 2."""
LABELS = ("label", "same", "issame", "is_same", "match", "target", "genuine")
SPLITS = ("split", "fold")


def _named_columns(path: Path, rows: list[Row]) -> PairList | None:
    head = [word.lower() for word in rows[0][1]]

    def place(names: Sequence[str]) -> int | None:
        return next((head.index(name) for name in names if name in head), None)

    def sides(words: Sequence[str]) -> list[int | None]:
        return [place([f"{word}{join}{side}" for word in words for join in ("_", "")]) for side in (1, 2)]

    image, person = sides(IMAGES), sides(PERSONS)
    if image[0] is None or image[1] is None:
        return None
    label, split = place(LABELS), place(SPLITS)
    if label is None or (person[0] is None) != (person[1] is None):
        raise DatasetError(
            f"{path}: columns {head}; expected a label ({', '.join(LABELS)}) and both sides alike."
        )
    pairs, splits = [], []
    for number, columns in rows[1:]:
        where = f"{path}: line {number}"
        if len(columns) != len(head):
            raise DatasetError(f"{where}: {len(columns)} columns; the first line names {len(head)}: {head}.")
        both = []
        for at, who in zip(image, person, strict=True):
            assert at is not None
            both.append((columns[at] if who is None else f"{columns[who]}/{columns[at]}",))
        pairs.append((both[0], both[1], _label(columns[label], where)))
        splits.append("" if split is None else columns[split])
    if not pairs:
        raise DatasetError(f"{path}: no pair below the line that names its columns.")
    return _of_folds(
        f"CSV of {', '.join(rows[0][1])}", pairs, None if split is None else _folds(path, splits)
    )


def _folds(path: Path, splits: list[str]) -> list[int] | None:
    """Folds by number, or None where all pairs are of one."""
    counts = Counter(splits)
    if len(counts) == 1:
        return None
    if not all(split.isdecimal() for split in counts):
        each = ", ".join(f"{name!r} of {count}" for name, count in counts.most_common(5))
        raise DatasetError(
            f"{path}: pairs of {len(counts)} splits ({each}), which are no numbers of folds. Keep the lines of one "
            "split in a list of its own."
        )
    return [int(split) for split in splits]


def _lfw(path: Path, rows: list[Row]) -> PairList | None:
    head = rows[0][1]
    stated = (
        [int(word) for word in head] if len(head) <= 2 and all(word.isdecimal() for word in head) else None
    )
    body = rows if stated is None else rows[1:]
    if not body or (stated is None and not _is_lfw(body[0][1])):
        return None
    pairs = []
    for number, columns in body:
        if not _is_lfw(columns):
            raise DatasetError(
                f"{path}: line {number}: expected `name 1 4` or `name 1 other 2`, found {columns[:6]}."
            )
        other = columns[0] if len(columns) == 3 else columns[2]
        pairs.append((_numbered(columns[0], columns[1]), _numbered(other, columns[-1]), len(columns) == 3))
    folds = None
    if stated is not None:
        sets, each = (1, stated[0]) if len(stated) == 1 else stated
        one = sum(same for *_, same in pairs)
        if (one, len(pairs) - one) != (sets * each, sets * each):
            raise DatasetError(
                f"{path}: its first line states {sets} x {each} pairs of one person and as many of two; found {one} "
                f"and {len(pairs) - one}. The list is cut or was put together of two."
            )
        folds = None if sets == 1 else [pair // (2 * each) for pair in range(len(pairs))]
    return _of_folds("pairs as in LFW", pairs, folds)


def _is_lfw(columns: list[str]) -> bool:
    numbers = {3: (1, 2), 4: (1, 3)}.get(len(columns), ())
    return bool(numbers) and all(columns[at].isdecimal() for at in numbers)


def _numbered(name: str, number: str) -> Names:
    padded = f"{int(number):04d}"
    stems = (f"{name}_{padded}", f"{name}_{number}", padded, number)
    return tuple(dict.fromkeys(f"{name}/{stem}" for stem in stems))


def _line_a_picture(path: Path, rows: list[Row]) -> PairList | None:
    width = len(rows[0][1])
    numbered = width == 2 and rows[0][1][1].isdecimal()
    if not numbered and (width != 1 or "/" not in rows[0][1][0].replace("\\", "/")):
        return None
    if len(rows) % 2:
        raise DatasetError(f"{path}: {len(rows)} lines of a picture each; expected two a pair.")
    pairs = []
    for (first, one), (second, two) in zip(rows[::2], rows[1::2], strict=True):
        where = f"{path}: lines {first} and {second}"
        if not len(one) == len(two) == width:
            raise DatasetError(f"{where}: {len(one)} and {len(two)} columns; the first line has {width}.")
        if numbered:
            if one[1] != two[1] or not one[1].isdecimal():
                raise DatasetError(f"{where}: one pair has the labels {one[1][:20]!r} and {two[1][:20]!r}.")
            same = int(one[1]) != 0
        else:
            parents = [PurePosixPath(each[0].replace("\\", "/")).parent for each in (one, two)]
            same = parents[0] == parents[1]
        pairs.append(((one[0],), (two[0],), same))
    told = "its label beside it, 0 for two people" if numbered else "one person where both lie in one folder"
    return _of_folds(f"a line a picture, {told}", pairs, None)


def _paths(path: Path, rows: list[Row]) -> PairList | None:
    width = len(rows[0][1])
    if width not in (3, 4):
        return None
    for number, columns in rows:
        if len(columns) != width:
            raise DatasetError(f"{path}: line {number}: {len(columns)} columns; the first line has {width}.")
    places = [at for at in (0, 2) if all(label_of(columns[at]) is not None for _, columns in rows)]
    if not places:
        _check_labels(path, rows)
    if len(places) != 1:
        return None
    label = places[0]
    one, two = (1, 2) if label == 0 else (0, 1)
    pairs = [((columns[one],), (columns[two],), bool(label_of(columns[label]))) for _, columns in rows]
    folds = None if width == 3 else _folds(path, [columns[3] for _, columns in rows])
    return _of_folds("label, path, path" if label == 0 else "path, path, label", pairs, folds)


def _check_labels(path: Path, rows: list[Row]) -> None:
    """Raises with the line whose label is none, where all others have one."""
    for at in (2, 0):
        odd = [(number, columns[at]) for number, columns in rows if label_of(columns[at]) is None]
        if len(odd) <= len(rows) // 2:
            number, word = odd[0]
            _label(word, f"{path}: line {number} ({len(odd)} of {len(rows)} such lines)")

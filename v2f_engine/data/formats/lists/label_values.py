"""Labels as strangers spell them (numbers, floats, names), made whole numbers from 0; never two people one label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import DatasetError

LABEL_NAMES = (
    "label", "labels", "cls", "class", "class_id", "label_id", "identity", "identity_id", "id", "person",
    "person_id", "pid", "subject", "subject_id", "target",
)  # fmt: skip
"""What columns of labels are called, the most usual first; compared in lower case. `label` wins over the others."""

SPLIT_NAMES = ("split", "set", "subset", "partition", "fold")
"""What columns are called that say of which set a row is; compared in lower case."""

PERSON_NAMES = ("identity", "identity_id", "person", "person_id", "pid", "subject", "subject_id")
"""Of `LABEL_NAMES`, those that mean nothing but a person: where they group otherwise than labels, one of both lies."""

LAST_RESORT = ("id", "target")
"""Of `LABEL_NAMES`, those that number rows as often as people."""

_WHOLE = re.compile(r"\d{1,18}(\.0*)?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf", re.IGNORECASE)


def grouping(values: Iterable[object]) -> list[int]:
    """Each value as the number of different ones before it first stands: equal lists group equally."""
    seen: dict[object, int] = {}
    return [seen.setdefault(value, len(seen)) for value in values]


def is_number(text: str) -> bool:
    """Whether a cell of a table is a number and not a name."""
    return _NUMBER.fullmatch(text) is not None


def ranked(names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """(int64 `[N]`: rank of each name among the sorted ones, those names)."""
    known, ranks = np.unique(np.asarray(names, object), return_inverse=True)
    return ranks.astype(np.int64), [str(name) for name in known]


def of_texts(texts: Sequence[str], where: str) -> tuple[NDArray[np.int64], list[str] | None]:
    """(int64 `[N]`, the name of each label or None where the texts are the numbers themselves).

    `7` and `7.000000` (im2rec's spelling) are the number 7. `007` beside `7` are two names, not one number. Digits that
    an int64 may not hold are names too.

    Raises:
        DatasetError: numbers below 0, or not whole; names that Unicode spells in two ways.
    """
    spelled = sorted(set(texts))
    refuse_two_spellings(spelled, where)
    long = any(len(text) > 18 for text in spelled) and all(
        text.isascii() and text.isdigit() for text in spelled
    )
    if long or not all(is_number(text) for text in spelled):
        return ranked(texts)
    wrong = [text for text in spelled if not _WHOLE.fullmatch(text)]
    if wrong:
        count = sum(text in set(wrong) for text in texts)
        raise DatasetError(
            f"{where}: expected labels that are names or whole numbers from 0, found {wrong[0]} ({count} of "
            f"{len(texts)} are no such number; -1 often means: not known)."
        )
    values = {text: int(text.partition(".")[0]) for text in spelled}
    padded = any(len(text.partition(".")[0]) > 1 and text.startswith("0") for text in spelled)
    if padded and len(set(values.values())) < len(spelled):
        return ranked(texts)
    return np.array([values[text] for text in texts], np.int64), None


def refuse_two_spellings(names: Iterable[str], where: str) -> None:
    """Raises where two names differ by Unicode's normalisation alone: macOS writes an accent apart, others do not.

    Such are one person copied by two machines, and would be two.
    """
    known: dict[str, str] = {}
    for name in names:
        if not name.isascii() and known.setdefault(normalize("NFC", name), name) != name:
            other = known[normalize("NFC", name)]
            raise DatasetError(
                f"{where}: {other!a} and {name!a} are one name in two spellings of Unicode, as macOS and "
                "other systems write it: one person would count as two. Give both one (convmv --nfc renames files)."
            )


def of_floats(values: NDArray[np.floating], where: str) -> NDArray[np.int64]:
    """int64 `[N]` of labels kept as floats.

    Raises:
        DatasetError: one that is no whole number from 0, or so large that two people may share it.
    """
    exact = 1 << (np.finfo(values.dtype).nmant + 1)
    good = (values >= 0) & (values < exact) & (values == np.floor(values))
    if not good.all():
        bad = np.flatnonzero(~good)
        raise DatasetError(
            f"{where}: row {bad[0]}: label {float(values[bad[0]])!r}; expected a whole number from 0 and below "
            f"{exact}, up to "
            f"which {values.dtype} is exact ({len(bad)} of {len(values)} rows)."
        )
    return values.astype(np.int64)

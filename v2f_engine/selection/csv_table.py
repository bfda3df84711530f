"""`selection.csv`: a row for every image that was chosen among, kept or dropped, and the reason."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from v2f_engine.selection.criteria import NEVER
from v2f_engine.selection.rule import Rule, reasons

COLUMNS = ("identity", "label", "image", "kept_as", "place", "cosine_to_centre", "duplicate_of")
"""Before the scores and the reason."""


def csv_of(choices: Iterable[tuple[int, int, NDArray[np.void]]], rule: Rule) -> bytes:
    """The file's bytes: UTF-8, commas, lines that end in a newline, floats in full.

    Columns: `identity` and `label` of the new set and of the source; `image` its number in the source; `kept_as` its
    number in the new set, empty where it was dropped; `place` 1 for the best; `cosine_to_centre`, empty where no
    features were read; `duplicate_of` the image that it repeats, or empty; `score_NAME` of each criterion; `reason`.

    Args:
        choices: (identity, label, what `Rule.choose` says) of each person.
        rule: that chose.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"score_{name}" for name in rule.by), "reason"])
    for identity, label, table in choices:
        number = np.cumsum(table["kept"]) - 1
        for row, new, reason in zip(table, number.tolist(), reasons(table), strict=True):
            writer.writerow(
                [
                    identity,
                    label,
                    int(row["image"]),
                    new if row["kept"] else "",
                    int(row["rank"]) + 1,
                    _float(row["to_centre"]),
                    "" if row["duplicate_of"] == NEVER else int(row["duplicate_of"]),
                    *(_float(row[name]) for name in rule.by),
                    reason,
                ]
            )
    return text.getvalue().encode()


def _float(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))

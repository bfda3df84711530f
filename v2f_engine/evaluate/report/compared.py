"""Sets side by side: faces, every measure with its interval, and the difference in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from v2f_engine.evaluate.report.measures import (
    MEASURES,
    TOO_FEW,
    Measure,
    difference_text,
    interval_text,
    judged,
    value_text,
)
from v2f_engine.evaluate.report.pieces import strips, table

LEADING = ("unique_share", "eer", "own_nearest", "pair_cosine", "leakage")
"""Measures that are said in words at the top."""
STRIPS = 8
"""Identities shown of each set where there are several."""
MARKS = {1: ' <span class="good">better</span>', -1: ' <span class="bad">worse</span>', 0: ""}


def in_words(record: Mapping[str, Any]) -> list[str]:
    """A sentence a leading measure and set, HTML."""
    known = {measure.name: measure for measure in MEASURES}
    found = []
    for other in record["beside"]:
        told = [_sentence(known[name], record, other) for name in LEADING]
        found += [_summary(other), *(text for text in told if text)]
    return found


def _summary(other: Mapping[str, Any]) -> str:
    """How many measures differ, and for whom that is good."""
    found = [
        (measure, other["differences"][measure.name])
        for measure in MEASURES
        if measure.name in other["differences"]
    ]
    told = [(measure, one) for measure, one in found if one["verdict"] != "unknown"]
    signs = [judged(measure, one) for measure, one in told]
    differ = sum(one["verdict"] != "alike" for _, one in told)
    name = f"<b>{escape(str(other['name']))}</b>"
    if not told:
        return f"Beside {name} no measure can be compared: too few."
    better, worse = signs.count(1), signs.count(-1)
    ways = ", ".join(
        f"{count} {way}" for count, way in ((better, "better"), (worse, "worse"), (differ - better - worse, "neither"))
        if count
    )  # fmt: skip
    rest = f": {ways}" if ways else ""
    return f"Beside {name}: {differ} of {len(told)} measures differ{rest}."


def _sentence(measure: Measure, record: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    ours, theirs = record["intervals"].get(measure.name), other["intervals"].get(measure.name)
    if ours is None and theirs is None:
        return ""
    found = other["differences"].get(measure.name)
    words = difference_text(measure, found)
    values = (
        f"{value_text(measure, ours)} here, {value_text(measure, theirs)} in <b>{escape(other['name'])}</b>"
    )
    verdict = "too few to compare" if words == TOO_FEW else words
    name = measure.title[0].upper() + measure.title[1:]
    return f"{name}: {values}; {verdict}{MARKS[judged(measure, found)]}."


def side_by_side(record: Mapping[str, Any]) -> str:
    """The section with the table of every set beside the first; nothing where there is none."""
    return "".join(_beside(record, other) for other in record["beside"])


def _beside(record: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    mine, theirs = record["dataset"], other["dataset"]
    names = [escape(str(one["name"])) for one in (mine, theirs)]
    rows = [
        (False, [what, f"{mine[what]:,}", f"{theirs[what]:,}", _counted(mine[what], theirs[what])])
        for what in ("identities", "images")
    ]
    rows += [
        (False, _cells(measure, record, other))
        for measure in MEASURES
        if measure.name in record["intervals"] or measure.name in other["intervals"]
    ]
    notes = [f"Too few in {name}: {escape(one['too_few'])}." for name, one in zip(names, (record, other), strict=True)
             if one["too_few"]]  # fmt: skip
    if mine["identities"] != theirs["identities"]:
        sized = ", ".join(measure.title for measure in MEASURES if measure.sized)
        notes.append(
            f"The sets have {mine['identities']:,} and {theirs['identities']:,} identities. These fall as a set grows, "
            f"whoever is in it: {sized}. Compare them between sets of one size."
        )
    return (
        f"<h2>Beside {names[1]}</h2>"
        + table(("measure", *names, "difference"), rows, words=3, stacked=True)
        + "".join(f'<p class="note">{note}</p>' for note in notes)
        + f'<p class="note">{names[0]} less {names[1]}; below each figure its interval of 95 %. Of twenty measures '
        "one is expected to differ by chance alone.</p>"
    )


def _counted(mine: int, theirs: int) -> str:
    return "the same" if mine == theirs else f"{abs(mine - theirs):,} {'more' if mine > theirs else 'fewer'}"


def _cells(measure: Measure, record: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    found = other["differences"].get(measure.name)
    shown = []
    for one in (record, other):
        interval = one["intervals"].get(measure.name)
        ends = interval_text(measure, interval)
        shown.append(value_text(measure, interval) + (f"<small>{escape(ends)}</small>" if ends else ""))
    return [measure.title, *shown, difference_text(measure, found) + MARKS[judged(measure, found)]]


def faces(
    record: Mapping[str, Any], own: Sequence[Sequence[bytes]], others: Sequence[Sequence[Sequence[bytes]]]
) -> str:
    """The faces of all sets: of one over the whole width, of several in a column each."""
    blocks = []
    named = [record["dataset"], *(one["dataset"] for one in record["beside"])]
    for dataset, rows in zip(named, [own, *others], strict=True):
        if others:
            rows = (
                [rows[place * len(rows) // STRIPS] for place in range(STRIPS)] if len(rows) > STRIPS else rows
            )
        if rows:
            note = (
                f"{len(rows)} of {dataset['identities']:,} identities, spread over the set, one a strip; their first "
                "images."
            )
            title = f"<h3>{escape(str(dataset['name']))}</h3>" if others else ""
            blocks.append(f'<div>{title}<p class="note">{note}</p>{strips(rows)}</div>')
    if not blocks:
        return ""
    text = "".join(blocks)
    return "<h2>Faces</h2>" + (f'<div class="sets">{text}</div>' if others else text)

"""The sections about separability and consistency, with curves of every set of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from v2f_engine.evaluate.report.charts import Axis, Mark, Series, area, chart
from v2f_engine.evaluate.report.measures import KNOWN, interval_text
from v2f_engine.evaluate.report.pieces import number, percent, sets_of, table

RED = "var(--red)"
OWN = "var(--blue)"
READ = {
    "yaw": ("Yaw", "yaw, degrees", -75.0, 75.0),
    "quality": ("Quality", "quality, points of the embedded estimator", 10.0, 40.0),
}
"""Reading -> title, axis and its ends."""


def apart(record: Mapping[str, Any]) -> str:
    """Are the identities apart?"""
    measured = record["separability"]
    text = "<h2>Are the identities apart?</h2>"
    if record["too_few"]:
        text += f"<p>Too few: {escape(record['too_few'])}.</p>"
    else:
        drawn, there = measured["impostor_pairs"], measured["impostor_pairs_in_all"]
        two = f"all {there:,}" if drawn == there else f"{drawn:,} different ones of the {there:,}"
        text += (
            f"<p>All {measured['genuine_pairs']:,} pairs of one identity, and {two} pairs of two. An identity is "
            "unique when its centre is not above the threshold with that of any earlier one.</p>"
        )
    head = ("set", "EER", "FMR100", "FMR1000", "FDR", "genuine", "impostor", "U", "C")
    sets = sets_of(record)
    rows = [_row(name, one, own=one is record and len(sets) > 1) for name, one, _ in sets]
    drawn = [(name, one, colour) for name, one, colour in sets if one["scores"] is not None]
    blocks = [
        f"<div><h3>Cosines of image pairs{'' if len(sets) == 1 else ': ' + escape(name)}</h3>"
        + _histogram(name, one["scores"], [other["scores"] for _, other, _ in drawn], record)
        + "</div>"
        for name, one, _ in drawn
    ]
    if drawn:
        blocks.append("<div><h3>ROC</h3>" + _roc(drawn, miss=False) + "</div>")
        blocks.append("<div><h3>DET</h3>" + _roc(drawn, miss=True) + "</div>")
    curved = [(name, one, colour) for name, one, colour in sets if one["separability"]["curve"]]
    if curved:
        blocks.append("<div><h3>Unique identities over prefixes</h3>" + _prefixes(curved) + "</div>")
    return (
        text
        + table(head, rows)
        + '<p class="note">Below each figure its interval of 95 %. FMR100 and FMR1000: share of genuine pairs missed '
        "where 1 % and 0.1 % of impostor pairs match. FDR: squared difference of the means over the sum of variances. "
        "Genuine, impostor: mean and deviation of the cosines. U and C: DCFace's unique and consistent shares at a "
        f"distance of {record['dcface']['radius']:.2f}.</p>"
        f'<div class="two">{"".join(blocks)}</div>'
    )


def _row(name: str, record: Mapping[str, Any], *, own: bool) -> tuple[bool, list[str]]:
    m, three, intervals = record["separability"], record["dcface"], record["intervals"]

    def with_ends(text: str, which: str, *, missed: bool = False) -> str:
        ends = intervals.get(which)
        if ends is None or ends["low"] is None:
            return text
        if missed:  # what is not matched
            ends = {**ends, "low": 1 - ends["high"], "high": 1 - ends["low"]}
        return f"{text}<small>{interval_text(KNOWN[which], ends)}</small>"

    def spread(kind: str) -> str:
        if m[f"{kind}_mean"] is None:
            return number(None)
        return f"{m[f'{kind}_mean']:.3f} ± {m[f'{kind}_std']:.3f}"

    def missed(rate: str) -> str:
        return "too few pairs" if m[rate] is None and m["impostor_pairs"] else percent(m[rate])

    return own, [
        escape(name),
        with_ends(percent(m["eer"]), "eer"),
        with_ends(missed("fmr100"), "true_match_at_0.01", missed=True),
        with_ends(missed("fmr1000"), "true_match_at_0.001", missed=True),
        with_ends(number(m["fdr"], 2), "fdr"),
        spread("genuine"),
        with_ends(spread("impostor"), "impostor_mean"),
        number(three["unique"]),
        number(three["consistent"]),
    ]


def _histogram(
    name: str, scores: Mapping[str, Any], of_all: list[Mapping[str, Any]], record: Mapping[str, Any]
) -> str:
    """On axes that all sets share."""
    top = max(max(max(one["genuine"][1]), max(one["impostor"][1])) for one in of_all)
    return chart(
        f"Histogram of cosines of genuine and impostor pairs of {name}",
        Axis("cosine", min(one["low"] for one in of_all), 1.0),
        Axis("density", 0.0, top * 1.08),
        [area("different people", scores["impostor"], RED), area("same person", scores["genuine"], OWN)],
        [Mark(record["threshold"], "threshold")],
    )


def _roc(sets: list[tuple[str, Mapping[str, Any], str]], *, miss: bool) -> str:
    low = max(1e-6, min(min(one["scores"]["false_match"]) for _, one, _ in sets))
    series, values = [], []
    for name, one, colour in sets:
        points = list(zip(one["scores"]["false_match"], one["scores"]["true_match"], strict=True))
        if miss:  # a miss rate of zero has no place on a logarithmic axis
            points = [(false, 1 - true) for false, true in points if true < 1]
        values += [value for _, value in points]
        series.append(Series(name, [false for false, _ in points], [value for _, value in points], colour))
    x = Axis("false-match rate", min(0.1, 10.0 ** int(_decade(low))), 1.0, log=True, tick=_power)
    if miss:
        smallest = max(1e-5, min((value for value in values if value > 0), default=1e-3))
        y_axis = Axis(
            "false non-match rate", min(0.1, 10.0 ** int(_decade(smallest))), 1.0, log=True, tick=_power
        )
    else:
        y_axis = Axis("true-match rate", min(0.9, max(0.0, int(min(values) * 10) / 10)), 1.0)
    return chart("DET curve" if miss else "ROC curve", x, y_axis, series)


def _decade(value: float) -> float:
    return math.floor(math.log10(value))


def _power(value: float) -> str:
    power = round(math.log10(value))
    digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if power == 0 else f"10{digits}"


def _prefixes(sets: list[tuple[str, Mapping[str, Any], str]]) -> str:
    curves = [(name, one["separability"]["curve"], colour) for name, one, colour in sets]
    longest = max(first[-1] for _, (first, _), _ in curves)
    series = [Series("all unique", [0, longest], [0, longest], "var(--soft)", dashed=True)]
    series += [Series(name, [0, *first], [0, *unique], colour) for name, (first, unique), colour in curves]
    tick = lambda value: f"{value:,.0f}"  # noqa: E731
    return chart(
        "Unique identities among the first N",
        Axis("identities N", 0, longest, tick=tick),
        Axis("unique among the first N", 0, longest, tick=tick),
        series,
    )


def alike(record: Mapping[str, Any]) -> str:
    """Is each identity itself?"""
    own, real = record["consistency"], record["reference"]
    text = "<h2>Is each identity itself?</h2>"
    if own["pair_cosine"] is None:
        text += f"<p>Too few: {escape(record['too_few'])}.</p>"
    else:
        ends = record["intervals"].get("pair_cosine", {"low": None})
        within = "" if ends["low"] is None else f" (95 %: {interval_text(KNOWN['pair_cosine'], ends)})"
        text += (
            f"<p>Two images of one identity have a mean cosine of {own['pair_cosine']:.3f}{within}; over identities it "
            f"runs from {own['pair_cosine_p05']:.3f} (5 %) to {own['pair_cosine_p95']:.3f} (95 %). An image and the "
            f"rest of its identity have {own['rest_cosine']:.3f}.</p>"
        )
    if real is not None and real["consistency"]["pair_cosine"] is not None:
        other = real["consistency"]
        text += (
            f"<p>{escape(real['name'])}: {other['pair_cosine']:.3f}, from {other['pair_cosine_p05']:.3f} to "
            f"{other['pair_cosine_p95']:.3f}. A set far above a known one varies its people too little, one far below "
            "lets them drift into others.</p>"
        )
    return text + _drawn_alike(record)


def _drawn_alike(record: Mapping[str, Any]) -> str:
    sets = sets_of(record)
    blocks = []
    curves = [(name, one["similarity"], colour) for name, one, colour in sets if one["similarity"]]
    if curves:
        low = min(0.9, math.floor(min(x[0] for _, (x, _), _ in curves) * 10) / 10)
        drawing = chart(
            "Share of identities whose images have this mean cosine or less",
            Axis("mean cosine of an identity's images", low, 1.0),
            Axis("share of identities at or below", 0.0, 1.0),
            [Series(name, [x[0], *x], [0.0, *y], colour) for name, (x, y), colour in curves],
        )
        blocks.append(f"<div><h3>How alike the images of each identity are</h3>{drawing}</div>")
    for key, (title, label, low, high) in READ.items():
        read = [
            (name, one["readings"][key]["bars"], colour)
            for name, one, colour in sets
            if one.get("readings") is not None
        ]
        if read:
            top = max(max(y) for _, (_, y), _ in read)
            drawing = chart(
                f"Histogram of {title.lower()}",
                Axis(label, low, high),
                Axis("density", 0.0, top * 1.08),
                [Series(name, x, y, colour) for name, (x, y), colour in read],
            )
            blocks.append(f"<div><h3>{title}</h3>{drawing}</div>")
    note = ""
    if any(one.get("readings") for _, one, _ in sets):
        images = max(one["readings"]["yaw"]["images"] for _, one, _ in sets if one.get("readings"))
        note = (
            f'<p class="note">Yaw and quality are read off up to {images:,} images of a set by the embedded '
            "estimators, which learned from rendered people: compare sets by them, and take no figure for that of a "
            "photograph.</p>"
        )
    return f'<div class="two">{"".join(blocks)}</div>{note}' if blocks else ""

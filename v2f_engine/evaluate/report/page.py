"""The report as one self-contained page of HTML: no script, no font, no image from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from v2f_engine.evaluate.report.apart import alike, apart
from v2f_engine.evaluate.report.by_group import by_group
from v2f_engine.evaluate.report.compared import faces, in_words, side_by_side
from v2f_engine.evaluate.report.leaks import leakage
from v2f_engine.evaluate.report.measure import Report
from v2f_engine.evaluate.report.measures import KNOWN, interval_text
from v2f_engine.evaluate.report.origin import accuracy, origin
from v2f_engine.evaluate.report.pieces import percent
from v2f_engine.evaluate.report.style import STYLE


def page(report: Report) -> str:
    """The page."""
    record = report.record
    sections = [
        _head(record),
        faces(record, report.faces, report.others),
        side_by_side(record),
        apart(record),
        alike(record),
        by_group(record),
        leakage(record, report.pairs),
        accuracy(record),
        origin(record),
        _method(record),
    ]
    whole = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_title(record)}: dataset report</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )
    return whole.encode(errors="replace").decode()  # names of files that are no UTF-8 cannot be encoded


def _title(record: Mapping[str, Any]) -> str:
    return " beside ".join(
        escape(str(name)) for name in (record["dataset"]["name"], *(one["name"] for one in record["beside"]))
    )


def _head(record: Mapping[str, Any]) -> str:
    dataset, measured, own = record["dataset"], record["separability"], record["consistency"]
    real, leaks, intervals = record["reference"], record["leakage"], record["intervals"]

    def ends(which: str) -> str:
        found = intervals.get(which)
        told = found is not None and found["low"] is not None
        return f"95 %: {interval_text(KNOWN[which], found)}" if told else ""

    def beside(section: str, which: str) -> str:
        return "" if real is None else f"{escape(real['name'])}: {percent(real[section][which])}"

    tiles = [
        (f"{dataset['identities']:,}", "identities", ()),
        (f"{dataset['images']:,}", "images measured", ()),
        (percent(measured["unique_share"]), "unique identities",
         (ends("unique_share"), beside("separability", "unique_share"))),
        (percent(measured["eer"]), "equal error rate", (ends("eer"), beside("separability", "eer"))),
        (percent(own["own_nearest"]), "images nearest to their own identity",
         (ends("own_nearest"), beside("consistency", "own_nearest"))),
    ]  # fmt: skip
    if leaks is not None:
        above = leaks["above"][0]
        chance = "" if above["by_chance"] is None else f"by chance: {percent(above['by_chance'])}"
        tiles.append(
            (percent(above["share"]), "images like somebody in the gallery", (ends("leakage"), chance))
        )
    reader = record["recogniser"].get("name", "features given")
    words = "".join(f"<li>{text}</li>" for text in in_words(record))
    return (
        f"<h1>{_title(record)}</h1>"
        f'<p class="lead">Dataset report by v2f_engine. Read by the recogniser <b>{escape(str(reader))}</b>; two '
        f"images are taken for one person above a cosine of {record['threshold']:.3f} "
        f"({escape(record['threshold_from'])}). Every figure is a statement by that recogniser.</p>"
        + (f'<ul class="short">{words}</ul>' if words else _tiles(tiles))
    )


def _tiles(tiles: Iterable[tuple[str, str, Iterable[str]]]) -> str:
    cells = (
        f'<div class="tile"><b>{value}</b><span>{escape(name)}</span>'
        + "".join(f"<small>{extra}</small>" for extra in extras if extra)
        + "</div>"
        for value, name, extras in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def _method(record: Mapping[str, Any]) -> str:
    how = record["resampling"]
    return (
        "<h2>How the intervals were made</h2>"
        f"<p>Each is an interval of 95 %: of a hundred sets made alike, about ninety-five would have the value of all "
        f"such people in theirs. Identities were drawn anew with replacement {how['resamples']:,} times (seed "
        f"{how['seed']}), never pairs, since pairs of one person are not independent. A share has Wilson's interval "
        "for as many independent trials as have its variance among the resamples, and for one trial an identity where "
        "that is zero; of the shares of unique identities the variance comes from leaving out one identity at a time. "
        "Other numbers have the 2.5 and 97.5 % quantiles of the resamples, quantiles over identities the ranks of the "
        "binomial distribution. Differences combine both intervals by the square-and-add rule (Newcombe 1998), as of "
        "two independent sets: two sets of the same identities are told apart more cautiously than they could be.</p>"
    )

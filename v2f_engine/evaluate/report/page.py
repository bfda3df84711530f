"""The report as one self-contained page of HTML: no script, no font, no image from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from v2f_engine.evaluate.report.charts import Axis, Mark, Series, area, chart
from v2f_engine.evaluate.report.measure import Report
from v2f_engine.evaluate.report.origin import accuracy, origin
from v2f_engine.evaluate.report.pieces import image, percent, table
from v2f_engine.evaluate.report.style import STYLE

BLUE, RED, GREEN = "var(--blue)", "var(--red)", "var(--green)"


def page(report: Report) -> str:
    """The page."""
    record = report.record
    dataset = record["dataset"]
    sections = [
        _head(record),
        _faces(report.faces, dataset),
        _apart(record),
        _alike(record),
        _leakage(record, report.pairs),
        accuracy(record),
        origin(record),
    ]
    whole = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(dataset['name'])}: dataset report</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )
    return whole.encode(errors="replace").decode()  # names of files that are no UTF-8 cannot be encoded


def _head(record: Mapping[str, Any]) -> str:
    dataset, apart, alike = record["dataset"], record["separability"], record["consistency"]
    real = record["reference"]
    leaks = record["leakage"]

    def beside(value: str) -> str:
        return f"{escape(real['name'])}: {value}" if real is not None else ""

    tiles = [
        (f"{dataset['identities']:,}", "identities", ""),
        (f"{dataset['images']:,}", "images measured", ""),
        (
            percent(apart["unique_share"]),
            "unique identities",
            beside(percent(real["separability"]["unique_share"])) if real else "",
        ),
        (
            percent(apart["eer"]),
            "equal error rate",
            beside(percent(real["separability"]["eer"])) if real else "",
        ),
        (
            percent(alike["own_nearest"]),
            "images nearest to their own identity",
            beside(percent(real["consistency"]["own_nearest"])) if real else "",
        ),
    ]
    if leaks is not None:
        own = leaks["above"][0]
        chance = "" if own["by_chance"] is None else f"by chance: {percent(own['by_chance'])}"
        tiles.append((percent(own["share"]), "images like somebody in the gallery", chance))
    reader = record["recogniser"].get("name", "features given")
    return (
        f"<h1>{escape(dataset['name'])}</h1>"
        f'<p class="lead">Dataset report by v2f_engine. Read by the recogniser <b>{escape(str(reader))}</b>; two '
        f"images are taken for one person above a cosine of {record['threshold']:.3f} "
        f"({escape(record['threshold_from'])}). Every figure is a statement by that recogniser.</p>"
        + _tiles(tiles)
    )


def _tiles(tiles: Iterable[tuple[str, str, str]]) -> str:
    cells = (
        f'<div class="tile"><b>{value}</b><span>{escape(name)}</span>' + (f"<small>{extra}</small>" if extra else "")
        + "</div>"
        for value, name, extra in tiles
    )  # fmt: skip
    return f'<div class="tiles">{"".join(cells)}</div>'


def _faces(faces: list[list[bytes]], dataset: Mapping[str, Any]) -> str:
    if not faces:
        return ""
    rows = "".join(f"<div>{''.join(image(data, 'face') for data in row)}</div>" for row in faces)
    note = f"{len(faces)} of {dataset['identities']:,} identities, spread over the set, one a row; their first images."
    return f'<h2>Faces</h2><p class="note">{note}</p><div class="faces">{rows}</div>'


def _apart(record: Mapping[str, Any]) -> str:
    apart = record["separability"]
    three = record["dcface"]
    blocks = [
        "<div><h3>Cosines of image pairs</h3>" + _histogram(record["scores"], record) + "</div>",
        "<div><h3>ROC</h3>" + _roc(record, miss=False) + "</div>",
        "<div><h3>DET</h3>" + _roc(record, miss=True) + "</div>",
        "<div><h3>Separability over prefixes</h3>" + _curve(record) + "</div>",
    ]
    if record["reference"] is not None:
        name = escape(record["reference"]["name"])
        drawing = _histogram(record["reference"]["scores"], record)
        blocks.insert(1, f"<div><h3>Cosines of image pairs: {name}</h3>{drawing}</div>")
    rows = [_measure_row(record["dataset"]["name"], record, own=record["reference"] is not None)]
    if record["reference"] is not None:
        rows.append(_measure_row(record["reference"]["name"], record["reference"], own=False))
    head = ("set", "EER", "FMR100", "FMR1000", "FDR", "genuine", "impostor", "U", "C")
    return (
        "<h2>Are the identities apart?</h2>"
        f"<p>All {apart['genuine_pairs']:,} pairs of one identity, and {apart['impostor_pairs']:,} different ones of "
        f"the {apart['impostor_pairs_in_all']:,} pairs of two. An identity is unique when its centre is not above the "
        "threshold with that of any earlier one.</p>"
        + table(head, rows)
        + '<p class="note">FMR100 and FMR1000: share of genuine pairs missed where 1 % and 0.1 % of impostor pairs '
        "match. FDR: squared difference of the means over the sum of variances. Genuine, impostor: mean and deviation "
        f"of the cosines. U and C: DCFace's unique and consistent shares at a distance of {three['radius']:.2f}.</p>"
        f'<div class="two">{"".join(blocks)}</div>'
    )


def _measure_row(name: str, record: Mapping[str, Any], *, own: bool) -> tuple[bool, list[str]]:
    m, three = record["separability"], record["dcface"]
    missed = {
        rate: "too few pairs" if m[rate] is None else percent(m[rate]) for rate in ("fmr100", "fmr1000")
    }
    return own, [
        escape(name),
        percent(m["eer"]),
        missed["fmr100"],
        missed["fmr1000"],
        f"{m['fdr']:.2f}",
        f"{m['genuine_mean']:.3f} ± {m['genuine_std']:.3f}",
        f"{m['impostor_mean']:.3f} ± {m['impostor_std']:.3f}",
        f"{three['unique']:.3f}",
        f"{three['consistent']:.3f}",
    ]


def _histogram(scores: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    top = max(max(scores["genuine"][1]), max(scores["impostor"][1]))
    return chart(
        "Histogram of cosines of genuine and impostor pairs",
        Axis("cosine", scores["low"], 1.0),
        Axis("density", 0.0, top * 1.08),
        [
            area("different people", scores["impostor"], RED),
            area("same person", scores["genuine"], BLUE),
        ],
        [Mark(record["threshold"], "threshold")],
    )


def _roc(record: Mapping[str, Any], *, miss: bool) -> str:
    sets = [(record["dataset"]["name"], record["scores"], BLUE)]
    if record["reference"] is not None:
        sets.append((record["reference"]["name"], record["reference"]["scores"], GREEN))
    low = max(1e-6, min(min(scores["false_match"]) for _, scores, _ in sets))
    series, values = [], []
    for name, scores, colour in sets:
        points = list(zip(scores["false_match"], scores["true_match"], strict=True))
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
    import math

    return math.floor(math.log10(value))


def _power(value: float) -> str:
    import math

    power = round(math.log10(value))
    digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if power == 0 else f"10{digits}"


def _curve(record: Mapping[str, Any]) -> str:
    sets = [(record["dataset"]["name"], record["separability"]["curve"], BLUE)]
    if record["reference"] is not None:
        sets.append((record["reference"]["name"], record["reference"]["separability"]["curve"], GREEN))
    longest = max(first[-1] for _, (first, _), _ in sets)
    series = [Series("all unique", [0, longest], [0, longest], "var(--soft)", dashed=True)]
    series += [Series(name, [0, *first], [0, *unique], colour) for name, (first, unique), colour in sets]
    tick = lambda value: f"{value:,.0f}"  # noqa: E731
    return chart(
        "Unique identities among the first N",
        Axis("identities N", 0, longest, tick=tick),
        Axis("unique among the first N", 0, longest, tick=tick),
        series,
    )


def _alike(record: Mapping[str, Any]) -> str:
    alike, real = record["consistency"], record["reference"]
    text = (
        f"<p>Two images of one identity have a mean cosine of {alike['pair_cosine']:.3f}; over identities it runs from "
        f"{alike['pair_cosine_p05']:.3f} (5 %) to {alike['pair_cosine_p95']:.3f} (95 %). An image and the rest of its "
        f"identity have {alike['rest_cosine']:.3f}.</p>"
    )
    if real is not None:
        other = real["consistency"]
        text += (
            f"<p>{escape(real['name'])}: {other['pair_cosine']:.3f}, from {other['pair_cosine_p05']:.3f} to "
            f"{other['pair_cosine_p95']:.3f}. A set far above a known one varies its people too little, one far below "
            "lets them drift into others.</p>"
        )
    return "<h2>Is each identity itself?</h2>" + text


def _pairs(leaks: Mapping[str, Any]) -> str:
    """The published measure: shares of all pairs. A percentage of three digits would show most of them as 0."""
    kinds = {"pairs": "of rows", "centres": "of people, by centres", "people": "of people, by any two rows"}
    counted = [above for above in leaks["above"] if above.get("pairs")]
    shown = [kind for kind in kinds if any(above.get(kind) for above in counted)]
    if not shown:
        return ""
    rows = [
        (
            False,
            [
                f"{above['threshold']:.3f}",
                *(f"{100 * above[kind]['share']:.3g} % ({above[kind]['count']:,})" for kind in shown),
            ],
        )
        for above in counted
    ]
    twice = (
        '<p class="note">Both sides are one set: every row is its own nearest, so the shares of rows say nothing of '
        "leakage; pairs of a row or person with itself are left out here.</p>"
        if leaks.get("same_set")
        else ""
    )
    return (
        table(("pairs above", *(kinds[kind] for kind in shown)), rows)
        + '<p class="note">Share of all pairs, as the published table counts identities.</p>'
        + twice
    )


def _leakage(record: Mapping[str, Any], pairs: Sequence[tuple[bytes | None, bytes | None, float]]) -> str:
    leaks = record["leakage"]
    if leaks is None:
        return (
            "<h2>Identity leakage</h2><p>Not measured: give <code>--gallery</code>, the images or features of the real "
            "people who must not be in it.</p>"
        )
    rows = [
        (
            False,
            [
                escape(above["what"]),
                f"{above['threshold']:.3f}",
                f"{above['count']:,}",
                percent(above["share"], 3),
                "" if above["by_chance"] is None else percent(above["by_chance"], 3),
            ],
        )
        for above in leaks["above"]
    ]
    bars = leaks["histogram"]
    drawing = chart(
        "Histogram of nearest cosines",
        Axis("cosine with the nearest gallery row", bars["low"], 1.0),
        Axis("density", 0.0, max(bars["bars"][1]) * 1.08),
        [area("", bars["bars"], BLUE)],
        [Mark(above["threshold"], f"{above['what']}: {above['count']:,}") for above in leaks["above"]],
    )
    shown = "".join(
        f'<div class="pair"><div>{image(made, "synthetic")}{image(real, "gallery")}</div>'
        f"<span>{cosine:.3f}</span></div>"
        for made, real, cosine in pairs
    )
    return (
        "<h2>Identity leakage</h2>"
        f"<p>Each of {leaks['synthetic']:,} images against each of {leaks['gallery']:,} rows of "
        f"<b>{escape(leaks['gallery_name'])}</b>; the largest cosine counts.</p>"
        + table(("threshold", "cosine", "above", "share", "by chance"), rows)
        + '<p class="note">By chance: what people who are not in the gallery reach when each meets all of it at that '
        "false-match rate. A share near it is no sign of leakage, a share far above it is.</p>"
        + _pairs(leaks)
        + f'<div class="two"><div>{drawing}</div></div>'
        + (
            f"<h3>Nearest pairs, synthetic left, gallery right</h3><div class='pairs'>{shown}</div>"
            if shown
            else ""
        )
    )

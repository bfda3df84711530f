"""The section about leakage: is a real person among the generated?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from v2f_engine.evaluate.report.charts import Axis, Mark, area, chart
from v2f_engine.evaluate.report.pieces import COLOURS, image, percent, table


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


def leakage(record: Mapping[str, Any], pairs: Sequence[tuple[bytes | None, bytes | None, float]]) -> str:
    """The section about real people who might be in the set."""
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
        [area("", bars["bars"], COLOURS[0])],
        [Mark(above["threshold"], f"{above['what']}: {above['count']:,}") for above in leaks["above"]],
    )
    shown = "".join(
        f'<div class="pair"><div>{image(made, f"made face of pair {place}")}'
        f"{image(real, f'gallery face of pair {place}')}</div><span>{cosine:.3f}</span></div>"
        for place, (made, real, cosine) in enumerate(pairs, 1)
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

"""The page's tables about other sets and about the making of this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from v2f_engine.evaluate.report.pieces import table
from v2f_engine.evaluate.report.published import ROWS, SETS, Cited

SPELLINGS = {
    "lfw": "LFW",
    "cfpfp": "CFP-FP",
    "cplfw": "CPLFW",
    "agedb30": "AgeDB-30",
    "agedb": "AgeDB-30",
    "calfw": "CALFW",
}
"""How files name the five published sets."""


def accuracy(record: Mapping[str, Any]) -> str:
    own = record["accuracy"]
    published = [
        (
            False,
            [row.name, row.images, *_five(row.accuracy), f"{row.average:.2f}", _cited(row.source)],
            row.average,
        )
        for row in ROWS
    ]
    rows = list(published)
    other = []
    for entry in own:
        found = {_spelled(item["name"]): 100 * item["accuracy"] for item in entry["sets"]}
        if set(SETS) <= set(found):
            average = sum(found[name] for name in SETS) / len(SETS)
            cells = [
                escape(entry["name"]),
                "",
                *[f"{found[name]:.2f}" for name in SETS],
                f"{average:.2f}",
                "this report",
            ]
            rows.append((True, cells, average))
        else:
            other.append(entry)
    rows.sort(key=lambda row: row[2])
    text = "<h2>Accuracy of recognisers trained on it</h2>"
    if not own:
        text += (
            "<p>Not given. Train a recogniser on the set, run <code>v2f evaluate verification</code> on the test sets "
            "and give its JSON as <code>--accuracy NAME=verification.json</code>.</p>"
        )
    for entry in other:
        lines = [(False, _own_cells(item)) for item in entry["sets"]]
        lines.append((True, ["average", f"{100 * entry['average']:.2f}", ""]))
        text += f"<h3>{escape(entry['name'])}</h3>" + table(("test set", "accuracy, %", "pairs"), lines)
        text += (
            '<p class="note">These test sets are not the five below: the two tables cannot be compared.</p>'
        )
    head = ("training set", "images", *SETS, "average", "source")
    return (
        text
        + "<h3>What others have published</h3>"
        + '<p class="note">Percent, as stated by the source named; not measured here. Trainers differ, so differences '
        "below about 0.3 between sources mean nothing.</p>"
        + table(head, [(mine, cells) for mine, cells, _ in rows], words=())
    )


def _cited(source: Cited) -> str:
    return f'<a href="{source.url}" title="read at {source.revision}">{source.name}</a>'


def _own_cells(item: Mapping[str, Any]) -> list[str]:
    accuracy = f"{100 * item['accuracy']:.2f} ± {100 * item['deviation']:.2f}"
    return [escape(item["name"]), accuracy, f"{item['pairs']:,}"]


def _spelled(name: str) -> str:
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return SPELLINGS.get(plain, name)


def _five(values: Sequence[float] | None) -> list[str]:
    return [""] * len(SETS) if values is None else [f"{value:.2f}" for value in values]


def origin(record: Mapping[str, Any]) -> str:
    dataset = record["dataset"]
    text = "<h2>Where it comes from</h2>"
    if dataset["licences"]:
        rows = [
            (False, [escape(link["part"]), escape(link["name"]), escape(link["licence"]), escape(link["trained_on"]),
                     f"<code>{escape(link['sha256'][:12])}</code>"])
            for link in dataset["licences"]
        ]  # fmt: skip
        text += "<h3>Licence chain</h3>" + table(
            ("part", "name", "licence", "trained on", "sha256"), rows, words=(1, 2, 3)
        )
        text += (
            '<p class="note">A licence of weights says nothing about the photographs they were trained on; whether a '
            "set made with them may be used for your purpose is for you to clear.</p>"
        )
    else:
        text += "<p>The set has no manifest of this engine, so nothing is known about its making or its licences.</p>"
    if dataset["settings"]:
        rows = [(False, [escape(key), f"<code>{escape(value)}</code>"]) for key, value in dataset["settings"]]
        text += "<details><summary>All settings that decide its bytes</summary>"
        text += table(("setting", "value"), rows, words=1) + "</details>"
    reader = record["recogniser"]
    if reader:
        hashed = f"<code>{escape(reader['sha256'])}</code>"
        text += f"<p class='note'>Recogniser {escape(reader['name'])}, sha256 {hashed}.</p>"
    if record["command"]:
        text += f"<p class='note'>This page again:</p><pre><code>{escape(record['command'])}</code></pre>"
    return text

"""The page's tables about other sets and about the making of this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from v2f_engine.evaluate.report.pieces import table
from v2f_engine.evaluate.tables import Line, Table, columns, make_tables
from v2f_engine.evaluate.tables.columns import Column
from v2f_engine.evaluate.tables.kinds import Result
from v2f_engine.evaluate.tables.table import images_text

HEAD = ("training set", "images")


def accuracy(record: Mapping[str, Any]) -> str:
    """What recognisers trained on the set reach, beside the published figures of `evaluate.tables`."""
    own = record["accuracy"]
    results = [_result(place, entry) for place, entry in enumerate(own)]
    text = "<h2>Accuracy of recognisers trained on it</h2>"
    if not own:
        text += (
            "<p>Not given. Train a recogniser on the set, run <code>v2f evaluate verification</code> on the test sets "
            "and give its JSON as <code>--accuracy NAME=verification.json</code>.</p>"
        )
    for entry, result in zip(own, results, strict=True):
        if columns.AVERAGE in result.values:
            continue
        lines = [(False, _own_cells(item)) for item in entry["sets"]]
        lines.append((True, ["average", f"{100 * entry['average']:.2f}", ""]))
        text += f"<h3>{escape(entry['name'])}</h3>" + table(("test set", "accuracy, %", "pairs"), lines)
        text += (
            '<p class="note">These test sets are not the five below: the two tables cannot be compared.</p>'
        )
    shown = {column.table for result in results for column in result.values}
    which = ["verification", *(["challenging"] if "challenging" in shown else [])]
    text += (
        f"<details{' open' if own else ''}><summary>What others have published</summary>"
        '<p class="note">Percent, as stated by the source named; not measured here. Trainers differ, so differences '
        "below about 0.3 between sources mean nothing.</p>"
    )
    for one in make_tables(results, which=which):
        head = (*HEAD, *(column.name for column in one.columns), "source")
        text += table(head, [(line.ours, _cells(one, line, own)) for line in one])
    return text + "</details>"


def _result(place: int, entry: Mapping[str, Any]) -> Result:
    """An entry of the record as a row of its own, also beside another of that name."""
    values: dict[Column, float] = {}
    for item in entry["sets"]:
        values.setdefault(columns.column_of(item["name"]), 100 * item["accuracy"])
    columns.add_average(values)
    return Result(Path("report"), "verification", str(place), values)


def _cells(one: Table, line: Line, own: Sequence[Mapping[str, Any]]) -> list[str]:
    values = [cell.text(column.form) for cell, column in zip(line.cells, one.columns, strict=True)]
    shown = [
        f"<b>{value}</b>" if cell.best else value for value, cell in zip(values, line.cells, strict=True)
    ]
    if line.ours:
        return [escape(own[int(line.name)]["name"]), "", *shown, "this report"]
    cited = f'<a href="{escape(line.url)}">{escape(line.source)}</a>' if line.url else "-"
    return [escape(line.name), images_text(line.images), *shown, cited]


def _own_cells(item: Mapping[str, Any]) -> list[str]:
    accuracy = f"{100 * item['accuracy']:.2f} ± {100 * item['deviation']:.2f}"
    return [escape(item["name"]), accuracy, f"{item['pairs']:,}"]


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

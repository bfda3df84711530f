"""The report, made from the file of results alone: `gpu.json`, `gpu.md` and pictures beside it.

Runs into one folder are reported together as long as card, driver, versions and commit are the same: a later row
replaces an earlier one of the same section, case and contender. Of other runs in the file only their number is given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from bench import protocol
from bench.gpu.store import FILE, Record, read, unpacked

SAME = ("gpu", "commit", "uncommitted", "torch", "triton", "ptxas", "driver", "python")
"""What runs must agree in to be reported together."""
TITLE, REHEARSED = "GPU checks and benchmarks", "Rehearsal on a CPU: NOT a measurement"
CONDENSED = ("correctness", "correctness, tests")
"""Sections of which only failures are listed one by one; `rows.jsonl` has them all."""


def make(folder: Path) -> protocol.Report:
    """Writes the report of what `folder` holds.

    Raises:
        FileNotFoundError: no results there.
    """
    records = read(folder / FILE)
    runs = [record for record in records if record["kind"] == "run"]
    if not runs:
        raise FileNotFoundError(
            f"{folder.name}: expected {FILE} with a run in it, found none; run `make gpu` first"
        )
    last = runs[-1]
    alike = [run["run"] for run in runs if _key(run) == _key(last)]
    report = protocol.Report(REHEARSED if last["rehearsal"] else TITLE, last["environment"])
    if len(alike) < len(runs):
        report.notes.append(
            f"{len(runs) - len(alike)} runs in {FILE} are of another commit, card or version: left out"
        )
    rows: dict[tuple[str, str, str], protocol.Row] = {}
    for run in alike:
        mine = [record for record in records if record.get("run") == run]
        for row in [*(unpacked(r["row"]) for r in mine if r["kind"] == "row"), *_cut_off(mine)]:
            rows[row.section, row.case, row.contender] = row
        report.ceilings |= {r["name"]: r["value"] for r in mine if r["kind"] == "ceiling"}
        report.notes += [r["text"] for r in mine if r["kind"] == "note" and r["text"] not in report.notes]
        report.notes += _seconds(mine)
    report.rows = condensed(rows.values())
    report.write(folder, "gpu")
    if find_spec("matplotlib"):
        from bench import plots

        plots.draw(folder / "gpu.json")
    return report


def condensed(rows: Iterable[protocol.Row]) -> list[protocol.Row]:
    """Rows with the checks that passed counted by op and contender, or by test function."""
    kept, passed = [], defaultdict[tuple[str, str, str], list[protocol.Row]](list)
    for row in rows:
        if row.section in CONDENSED and row.passed:
            case = row.case.partition("[")[0] if "::" in row.case else row.case.partition(" ")[0]
            passed[row.section, case, row.contender].append(row)
        else:
            kept.append(row)
    counted = []
    for (section, case, contender), found in passed.items():
        words = found[0].check if len(found) == 1 else f"{len(found)} checks passed"
        counted.append(protocol.Row(section, case, contender, True, words))
    return [*counted, *kept]


def _key(run: Record) -> list[object]:
    return [run["environment"].get(name) for name in SAME]


def _cut_off(records: list[Record]) -> list[protocol.Row]:
    """A failed row if the run has no end: its process was ended from outside."""
    if any(record["kind"] == "end" for record in records):
        return []
    planned: list[str] = next((r["plan"] for r in records if r["kind"] == "run"), [])
    over = {record["job"] for record in records if record["kind"] == "job"}
    left = [name for name in planned if name not in over]
    if not left:
        return []
    words = f"cut off: {len(over)} of {len(planned)} jobs were over; next: {left[0]}"
    return [protocol.Row("run", "the plan", "all of it", False, words)]


def _seconds(records: list[Record]) -> list[str]:
    """What each stage's jobs took, beside what was predicted."""
    stages = defaultdict[str, list[Record]](list)
    for record in records:
        if record["kind"] == "job":
            stages[record["stage"]].append(record)
    lines = []
    for stage, jobs in stages.items():
        begun, ended = min(r["at"] - r["seconds"] for r in jobs), max(r["at"] for r in jobs)
        took, predicted = (sum(r[name] for r in jobs) for name in ("seconds", "predicted_s"))
        lines.append(
            f"stage {stage}: {len(jobs)} jobs in {ended - begun:.0f} s; added up {took:.0f}, predicted {predicted:.0f}"
        )
    return lines

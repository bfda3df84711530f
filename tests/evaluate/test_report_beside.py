"""Two sets on one page: every measure with both intervals and the difference in words; what is too little to tell."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from v2f_engine.batch import ImageBatch
from v2f_engine.cli.evaluate_report import card_measures, distinct, page_name, plain_words
from v2f_engine.cli.main import app
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import ConfigError
from v2f_engine.evaluate.consistency import measure_consistency
from v2f_engine.evaluate.report import Report, make_report, page
from v2f_engine.evaluate.report.measures import MEASURES, difference_text, judged, value_text
from v2f_engine.evaluate.separability import measure_separability
from v2f_engine.evaluate.source import FeatureSource
from v2f_engine.evaluate.tables.results import OtherKind, read_result

READER = {"name": "toy", "sha256": "00" * 32}


def people(identities: int, each: int, seed: int, name: str, spread: float) -> FeatureSource:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), each)
    rows = generator.standard_normal((identities, 32))[labels]
    rows = rows + spread * generator.standard_normal((len(labels), 32))
    return FeatureSource(name, rows.astype(np.float32), labels, recogniser=READER)


@pytest.fixture(scope="module")
def made() -> Report:
    """Ours varies little, the other much; a third is drawn as ours is."""
    return make_report(
        people(60, 5, 1, "ours", 0.7),
        threshold=0.4,
        threshold_from="given",
        beside=[people(80, 5, 2, "other <b>", 1.6), people(60, 5, 3, "twin", 0.7)],
        gallery=people(90, 2, 4, "gallery", 0.7),
    )


class Rows(HTMLParser):
    """Table rows as lists of texts, and the sentences of the list at the top."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.items: list[str] = []
        self._in: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in = "cell"
        if tag == "li":
            self.items.append("")
            self._in = "item"
        if tag == "small" and self._in == "cell":
            self.rows[-1][-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "li"):
            self._in = None

    def handle_data(self, data: str) -> None:
        if self._in == "cell":
            self.rows[-1][-1] += data
        if self._in == "item":
            self.items[-1] += data


def test_every_measure_stands_in_its_row_with_both_intervals_and_the_difference(made: Report) -> None:
    record = copy.deepcopy(made.record)
    other = record["beside"][0]
    numbers = iter(range(1, 1000))
    for one in (record, other):  # numbers of which no two are written alike
        for name in one["intervals"]:
            n = next(numbers)
            one["intervals"][name] |= {"value": n + 0.5, "low": n + 0.25, "high": n + 0.75}
    other["differences"]["eer"] = {"value": 0.012, "low": 0.004, "high": 0.02, "verdict": "higher"}
    other["differences"]["pair_cosine"] = {"value": -0.2, "low": -0.3, "high": -0.1, "verdict": "lower"}
    other["differences"]["fdr"] = {"value": 0.0, "low": -1.0, "high": 1.0, "verdict": "alike"}
    found = Rows(page(Report(record, made.faces, made.pairs, made.others)))
    start = found.rows.index(["measure", "ours", "other <b>", "difference"])
    end = next(place for place in range(start + 1, len(found.rows)) if found.rows[place][0] == "measure")
    rows = {row[0]: row[1:] for row in found.rows[start:end]}
    assert rows["identities"] == ["60", "80", "20 fewer"]
    assert rows["images"] == ["300", "400", "100 fewer"]
    told = 0
    for measure in MEASURES:
        mine, theirs = record["intervals"].get(measure.name), other["intervals"].get(measure.name)
        if mine is None:
            continue
        told += 1
        factor, digits, sign = measure.unit.factor, measure.unit.digits, measure.unit.sign
        for cell, one in zip(rows[measure.title][:2], (mine, theirs), strict=True):
            value, low, high = (f"{factor * one[end]:.{digits}f}" for end in ("value", "low", "high"))
            assert cell == f"{value}{sign} | {low} to {high}", measure.name
    assert told >= 14
    assert rows["equal error rate"][2] == "higher by 1.20 (0.40 to 2.00) points worse"
    assert rows["mean cosine within an identity"][2] == "lower by 0.200 (0.100 to 0.300)"
    assert rows["Fisher discriminant ratio"][2] == "cannot be told apart"


def test_sets_are_told_apart_where_they_differ_and_not_where_they_are_drawn_alike(made: Report) -> None:
    other, twin = made.record["beside"]
    for name, verdict in (("pair_cosine", "higher"), ("eer", "lower"), ("true_match_at_0.01", "higher")):
        assert other["differences"][name]["verdict"] == verdict
        assert twin["differences"][name]["verdict"] == "alike", name
    known = {measure.name: measure for measure in MEASURES}
    assert judged(known["eer"], other["differences"]["eer"]) == 1
    assert judged(known["pair_cosine"], other["differences"]["pair_cosine"]) == 0
    sentences = Rows(page(made)).items
    assert any(one.startswith("Equal error rate:") and "other <b>; lower by" in one for one in sentences)
    assert any("in twin; cannot be told apart." in one for one in sentences)
    assert plain_words(made.record)[0] == "ours beside other <b>"
    assert "leakage" in made.record["intervals"]
    assert made.record["beside"][0]["leakage"]["synthetic"] == 400


def test_each_set_is_measured_by_itself(made: Report) -> None:
    for record, source in (
        (made.record, people(60, 5, 1, "ours", 0.7)),
        (made.record["beside"][0], people(80, 5, 2, "other", 1.6)),
    ):
        apart, alike = (
            measure_separability(source.table(), threshold=0.4),
            measure_consistency(source.table()),
        )
        assert record["intervals"]["eer"]["value"] == apart.eer
        assert record["intervals"]["pair_cosine"]["value"] == alike.pair_cosine
        cosines, shares = record["similarity"]
        assert cosines == sorted(float(value) for value in alike.per_identity)
        assert shares[-1] == 1.0
    assert made.record["dataset"]["identities"] == 60


def test_the_same_page_comes_out_again(made: Report) -> None:
    again = make_report(
        people(60, 5, 1, "ours", 0.7),
        threshold=0.4,
        threshold_from="given",
        beside=[people(80, 5, 2, "other <b>", 1.6), people(60, 5, 3, "twin", 0.7)],
        gallery=people(90, 2, 4, "gallery", 0.7),
    )
    for record in (made.record, again.record):  # how long the search took is no measure
        for one in (record, *record["beside"]):
            one["leakage"] |= {"seconds": 0.0, "pair_seconds": 0.0}
    assert page(again) == page(made)
    assert again.record == made.record


@pytest.mark.parametrize(
    ("identities", "each", "why"),
    [
        (1, 6, "it holds one identity"),
        (30, 1, "no identity has two images"),
        (2, 1, "no identity has two images"),
    ],
)
def test_what_is_too_little_is_said_in_its_cell(identities: int, each: int, why: str) -> None:
    little = people(identities, each, 5, "little", 0.7)
    for own, others in ((people(60, 5, 1, "ours", 0.7), [little]), (little, []), (little, [little])):
        made = make_report(own, threshold=0.4, threshold_from="given", beside=others, command="x")
        text = page(made)
        assert why in text
        assert "too few" in text
        assert re.findall(r">[^<>]*\b(?:nan|NaN|None|inf)\b[^<>]*<", text) == []
        json.dumps(made.record, allow_nan=False)
        card_measures(made.record)
    ours = people(60, 5, 1, "ours", 0.7)
    made = make_report(ours, threshold=0.4, threshold_from="given", beside=[little])
    rows = {row[0]: row[1:] for row in Rows(page(made)).rows if row}
    assert rows["equal error rate"][1:] == ["too few", "too few"]


def test_two_images_of_two_people_have_values_and_no_intervals() -> None:
    made = make_report(people(2, 2, 5, "four", 0.3), threshold=0.4, threshold_from="given")
    assert made.record["intervals"]["eer"]["low"] is None
    assert made.record["intervals"]["eer"]["why"] == "too few: 2 identities, 10 needed"
    assert "NaN" not in json.dumps(made.record, allow_nan=False)
    assert "nan" not in page(made)


def test_sets_that_do_not_compare_are_refused() -> None:
    ours = people(20, 3, 1, "ours", 0.7)
    longer = FeatureSource("long", np.ones((6, 64), np.float32), np.repeat([0, 1], 3), recogniser=READER)
    with pytest.raises(ConfigError, match="--beside long: features of 64 numbers do not compare"):
        make_report(ours, threshold=0.4, threshold_from="given", beside=[longer])
    foreign = FeatureSource(
        "foreign", ours.features, ours.labels, recogniser={"name": "r100", "sha256": "11" * 32}
    )
    with pytest.raises(ConfigError, match="foreign was read by r100, ours by toy"):
        make_report(ours, threshold=0.4, threshold_from="given", beside=[foreign])


def test_numbers_and_differences_are_written_as_their_units_are() -> None:
    known = {measure.name: measure for measure in MEASURES}
    eer, yaw = known["eer"], known["yaw"]
    assert value_text(eer, {"value": 0.01234}) == "1.23 %"
    assert value_text(yaw, {"value": -0.02}) == "0.0°"
    assert value_text(yaw, None) == "too few"
    lower = {"value": -0.012, "low": -0.02, "high": -0.004, "verdict": "lower"}
    assert difference_text(eer, lower) == "lower by 1.20 (0.40 to 2.00) points"
    assert (
        difference_text(yaw, {**lower, "value": -12, "low": -20, "high": -4})
        == "lower by 12.0 (4.0 to 20.0) degrees"
    )
    assert difference_text(eer, {**lower, "verdict": "alike"}) == "cannot be told apart"
    assert difference_text(eer, None) == difference_text(eer, {**lower, "verdict": "unknown"}) == "too few"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    generator = np.random.default_rng(0)
    for name, noise in (("one", 6.0), ("two", 60.0)):
        pictures = generator.integers(0, 256, (12, 7, 7, 3)).repeat(16, 1).repeat(16, 2)

        def make(ids: range, pictures: Any = pictures, noise: float = noise) -> Any:
            for identity in ids:
                rows = pictures[identity] + generator.normal(0, noise, (3, 112, 112, 3))
                faces = np.clip(rows, 0, 255).astype(np.uint8)
                yield ImageBatch(faces, np.full(3, identity), np.arange(3), {})

        settings = {
            "model": {"name": "mini", "sha256": "ab" * 32},
            "seed": 5,
            "identities": {"source": "gaussian"},
        }
        write_dataset(root / name, settings, Plan.of(12, 3), make, format="imagefolder")
    return root


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", "report", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_comparison_lies_beside_the_first_set_under_a_name_of_its_own(sets: Path) -> None:
    first, second = sets / "one", sets / "two"
    run(first)
    single = (sets / "one.evaluation" / "report.html").read_bytes()
    said = run(first, "--beside", second)
    assert "one beside two" in said
    assert "mean cosine within an identity" in said
    folder = sets / "one.evaluation"
    assert {entry.name for entry in folder.glob("[!.]*")} == {
        "report.html", "report.json", "report_beside_two.html", "report_beside_two.json"
    }  # fmt: skip
    assert (folder / "report.html").read_bytes() == single
    text = (folder / "report_beside_two.html").read_text()
    assert text.count('<div class="faces">') == 2
    assert text.count("<img ") == 2 * 8 * 3
    record = json.loads((folder / "report_beside_two.json").read_text())
    assert record["beside"][0]["name"] == "two"
    assert record["beside"][0]["readings"]["yaw"]["images"] == 36
    assert {"yaw", "quality", "yaw_deviation"} <= record["beside"][0]["differences"].keys()
    card = (first / "README.md").read_text()
    assert "(95 %: " in card
    with pytest.raises(OtherKind, match="it is the record of a report"):
        read_result(folder / "report_beside_two.json")


def test_names_of_pages() -> None:
    assert page_name(Path("a"), []) == "report"
    assert page_name(Path("a"), [Path("b"), Path("x/c d")]) == "report_beside_b_and_c_d"
    assert page_name(Path("1/a"), [Path("2/a"), Path("b")]) == "report_beside_2_a_and_b"
    assert distinct([Path("/r/1/a"), Path("/r/2/a"), Path("/r/b"), Path("/q/2/a")]) == [
        "1/a",
        "r/2/a",
        "b",
        "q/2/a",
    ]
    for others in ([Path("a")], [Path("b"), Path("b")]):
        with pytest.raises(ConfigError, match="expected another set in each place"):
            page_name(Path("a"), others)

"""Measured rows between the published ones: where they stand, what they say, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tables_toy import FIVE, FOUR, consistency, ijb, leakage, put, separability, verification

from v2f_engine.batch import ImageBatch
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.evaluate.tables import Table, make_tables, read_results
from v2f_engine.evaluate.tables.columns import SPELLINGS


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    """A recogniser's folder and a set's, with everything that can be measured."""
    made, trained = tmp_path / "set.evaluation", tmp_path / "r50.evaluation"
    verification(trained / "verification.json", {**FIVE, **FOUR, "frontal": 0.99})
    ijb(trained / "ijbb.json", "b", 0.84, curve="as-published")
    ijb(trained / "ijbc.json", "c", 0.87, curve="as-published")
    leakage(made / "leakage.json")
    separability(made / "separability.json")
    consistency(made / "consistency.json")
    return [trained, made]


def tables(paths: list[Path], *names: str, **how: object) -> dict[str, Table]:
    found = make_tables(read_results(paths, names).results, **how)  # type: ignore[arg-type]
    return {table.key: table for table in found}


def test_every_measured_figure_has_its_cell(results: list[Path]) -> None:
    found = tables(results, "mine")
    values = {key: table.values(table.line("mine", ours=True)) for key, table in found.items()}
    assert list(values) == [
        "verification",
        "challenging",
        "ijb",
        "leakage",
        "separability",
        "consistency",
        "other",
    ]
    for name, accuracy in {**FIVE, **FOUR}.items():
        column = SPELLINGS["".join(letter for letter in name.lower() if letter.isalnum())]
        assert values[column.table][column.key] == pytest.approx(100 * accuracy)
    assert values["verification"]["average"] == pytest.approx(100 * np.mean(list(FIVE.values())))
    assert values["other"] == {"other:frontal": 99.0}
    assert values["ijb"]["ijbb_tpr_at_fpr_1e-4"] == 84.0
    assert values["ijb"]["ijbc_tpr_at_fpr_1e-4"] == 87.0
    assert values["ijb"]["ijbc_tpr_at_fpr_1e-6"] == 20.0  # measured, and published by nobody
    assert values["leakage"]["pairs_above_0.5"] == pytest.approx(
        1e-7
    )  # of people by their centres, as published
    assert values["leakage"]["people_above_0.5"] == pytest.approx(3e-5)
    assert values["leakage"]["rows_above_0.5"] == 1.0
    assert values["separability"]["unique_of_10000"] == 9_912
    assert values["separability"]["unique_share"] == 98.0
    assert values["consistency"]["own_nearest"] == 99.0
    line = found["verification"].line("mine")
    assert (line.people, line.images) == (10_000, 500_000)


def test_ours_stand_by_their_average_or_beneath(results: list[Path]) -> None:
    table = tables(results[:1])["verification"]
    averages = [line.cells[-1].value for line in table]
    assert averages == sorted(averages)  # type: ignore[type-var]
    names = [line.name for line in table]
    assert names.index("HSFace100K") < names.index("r50") < names.index("HSFace200K")
    beneath = tables(results[:1], order="below")["verification"]
    assert [line.name for line in beneath][-1] == "r50"
    assert [line.name for line in beneath][:-1] == [name for name in names if name != "r50"]


def test_of_five_sets_a_part_has_no_average_and_stands_beneath(tmp_path: Path) -> None:
    path = verification(tmp_path / "v.json", {"lfw": 0.9, "cfp_fp": 0.8})
    line = list(tables([path])["verification"])[-1]
    assert (line.name, line.cells[-1].value, line.cells[0].value) == ("r50", None, 90.0)


def test_hadrian_alone_is_shown(tmp_path: Path) -> None:
    table = tables([verification(tmp_path / "v.json", {"hadrian": 0.8154})])["challenging"]
    assert table.values(table.line("r50"))["hadrian"] == pytest.approx(81.54)


def test_differences_are_ours_minus_theirs(results: list[Path]) -> None:
    table = tables(results, "mine", against=("VFace10K",))["verification"]
    (one,) = table.differences
    assert (one.ours, one.published) == ("mine", "VFace10K")
    assert one.values[0] == pytest.approx(99.12 - 99.35)
    assert one.values[-1] == pytest.approx(100 * np.mean(list(FIVE.values())) - 93.89)
    with pytest.raises(ConfigError, match=r"did you mean 'VFace10K'"):
        tables(results, "mine", against=("VFace1K",))


def test_the_best_is_marked_among_generated_sets(tmp_path: Path) -> None:
    table = tables([verification(tmp_path / "v.json", {**FIVE, "lfw": 0.9957, "cfp_fp": 0.5})])[
        "verification"
    ]
    best = {line.name for line in table if line.cells[0].best}
    assert best == {
        "r50",
        "VFace300K",
    }  # 99.57 as both are written; CASIA + HSFace10K has 99.58, of photographs
    assert {line.name for line in table if line.cells[1].best} == {"VIGFace(L)"}


def test_several_rows_and_a_name_for_each(tmp_path: Path) -> None:
    paths = [
        verification(tmp_path / f"{name}.json", {**FIVE, "lfw": lfw}, name)
        for name, lfw in (("a", 0.9), ("b", 0.8))
    ]
    table = tables(paths)["verification"]
    assert [line.name for line in table if line.ours] == ["b", "a"]
    assert {line.name for line in tables(paths, "x", "y")["verification"] if line.ours} == {"x", "y"}
    assert len(table.differences) == 4
    with pytest.raises(ConfigError, match=r"3 names for 2 paths"):
        tables(paths, "x", "y", "z")
    with pytest.raises(ConfigError, match=r"--name is empty"):
        tables(paths, " ")
    with pytest.raises(ConfigError, match=r"LFW is in .*a\.json and in .*b\.json"):
        tables(paths, "one")


def test_two_protocols_are_no_row(tmp_path: Path) -> None:
    old = ijb(tmp_path / "r.evaluation" / "ijbb.json", "b")  # of before the choice: the exact curve
    new = ijb(tmp_path / "r.evaluation" / "ijbc.json", "c", curve="as-published")
    with pytest.raises(ConfigError, match=r"ROC exact and .*ROC as-published.*two protocols"):
        tables([old, new])
    table = tables([old, new], "one", "other")["ijb"]
    assert {"ROC exact", "ROC as-published"} == {
        word for note in table.footnotes for word in ("ROC exact", "ROC as-published") if word in note.text
    }


def test_which_protocol_of_ijb_is_told_or_asked(tmp_path: Path) -> None:
    told = ijb(tmp_path / "a.json", "x", templates=12_115)
    assert (
        tables([told], "a")["ijb"].values(tables([told], "a")["ijb"].line("a"))["ijbb_tpr_at_fpr_1e-4"]
        == 87.0
    )
    named = ijb(tmp_path / "ijbc_r50.json", "x")
    assert "IJB-C 1e-4" in [column.name for column in tables([named])["ijb"].columns]
    with pytest.raises(DatasetError, match=r"does not say whether it is of IJB-B or IJB-C"):
        tables([ijb(tmp_path / "b.json", "x")])


def test_a_set_beside_its_folder_gives_people_and_images(tmp_path: Path) -> None:
    def batches(ids: range) -> list[ImageBatch]:
        identity = np.repeat(np.arange(ids.start, ids.stop), 2)
        return [
            ImageBatch(np.zeros((len(identity), 112, 112, 3), np.uint8), identity, np.tile([0, 1], len(ids)))
        ]

    write_dataset(tmp_path / "set", {}, Plan.of(3, 2), batches, format="imagefolder", encoder=Encoder())
    leakage(tmp_path / "set.evaluation" / "leakage.json")
    line = tables([tmp_path / "set.evaluation"])["leakage"].line("set")
    assert (line.people, line.images) == (3, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"expected JSON.*Make it again"),
        ("[1]", r"expected an object of JSON, found list"),
        ('{"a": 1}', r"it has the keys \['a'\]"),
        ('{"recogniser": {}, "sets": 3}', r"sets: expected a list of objects, found 3"),
        ('{"recogniser": {}, "sets": [{"name": "lfw"}]}', r"accuracy: expected a number from 0 to 1, found None"),
        ('{"recogniser": {}, "sets": [{"name": "lfw", "accuracy": 98.9}]}', r"accuracy: expected .* found 98\.9"),
        ('{"recogniser": {}, "sets": [{"name": "lfw", "accuracy": true}]}', r"accuracy: expected .* found True"),
        ('{"recogniser": {}, "sets": [{"name": "lfw", "accuracy": NaN}]}', r"expected JSON"),
        (
            '{"recogniser": {}, "sets": [{"name": "lfw", "accuracy": 1}, {"name": "LFW", "accuracy": 1}]}',
            r"LFW is there twice",
        ),
        ('{"tpr": {}, "templates": 23124}', r"tpr: expected rates"),
        ('{"above": [{"threshold": 3}], "synthetic": 1, "gallery": 1}', r"threshold: expected a number from -1 to 1"),
        ('{"dataset": 1, "separability": 1, "accuracy": []}', r"it is the record of a report"),
    ],
)  # fmt: skip
def test_what_is_no_result_is_a_named_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_results([tmp_path / "r.json"])


def test_folders_pass_other_files_over_and_say_so(results: list[Path], tmp_path: Path) -> None:
    put(results[1] / "report.json", {"dataset": 1, "separability": 1, "accuracy": []})
    put(results[1] / ".leakage.json.v2f.json", {"schema": "v2f-output/1"})
    found = read_results([tmp_path])
    assert {result.row for result in found.results} == {"r50", "set"}
    assert len(found.results) == 6
    (told,) = found.passed_over
    assert "report.json" in told
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"holds no result; expected JSONs of"):
        read_results([tmp_path / "empty"])
    with pytest.raises(DatasetError, match=r"is not there"):
        read_results([tmp_path / "absent"])
    (results[1] / "leakage.json").write_text("{")
    with pytest.raises(DatasetError, match=r"leakage\.json"):
        read_results([tmp_path])


def test_without_results_the_published_tables_are_shown() -> None:
    assert [table.key for table in make_tables()] == [
        "verification",
        "challenging",
        "ijb",
        "leakage",
        "separability",
    ]
    assert [table.key for table in make_tables(which=["ijb"])] == ["ijb"]
    with pytest.raises(ConfigError, match=r"--table 'iji' is not known; did you mean 'ijb'"):
        make_tables(which=["iji"])
    with pytest.raises(ConfigError, match=r"--order 'up'"):
        make_tables(order="up")


def test_all_shows_the_talk_and_what_was_measured(results: list[Path]) -> None:
    found = tables([results[1] / "consistency.json"], which=["all"])
    assert list(found) == ["verification", "challenging", "ijb", "leakage", "separability", "consistency"]
    record = json.loads(found["leakage"].to_json())["tables"][0]
    assert not any(row["ours"] for row in record["rows"])

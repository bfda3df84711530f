"""The report page and the commands: self-contained, complete, from a dataset to HTML, JSON, PNG and card."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from v2f_engine.batch import ImageBatch
from v2f_engine.cli.main import app
from v2f_engine.data import open_dataset
from v2f_engine.data.layout import CARD
from v2f_engine.data.records.card import card_text
from v2f_engine.data.records.licences import licence_chain
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.data.verification import write_bin
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import ConfigError
from v2f_engine.evaluate.report import make_report, page
from v2f_engine.evaluate.report.charts import Axis
from v2f_engine.evaluate.source import FeatureSource, first_of_each
from v2f_engine.evaluate.tables.published import VERIFICATION

SETTINGS = {"model": {"name": "mini", "sha256": "ab" * 32}, "seed": 5, "identities": {"source": "gaussian"}}


class Outline(HTMLParser):
    """Open tags that were never closed, and everything that would be fetched from elsewhere."""

    VOID = frozenset({"meta", "img", "line", "path", "br", "i"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        for key, value in attrs:
            fetches = key in ("src", "srcset") or (tag == "link" and key == "href")
            if fetches and not (value or "").startswith("data:"):
                self.fetched.append(f"{tag} {value}")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def people(identities: int, each: int, seed: int, name: str) -> FeatureSource:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), each)
    rows = generator.standard_normal((identities, 64))[labels] + 0.8 * generator.standard_normal(
        (len(labels), 64)
    )
    return FeatureSource(
        name, rows.astype(np.float32), labels, recogniser={"name": "toy", "sha256": "00" * 32}
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people of four images: noise around one picture each."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (6, 7, 7, 3)).repeat(16, 1).repeat(16, 2)

    def make(ids: range):
        for identity in ids:
            images = np.clip(pictures[identity] + generator.normal(0, 8, (4, 112, 112, 3)), 0, 255).astype(
                np.uint8
            )
            yield ImageBatch(
                images, np.full(4, identity), np.arange(4), {"gender": np.full(4, identity % 2, "f4")}
            )

    root = tmp_path_factory.mktemp("sets") / "toys <b>"
    write_dataset(root, SETTINGS, Plan.of(6, 4), make, format="imagefolder")
    return root


def test_a_page_is_whole_self_contained_and_escaped() -> None:
    accuracy = [
        {"name": "ours <i>", "average": 0.9, "sets": [
            {"name": name, "accuracy": 0.9, "deviation": 0.01, "pairs": 6000}
            for name in ("lfw", "cfp_fp", "cplfw", "agedb_30", "calfw")
        ]},
        {"name": "own tests", "average": 0.8, "sets": [
            {"name": "frontal", "accuracy": 0.8, "deviation": 0.02, "pairs": 300}]},
    ]  # fmt: skip
    made = make_report(
        people(40, 5, 1, "made <script>"),
        threshold=0.4,
        threshold_from="given",
        gallery=people(200, 2, 2, "gallery"),
        reference=people(50, 5, 3, "known"),
        accuracy=accuracy,
        command="v2f evaluate report x",
    )
    text = page(made)
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.fetched == []
    assert "script" not in outline.seen
    assert "made &lt;script&gt;" in text
    assert text.count("<svg") == 7
    for row in VERIFICATION:
        assert f"{row.average:.2f}" in text
        assert row.source.url in text
    assert "90.00" in text
    assert "these two tables" not in text
    assert "cannot be compared" in text
    assert "NaN" not in json.dumps(made.record, allow_nan=False)
    assert made.record["leakage"]["above"][0]["what"] == "one person"


def test_axes_have_round_ticks() -> None:
    assert Axis("x", 0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Axis("x", 0, 40).ticks() == [0, 10, 20, 30, 40]
    assert Axis("x", 1e-3, 1, log=True).ticks() == pytest.approx([1e-3, 1e-2, 1e-1, 1])
    assert Axis("x", 1e-2, 1, log=True).place(0.1) == pytest.approx(0.5)


def test_first_images_of_each_identity() -> None:
    labels = np.array([3, 3, 1, 3, 1, 0])
    assert first_of_each(labels, 2).tolist() == [0, 1, 2, 4, 5]
    assert first_of_each(labels, 1).tolist() == [0, 2, 5]
    assert first_of_each(labels, None).tolist() == list(range(6))


def test_every_set_has_a_card_that_verification_leaves_alone(dataset: Path) -> None:
    text = (dataset / CARD).read_text()
    assert "6 identities, 24 aligned faces" in text
    assert "| generator | mini | CC0-1.0 |" in text
    assert "Nothing yet" in text
    (dataset / CARD).write_text("changed")
    assert verify_dataset(dataset).ok
    (dataset / CARD).write_text(text)
    manifest = open_dataset(dataset).manifest
    assert manifest is not None
    assert "- EER: 3 %" in card_text(manifest, {"EER": "3 %"})


def test_licences_follow_a_conversion_back_to_its_weights() -> None:
    converted = {"converted_from": {"format": "lmdb", "images": 5, "settings": SETTINGS}}
    assert [link["name"] for link in licence_chain(converted)] == ["mini", "gaussian"]
    stranger = {"converted_from": {"format": "zip", "images": 5, "files_sha256": "cd" * 32}}
    assert licence_chain(stranger)[0]["licence"] == "that of the source"
    assert licence_chain({"model": {"name": "vec2face", "sha256": "0"}})[0]["trained_on"].startswith(
        "1 M photographs"
    )


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_commands_on_a_dataset_write_json_and_pictures(dataset: Path, tmp_path: Path) -> None:
    out = run("separability", dataset, "--threshold", 0.7, "--groups", "gender", "--out", tmp_path / "s.json")
    assert "6 identities, 24 images: EER" in out
    record = json.loads((tmp_path / "s.json").read_text())
    assert {group["name"] for group in record["groups"]["groups"]} == {"0", "1"}
    run("consistency", dataset, "--images", 3, "--out", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["identities"] == 6
    out = run("leakage", dataset, dataset, "--out", tmp_path / "l.json", "--worst", 4)
    leaks = json.loads((tmp_path / "l.json").read_text())
    assert leaks["above"][0]["share"] == 1.0
    assert leaks["same_set"]
    assert "Both sides are one set" in out
    assert [pair[0] == pair[1] for pair in leaks["worst"]] == [True] * 4
    assert (tmp_path / "l_worst.png").is_file()
    out = run(
        "report",
        dataset,
        "--reference",
        dataset,
        "--fmr",
        0.05,
        "--gallery",
        dataset,
        "--out",
        tmp_path / "r.html",
    )
    outline = Outline()
    outline.feed((tmp_path / "r.html").read_text())
    assert (outline.open, outline.fetched) == ([], [])
    assert outline.seen.count("img") >= 24 + 12
    assert "- unique identities:" in (dataset / CARD).read_text()
    for name in ("s", "c", "l"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_commands_on_features_and_verification_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    synthetic, gallery = (generator.standard_normal((300, 64)).astype(np.float32) for _ in range(2))
    synthetic[17] = gallery[5]
    for name, rows in (("a", synthetic), ("b", gallery)):
        np.save(tmp_path / f"{name}.npy", rows)
    out = run(
        "leakage", tmp_path / "a.npy", tmp_path / "b.npy", "--threshold", 0.9, "--out", tmp_path / "l.json"
    )
    assert "above 0.900 (given)" in out
    assert "1 of 90,000 pairs of rows" in out
    assert "1 of 300 synthetic rows have a gallery row above" in out
    assert "synthetic 17 - gallery 5: 1.0000" in out
    with pytest.raises(ConfigError, match="needs labels"):
        run("consistency", tmp_path / "a.npy", "--out", tmp_path / "c.json")
    np.save(tmp_path / "labels.npy", np.repeat(np.arange(60), 5))
    run("consistency", tmp_path / "a.npy", "--labels", tmp_path / "labels.npy", "--out", tmp_path / "c.json")
    faces = generator.integers(0, 256, (40, 112, 112, 3), np.uint8)
    write_bin(tmp_path / "toy.bin", [Encoder().encode(face) for face in faces], [True, False] * 10)
    out = run("verification", tmp_path / "toy.bin", "--out", tmp_path / "v.json")
    assert "average" in out
    record = json.loads((tmp_path / "v.json").read_text())
    assert record["sets"][0]["pairs"] == 20
    assert record["recogniser"]["name"] == "mini"
    with pytest.raises(ConfigError, match="expected NAME=FILE"):
        run("report", tmp_path / "a.npy", "--accuracy", "nothing", "--out", tmp_path / "r.html")

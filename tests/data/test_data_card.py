"""The card: one a set, with a head the Hub understands; whatever a name contains stays words; people's text is kept."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from stub_people import make_batches

from v2f_engine.data.layout import CARD, MANIFEST, OLD_CARD, OLD_SHEET, SHEET
from v2f_engine.data.records.card import card_text, write_card
from v2f_engine.data.records.front_matter import MOST_NAMES, front_matter, size_category
from v2f_engine.data.records.licences import MINI_STATISTICS, strictest
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.markdown import code, code_cell, text, yaml_string
from v2f_engine.data.records.pieces import Piece
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.data.writing.repair import repair_dataset
from v2f_engine.data.writing.write import write_dataset

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "](javascript:alert(1))",
    "[a](javascript:alert(1)) ![b](data:text/html,x)",
    "a | b || c \\| d",
    "` `` ``` code",
    "two\nlines\r\n# heading\u2028---\n|",
    "<!-- comment --><script>alert(1)</script>",
    "https://evil.example www.evil.example <https://evil.example> a@b.example",
    "&lt;b&gt; &#60;b&#62; \\<b>",
    "undecodable \udcff, turned \u202e, none \x00",
    "**bold** _em_ ~~gone~~ $x$ snake_case",
    'quote " backslash \\ --- : # {a: b} %TAG',
    "",
    " ",
)
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("<>[]()`|\\*_~&$@#!-:/ \n\rawijx.\"'{}"), max_size=24),
    st.text(max_size=16),
)


def parsed(markdown: str) -> tuple[list[str], str]:
    """Kinds of all tokens of a CommonMark + GFM tables parser, and the words they leave."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown)
    flat = [inner for token in tokens for inner in (token, *(token.children or ()))]
    words = "".join(token.content for token in flat if token.type in ("text", "text_special", "code_inline"))
    return [token.type for token in flat], words


@given(NAMES)
@settings(max_examples=600, deadline=None)
def test_a_name_is_words_in_a_paragraph_a_cell_and_a_span(name: str) -> None:
    kinds, words = parsed(f"x {text(name)} y\n")
    assert set(kinds) <= {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}
    assert words.split() == ["x", *shown(name).split(), "y"]
    table = f"| a | b |\n|---|---|\n| x {text(name)} | {code_cell(name)} |\n"
    kinds, _ = parsed(table)
    assert kinds.count("td_open") == 2
    assert not {"html_inline", "html_block", "link_open", "image"} & set(kinds)
    kinds, words = parsed(f"- key: {code(name)}\n")
    assert kinds.count("code_inline") == bool(name), (name, kinds)
    assert not {"html_inline", "html_block", "link_open", "image", "em_open"} & set(kinds)
    assert [words.count("\n"), kinds.count("list_item_open")] == [0, 1]


def shown(name: str) -> str:
    import unicodedata

    kinds = [(letter, unicodedata.category(letter)) for letter in name]
    return "".join(
        " " if k in ("Cc", "Zl", "Zp") else "\ufffd" if k[0] == "C" else letter for letter, k in kinds
    )


@given(NAMES)
@settings(max_examples=300, deadline=None)
def test_a_name_is_one_string_of_yaml(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    line = f"pretty_name: {yaml_string(name)}"
    assert line.isascii()
    assert "\n" not in line
    assert yaml.safe_load(line) == {"pretty_name": shown(name)}


@given(NAMES)
@settings(max_examples=150, deadline=None)
def test_python_markdown_makes_no_element_of_a_name(name: str) -> None:
    markdown = pytest.importorskip("markdown")
    page = f"x {text(name)} y\n\n| a | b |\n|---|---|\n| x {text(name)} | {code_cell(name)} |\n\n- key: {code(name)}\n"
    made = markdown.markdown(page, extensions=["tables"])
    allowed = {"p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code"}
    assert set(re.findall(r"<\s*/?\s*([A-Za-z!]+)", made)) <= allowed


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_of_hostile_names(name: str) -> None:
    hostile = Manifest(
        "imagefolder",
        {"revision": "1"},
        Plan.of(2, 2),
        {"codec": name},
        {
            "model": {"name": name, "sha256": name},
            "identities": {"source": name},
            "converted_from": {"format": name, "class_names": [name, name]},
        }
        if "\udcff" not in name
        else {},
        {"python": name},
    )
    card = card_text(hostile, {name or "x": name, "gallery": name})
    card.encode()
    kinds, _ = parsed(card.split("\n---\n", 1)[1])
    assert not {"html_inline", "html_block", "link_open", "s_open"} & set(kinds)
    assert kinds.count("image") == 1
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load(card.split("\n---\n", 1)[0].removeprefix("---\n"))
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "images/**"}]


def test_size_categories_of_the_hub() -> None:
    sizes = (1, 999, 1000, 9_999, 10_000, 5_000_000, 10**9, 10**12 - 1, 10**12)
    assert [size_category(images) for images in sizes] == [
        "n<1K", "n<1K", "1K<n<10K", "1K<n<10K", "10K<n<100K", "1M<n<10M", "1B<n<10B", "100B<n<1T", "n>1T",
    ]  # fmt: skip


def test_a_set_is_under_its_strictest_licence_by_a_name_that_the_hub_takes() -> None:
    assert strictest(["CC0-1.0", "CC0-1.0 (assets), Apache-2.0 (code)"]) == "cc0-1.0"
    for licences, name in (
        (["MIT", "CC0-1.0"], "weights-trained-on-photographs"),
        (["MIT", "as the features they were fitted to"], "as-the-source-features"),
        (["CC0-1.0", "that of the source"], "as-the-source-images"),
        (["MIT", "unknown"], "unknown-weights"),
        (["GPL-3.0"], "unknown-weights"),
        ([], "unknown-weights"),
    ):
        assert strictest(licences) == name
        assert re.fullmatch("[a-z0-9-]+", name)


def head_of(manifest: Manifest) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load("\n".join(front_matter(manifest)).strip("-"))
    return found


def recorded(format: str, settings: dict[str, Any], identities: int = 3, codec: str = "jpeg") -> Manifest:
    """The manifest of a finished set of two images an identity, in one shard."""
    pieces = (
        Piece("file", "shard-000000.tar", 70, "0" * 64),
        Piece("file", "attributes/shard-000000.npy", 9, "0" * 64),
    )
    record = ShardRecord(0, 0, identities, 2 * identities, 60, "0" * 64, pieces)
    plan = Plan(identities, 2, identities)
    return Manifest(format, {}, plan, {"codec": codec}, settings, {"v2f-engine": "9"}, (record,))


MADE = {
    "model": {"name": "mini", "sha256": "ab"},
    "identities": {"source_sha256": MINI_STATISTICS[-1], "table_hash": "cd"},
}


def test_the_head_says_what_it_is_of_whom_and_how_much() -> None:
    head = head_of(recorded("webdataset", MADE))
    assert head["license"] == "cc0-1.0"
    assert head["tags"] == ["synthetic", "face-recognition"]
    assert head["annotations_creators"] == ["machine-generated"]
    info = head["dataset_info"]
    assert [column["name"] for column in info["features"]] == ["jpg", "cls", "__key__", "__url__"]
    assert info["features"][1]["dtype"]["class_label"]["names"] == {
        "0": "000000",
        "1": "000001",
        "2": "000002",
    }
    assert info["splits"] == [{"name": "train", "num_bytes": 60, "num_examples": 6}]
    assert (info["download_size"], info["dataset_size"]) == (70, 60)
    manifest = recorded("webdataset", MADE)
    assert head["provenance"] == {
        "made_by": "v2f-engine 9",
        "manifest_sha256": hashlib.sha256(manifest.to_bytes()).hexdigest(),
        "generator": "mini",
        "generator_sha256": "ab",
        "identities_hash": "cd",
    }
    assert head_of(recorded("webdataset", MADE, codec="png"))["dataset_info"]["features"][0]["name"] == "png"


def test_the_head_of_strangers_faces_does_not_call_them_synthetic() -> None:
    head = head_of(recorded("parquet", {"converted_from": {"format": "lmdb"}}))
    assert (head["license"], head["license_name"]) == ("other", "as-the-source-images")
    assert head["tags"] == ["face-recognition"]
    assert head["provenance"]["converted_from"] == "lmdb"
    inner = head_of(recorded("parquet", {"converted_from": {"format": "lmdb", "settings": MADE}}))
    assert (inner["license"], inner["tags"]) == ("cc0-1.0", ["synthetic", "face-recognition"])
    published = head_of(recorded("parquet", {"model": {"name": "vec2face", "sha256": "0"}}))
    assert published["license_name"] == "weights-trained-on-photographs"
    assert published["license_link"] == "https://huggingface.co/BooBooWu/Vec2Face"


@pytest.mark.parametrize("format", ["imagefolder", "webdataset", "parquet", "lmdb", "recordio"])
def test_300_000_names_do_not_blow_up_the_head(format: str) -> None:
    few, many = (recorded(format, MADE, count) for count in (MOST_NAMES, 300_000))
    assert len("\n".join(front_matter(few))) < 40_000
    lines = front_matter(many)
    assert len("\n".join(lines)) < 1_500
    info = head_of(many).get("dataset_info", {})
    assert ("dataset_info" in head_of(many)) == (format in ("imagefolder", "webdataset", "parquet"))
    labels = [column for column in info.get("features", ()) if column["name"] in ("label", "cls")]
    assert all(label["dtype"] == "int64" for label in labels)
    assert bool(labels) == (format in ("webdataset", "parquet")), (
        "a loader of folders takes the names from them"
    )


def test_the_embedded_statistics_are_known_by_their_hash() -> None:
    from v2f_engine.models.registry import MINI
    from v2f_engine.vectors.statistics import load_statistics

    assert load_statistics(MINI / "statistics.safetensors").sha256 == MINI_STATISTICS[0], "make mini-figures"


BATCHES = make_batches(3)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Manifest]:
    write_dataset(tmp_path / "set", {"seed": 1}, Plan.of(5, 3, 6), BATCHES)
    return tmp_path / "set", Manifest.load(tmp_path / "set" / MANIFEST)


FIRST = {"recogniser": "mini 1234", "threshold": "cosine 0.4", "EER": "1 %", "leakage above 0.400": "3 of 4"}
SECOND = {"recogniser": "mini 1234", "threshold": "cosine 0.4", "EER": "2 %", "leakage": "not measured"}


def test_measures_are_brought_up_to_date_and_people_s_words_stay(written: tuple[Path, Manifest]) -> None:
    root, manifest = written
    path = write_card(root, manifest, FIRST)
    assert path == root / CARD
    path.write_text(path.read_text().replace("## Limits\n", "## Thanks\n\nTo all.\n\n## Limits\n"))
    card = write_card(root, manifest, SECOND).read_text()
    assert "To all." in card
    assert "- EER: 2 %" in card
    assert "- EER: 1 %" not in card
    assert "- leakage above 0.400: 3 of 4" in card
    assert "not measured" not in card
    anew = {**FIRST, "recogniser": "another", "leakage above 0.300": "4 of 4 (read by another)"}
    anew.pop("leakage above 0.400")
    card = write_card(root, manifest, anew).read_text()
    assert [line for line in card.splitlines() if line.startswith("- leakage")] == [
        "- leakage above 0.300: 4 of 4 (read by another)"
    ], "a line that does not say who read it is of the recogniser named above it"
    card = write_card(root, manifest, SECOND).read_text()
    assert "- leakage above 0.300: 4 of 4 (read by another)" in card
    assert card.count("## Measured") == 1


def test_the_card_of_an_older_set_gets_its_new_name(written: tuple[Path, Manifest]) -> None:
    root, manifest = written
    old = card_text(manifest).split("\n---\n\n", 1)[1] + "\nOurs for good.\n"
    (root / CARD).unlink()
    (root / OLD_CARD).write_text(old)
    card = write_card(root, manifest, FIRST)
    assert card == root / CARD
    assert not (root / OLD_CARD).exists()
    assert card.read_text().startswith("---\nlicense: ")
    assert "Ours for good." in card.read_text()
    assert "- EER: 1 %" in card.read_text()


def test_a_readme_of_somebody_s_own_stays(written: tuple[Path, Manifest]) -> None:
    root, manifest = written
    (root / CARD).write_text("# My faces\n")
    for _ in range(2):
        card = write_card(root, manifest, FIRST)
        assert card == root / OLD_CARD
        assert "- EER: 1 %" in card.read_text()
    assert (root / CARD).read_text() == "# My faces\n"


def test_an_older_set_with_its_sheet_in_the_root_is_verified_and_mended(
    written: tuple[Path, Manifest],
) -> None:
    from dataclasses import replace

    root, manifest = written
    files = tuple(
        replace(piece, name=OLD_SHEET) if piece.name == SHEET else piece for piece in manifest.files
    )
    (root / SHEET).rename(root / OLD_SHEET)
    (root / SHEET).parent.rmdir()
    replace(manifest, files=files).save(root / MANIFEST)
    assert verify_dataset(root).ok
    sheet = (root / OLD_SHEET).read_bytes()
    (root / OLD_SHEET).write_bytes(sheet[:-1])
    assert not verify_dataset(root).ok
    repair_dataset(root, BATCHES)
    assert (root / OLD_SHEET).read_bytes() == sheet
    assert not (root / SHEET).exists()

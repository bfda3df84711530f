"""There and back through the real huggingface_hub: the same tree, or a named error that says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from fake_hub import FakeHub
from sets_to_push import FORMATS, made, tree
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data.layout import CARD, CROISSANT, MANIFEST, WORK
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.errors import ConfigError, DatasetError, HubError, OutputFolderError


def run(*words: object) -> str:
    """Runs a command line to its end and gives its stdout; its named error is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    return {name: made(root / name, name) for name in FORMATS}


@pytest.mark.parametrize("format", FORMATS)
def test_there_and_back_the_tree_is_the_same(
    format: str, hub: FakeHub, sets: dict[str, Path], tmp_path: Path
) -> None:
    hub.page = 7
    shutil.copytree(sets[format], tmp_path / "set")
    (tmp_path / "set" / "notes of mine.txt").write_text("not the set's\n")
    run("push", tmp_path / "set", "ada/faces", "--yes")
    (tmp_path / "set" / "notes of mine.txt").unlink()
    assert hub.files("ada/faces") == tree(tmp_path / "set"), "what is not the set's stays at home"
    said = run("pull", "ada/faces", "--out", tmp_path / "back")
    assert "every byte as its manifest says" in said
    assert tree(tmp_path / "back") == tree(tmp_path / "set")
    assert not (tmp_path / "back" / WORK).exists()
    report = verify_dataset(tmp_path / "back")
    assert report.ok
    assert not report.strays
    before = len(hub.asked)
    assert "already there" in run("push", tmp_path / "back", "ada/faces")
    assert not [line for line in hub.asked[before:] if line.startswith("PUT") or "/commit/" in line]
    assert "already complete" in run("pull", "ada/faces", "--out", tmp_path / "back")


def test_nothing_goes_up_before_somebody_agreed(hub: FakeHub, sets: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="--yes") as refused:
        run("push", sets["parquet"], "ada/faces")
    assert refused.value.exit_code == 2
    assert not hub.repos
    done = CliRunner().invoke(app, ["push", str(sets["parquet"]), "ada/faces", "--yes", "--private"])
    for words in (
        "PUBLIC",
        "private: only its owner sees it",
        "licence  cc0-1.0",
        "6 identities, 18 images, parquet",
    ):
        assert (words in done.stderr) == (words != "PUBLIC"), words
    assert hub.repos["dataset", "ada/faces"].private


def test_a_script_gets_one_object(hub: FakeHub, sets: dict[str, Path], tmp_path: Path) -> None:
    import subprocess
    import sys

    words = [sys.executable, "-m", "v2f_engine"]
    push = subprocess.run(
        [*words, "push", sets["parquet"], "ada/faces", "--yes", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(push.stdout)
    assert (found["status"], found["files"], found["private"]) == (
        "complete",
        len(tree(sets["parquet"])),
        False,
    )
    quiet = subprocess.run(
        [*words, "pull", "ada/faces", "--out", tmp_path / "q", "--quiet"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (quiet.stdout, quiet.stderr) == ("", "")
    refused = subprocess.run(
        [*words, "pull", "ada/none"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("error (HubError): ada/none: no dataset or model of this name")
    assert "hf_of_ada" not in push.stdout + push.stderr + refused.stderr


def test_a_branch_of_its_own(hub: FakeHub, sets: dict[str, Path], tmp_path: Path) -> None:
    run("push", sets["parquet"], "ada/faces", "--yes")
    other = made(tmp_path / "other", "parquet", seed=2)
    with pytest.raises(HubError, match=r"another set: settings\.seed is 1 there, 2 now"):
        run("push", other, "ada/faces", "--yes")
    empty = hub.create("dataset", "ada/empty")
    run("push", other, "ada/empty", "--revision", "v2", "--yes")
    assert set(hub.files("ada/empty", revision="v2")) == set(tree(other))
    assert not hub.files("ada/empty", revision="main")
    run("pull", "datasets/ada/empty", "--revision", "v2", "--out", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(other)
    commit = empty.branches["v2"]
    run("pull", "ada/empty", "--revision", commit, "--out", tmp_path / "again")
    with pytest.raises(HubError, match="no such branch, tag or commit"):
        run("pull", "ada/empty", "--revision", "v9", "--out", tmp_path / "none")


def test_what_is_unfinished_or_damaged_stays_at_home(
    hub: FakeHub, sets: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "begun" / WORK).mkdir(parents=True)
    with pytest.raises(DatasetError, match="interrupted or still lasts"):
        run("push", tmp_path / "begun", "ada/faces", "--yes")
    shutil.copytree(sets["webdataset"], tmp_path / "flipped")
    shard = tmp_path / "flipped" / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 4
    shard.write_bytes(content)
    with pytest.raises(DatasetError, match=r"damaged: shard 0: shard-000000\.tar"):
        run("push", tmp_path / "flipped", "ada/faces", "--yes")
    shard.unlink()
    with pytest.raises(DatasetError, match="broken"):
        run("push", tmp_path / "flipped", "ada/faces", "--yes")
    assert not hub.repos
    with pytest.raises(ConfigError, match="expected the folder of a set"):
        run("push", sets["parquet"] / MANIFEST, "ada/faces", "--yes")


def test_nothing_of_others_is_overwritten(hub: FakeHub, sets: dict[str, Path]) -> None:
    hub.put("dataset", "ada/photos", {"README.md": b"# Photos\n", "a.png": b"\x89PNG\r\n"})
    with pytest.raises(HubError, match=r"1 file of something else: a\.png"):
        run("push", sets["parquet"], "ada/photos", "--yes")
    name = "attributes/shard-000000.npy"
    hub.put("dataset", "ada/half", {name: b"another's"})
    with pytest.raises(HubError, match=f"other content of {name}"):
        run("push", sets["parquet"], "ada/half", "--yes")
    hub.put("dataset", "ada/strange", {MANIFEST: b"{}"})
    with pytest.raises(HubError, match="manifest is none that this version reads"):
        run("push", sets["parquet"], "ada/strange", "--yes")
    hub.create("dataset", "ada/open")
    with pytest.raises(ConfigError, match="is there and public"):
        run("push", sets["parquet"], "ada/open", "--yes", "--private")
    assert set(hub.files("ada/photos")) == {"README.md", "a.png"}


def test_a_card_that_people_wrote_in_goes_up_anew(
    hub: FakeHub, sets: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(sets["lmdb"], tmp_path / "set")
    run("push", tmp_path / "set", "ada/faces", "--yes")
    card = tmp_path / "set" / CARD
    card.write_text(card.read_text() + "\nThanks to all.\n")
    (tmp_path / "set" / CROISSANT).unlink()
    done = run("push", tmp_path / "set", "ada/faces", "--yes")
    assert "1 files sent" in done
    assert hub.files("ada/faces")[CARD].endswith(b"Thanks to all.\n")
    assert CROISSANT in hub.files("ada/faces"), "as it is written today, though an older set has none"


def test_out_is_nobody_elses(hub: FakeHub, sets: dict[str, Path], tmp_path: Path) -> None:
    run("push", sets["parquet"], "ada/faces", "--yes")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(OutputFolderError, match="holds something else"):
        run("pull", "ada/faces", "--out", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["thesis.tex"]
    other = made(tmp_path / "other", "parquet", seed=2)
    with pytest.raises(OutputFolderError, match="holds another set"):
        run("pull", "ada/faces", "--out", other)
    assert verify_dataset(other).ok

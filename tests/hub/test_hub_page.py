"""The commands of docs/hub.md, in order, over the fake Hub; its table of who reads what holds for what it names."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from fake_hub import FakeHub
from sets_to_push import made, tree
from test_push_and_pull import run
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data.records.front_matter import COLUMNS, MOST_NAMES
from v2f_engine.models.registry import MINI

PAGE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text()
BLOCKS = re.findall(r"^```(\S*)\n(.*?)^```$", PAGE, re.M | re.S)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
SHOWN = next(block.splitlines() for language, block in BLOCKS if language == "text")


def test_the_page_runs(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(MINI / "generator.safetensors", "model.safetensors")
    assert len(COMMANDS) == 7
    for line in COMMANDS:
        words = shlex.split(line)
        assert words[0] == "v2f"
        if words[1:4] == ["push", "faces", "ada/faces"]:  # what the page shows of the question
            asked = CliRunner().invoke(app, [word for word in words[1:] if word != "--yes"])
            assert asked.exit_code != 0
            lines = [one.replace("https://huggingface.co", hub.url) for one in SHOWN]
            assert [one for one in lines if one not in asked.stderr.splitlines()] == []
            assert not any(repo[1] == words[3] for repo in hub.repos)
        run(*words[1:])
    assert tree(tmp_path / "copy") == tree(tmp_path / "faces") == hub.files("ada/faces")
    assert set(tree(tmp_path / "others"))


def test_the_table_names_the_columns_that_the_card_does() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `load_dataset(SET)` and by name"))
    cells = [cell.strip() for cell in row.split("|")[2:7]]
    assert cells == [
        *(f"{', '.join(COLUMNS[name])}, names" for name in ("imagefolder", "webdataset", "parquet")),
        "no",
        "no",
    ]
    assert f"above {MOST_NAMES:,} people" in PAGE


def test_its_python_runs_where_mlcroissant_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere `tests/strangers/clients_check.py` asks by hand, over all formats."""
    pytest.importorskip("mlcroissant")
    made(tmp_path / "faces", "parquet")
    monkeypatch.chdir(tmp_path)
    (snippet,) = [block for language, block in BLOCKS if language == "python"]
    exec(snippet, {})

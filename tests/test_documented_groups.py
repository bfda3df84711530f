"""The commands of docs/groups.md, as they stand there: rendered people, eight groups, a mix that is met exactly."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from v2f_engine.cli.main import app
from v2f_engine.data import open_dataset
from v2f_engine.vectors.identities import Identities

PAGE = (Path(__file__).resolve().parents[1] / "docs/groups.md").read_text()
BLOCKS = re.findall(r"^```(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(block: str) -> None:
    for line in block.replace("\\\n", " ").strip().splitlines():
        words = shlex.split(line.partition("  #")[0])
        get_command(app).main(args=words[1:], prog_name="v2f", standalone_mode=False)


@pytest.mark.slow
def test_the_page_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [kind for kind, _ in BLOCKS] == ["", "python", ""]
    run(BLOCKS[0][1])
    exec(compile(BLOCKS[1][1], "groups.md", "exec"), {})
    run(BLOCKS[2][1])
    table = Identities.load(tmp_path / "ids.safetensors")
    assert len(table.group_counts) == 8
    assert set(table.group_counts.values()) == {5}
    assert "groups         older/man 5, older/woman 5, oldest/man 5," in capsys.readouterr().out
    for n in range(1, 41):  # the mix is met by every beginning of the table
        counts = Counter(table.groups[:n])
        assert max(counts.values()) - min(counts.get(name, 0) for name in table.group_names) <= 1
    told = open_dataset(tmp_path / "faces").attributes()
    assert told is not None
    names = np.array(table.group_names)[told["group"].astype(int)]
    assert names.tolist() == np.array(table.groups)[told["identity"]].tolist()
    assert "| 0 | older/man | 5 | 10 |" in (tmp_path / "faces/README.md").read_text()
    groups = json.loads((tmp_path / "report.json").read_text())["groups"]
    assert groups["column"] == "age/gender"
    assert [one["name"] for one in groups["groups"]] == table.group_names
    assert all(one["identities"] == 5 and one["unique_share"] is None for one in groups["groups"])
    assert "too few" in (tmp_path / "report.html").read_text()

"""A ledger that is being replaced is not read: its name is gone before it could be opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from v2f_engine.data import Plan
from v2f_engine.data.records import ledger
from v2f_engine.scale.done import Done

PLAN = Plan(4, 2, 4)


@pytest.mark.parametrize("name", [".v2f-tmp.main.main.jsonl", ".other.jsonl"])
def test_a_replacement_under_way_is_not_looked_at(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(tmp_path / "gone")  # as a name whose file went between listing and opening
    assert ledger.read(tmp_path, PLAN) == {}
    assert Done(tmp_path, PLAN).refresh() == {}
    (tmp_path / "main.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):  # a finished ledger that is not there is told
        ledger.read(tmp_path, PLAN)

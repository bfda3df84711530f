"""The stub people of the data tests serve here too, in this process and in workers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]


@pytest.fixture(autouse=True)
def stub_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes can import `stub_source`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))

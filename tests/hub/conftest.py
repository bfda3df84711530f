"""A Hub of its own for every test, with the real huggingface_hub in this process pointed at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, in_process


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    pytest.importorskip("huggingface_hub")
    with FakeHub() as running:
        in_process(monkeypatch, running, tmp_path / "hf_home")
        yield running

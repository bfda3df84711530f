"""The notebook runs from nothing, shows faces, and what is stored in it is what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from notebook import NOTEBOOK, executed, lighter


def shown(notebook: Any) -> list[tuple[int, str, str]]:
    """(cell, kinds of output, its words without numbers) of every output but the pictures' own bytes."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            words = output.get("text", "") or output["data"].get("text/plain", "")
            kinds = " ".join(sorted(output.get("data", {"stream": 0})))
            found.append((number, kinds, re.sub(r" *-?[\d.]+", " 0", words)))
    return found


def test_it_is_stored_small() -> None:
    assert NOTEBOOK.stat().st_size < 120_000
    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    assert sum("image/jpeg" in kinds for _, kinds, _ in shown(stored)) == 2


def test_it_runs_and_shows_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = NOTEBOOK.parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'kernels'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fresh = executed(tmp_path)
    faces = [
        cell
        for cell in fresh.cells
        if any("image/png" in one.get("data", {}) for one in cell.get("outputs", []))
    ]
    assert len(faces) == 2
    assert "data:image/png" in faces[0].outputs[0]["data"]["text/html"]
    assert shown(lighter(fresh)) == shown(nbformat.read(NOTEBOOK, as_version=4))
    assert (tmp_path / "faces/manifest.json").is_file()

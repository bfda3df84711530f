"""Extras are named only with a command that works: from a clone by its path, elsewhere by the packages themselves."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from v2f_kernels import _extras

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = [
    *(path for room in ("v2f_engine", "kernels") for path in (ROOT / room).rglob("*.py")),
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
]


def test_a_clone_is_named_by_its_path() -> None:
    assert _extras.install("onnx") == f"pip install -e '{ROOT}[onnx]'"


def test_an_installed_copy_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2.10", 'pyarrow>=18; extra == "parquet"', "onnx>=1.21; extra == 'onnx'"]
    monkeypatch.setattr(_extras, "_clone", lambda: None)
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    assert _extras.install("parquet") == "pip install 'pyarrow>=18'"
    with pytest.raises(KeyError, match="no extra 'onyx'"):
        _extras.packages("onyx")


def test_a_copy_without_metadata_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_extras, "_clone", lambda: None)
    monkeypatch.setattr(metadata, "requires", missing)
    assert "[hub]" in _extras.install("hub")


def test_every_extra_that_is_asked_for_exists() -> None:
    asked = {
        name
        for path in SOURCES
        if path.suffix == ".py"
        for name in re.findall(r"\binstall\(['\"]([a-z-]+)['\"]\)", path.read_text())
    }
    assert len(asked) >= 8
    assert asked <= set(EXTRAS)


def test_nothing_says_that_the_package_is_on_an_index() -> None:
    """`pip install v2f-engine` finds nothing: it is on no index."""
    wrong = re.compile(r"pip install[^\n]*(?<![\w/.])v2f[-_]engine(?:\[|['\"\s`]|$)")
    assert wrong.search("pip install 'v2f-engine[hub]'")
    found = [f"{path}: {hit[0]}" for path in SOURCES if (hit := wrong.search(path.read_text()))]
    assert not found


def test_pages_name_extras_that_exist() -> None:
    for path in SOURCES:
        named = re.findall(r"(?:pip install -e '\.|\.whl)\[([a-z,-]+)\]", path.read_text())
        assert {one for names in named for one in names.split(",")} <= set(EXTRAS), path


def test_pip_reads_the_line_for_a_clone() -> None:
    """The real pip, which resolves nothing and installs nothing here."""
    line = _extras.install("align").split("'")[1]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-build-isolation", "-q", "-e", line],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]

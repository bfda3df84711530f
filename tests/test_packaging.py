"""What an installed copy holds: built as pip builds it and looked at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    copy = tmp_path_factory.mktemp("source")
    for name in ("v2f_engine", "kernels"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    environment = {**os.environ, "V2F_NO_EXTENSION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_a_wheel_holds_every_source_and_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    for package, folder in (
        ("v2f_engine", ROOT / "v2f_engine"),
        ("v2f_kernels", ROOT / "kernels/v2f_kernels"),
    ):
        assert f"{package}/py.typed" in held, "without it a user's mypy takes everything for Any"
        wanted = {f"{package}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}
        assert not wanted - held
    assert any(name.endswith("assets/mini/generator.safetensors") for name in held)
    assert any(name.startswith("v2f_kernels/tuned/") for name in held)

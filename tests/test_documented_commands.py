"""Every benchmark command that the documents name is there, and knows the options they give it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [
        *(
            ROOT / name
            for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "FACTS.md", "Makefile")
        ),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "bench").glob("*.md"),
        *(ROOT / "bench").rglob("*.py"),
    ]
)
COMMAND = re.compile(r"-m (bench(?:\.\w+)+)((?: +[^\s`|;&]+)*)")
"""A module of `bench`, and the words that follow it."""
FILE = re.compile(r"\bbench/[\w/]+\.(?:py|md)\b")
OPTION = re.compile(r"--[a-z][a-z-]*")


def commands() -> dict[str, set[str]]:
    """Module -> every option that some document gives it; words after a comment's two blanks are prose."""
    found: dict[str, set[str]] = {}
    for path in DOCUMENTS:
        for module, words in COMMAND.findall(path.read_text()):
            typed = words.split("#")[0]
            found.setdefault(module, set()).update(OPTION.findall(typed))
    found.pop("bench.FOLDER.NAME")
    return found


FOUND = commands()


def test_documents_name_commands() -> None:
    assert {"bench.gpu", "bench.training", "bench.cpu.writers", "bench.kernels.aot"} <= FOUND.keys()
    assert FOUND["bench.generation.compare"] >= {"--model", "--device"}


@pytest.mark.parametrize("module", sorted(FOUND))
def test_a_documented_command_is_there_with_its_options(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None, f"no module {module}"
    if spec.submodule_search_locations is not None:  # a folder runs by its __main__.py
        spec = find_spec(f"{module}.__main__")
    assert spec is not None, f"{module} cannot be run"
    assert spec.origin is not None, f"{module} cannot be run"
    source = Path(spec.origin).read_text()
    assert '__name__ == "__main__"' in source, f"{module} does nothing when run"
    unknown = {option for option in FOUND[module] if f'"{option}"' not in source + '"--help"'}
    assert not unknown, f"{module} does not know {unknown}"


def test_files_of_bench_that_a_document_names_are_there() -> None:
    for path in DOCUMENTS:
        missing = {name for name in FILE.findall(path.read_text()) if not (ROOT / name).is_file()}
        assert not missing, f"{path}: {missing}"


def test_no_document_runs_a_file_of_bench_by_its_path() -> None:
    """By its path a script finds neither `bench` nor the clone's packages."""
    for path in DOCUMENTS:
        assert not re.search(r"python\S* bench/", path.read_text()), path


def test_a_command_runs_with_nothing_installed() -> None:
    """Where no finder of an installed checkout is left, the clone's own packages are found by `bench/__init__.py`."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in str(finder)]\n"
        "import bench\n"
        "from importlib.util import find_spec\n"
        "print(find_spec('v2f_kernels').origin, find_spec('v2f_engine').origin)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    kernels, engine = (Path(word) for word in done.stdout.split())
    assert kernels == ROOT / "kernels" / "v2f_kernels" / "__init__.py"
    assert engine == ROOT / "v2f_engine" / "__init__.py"

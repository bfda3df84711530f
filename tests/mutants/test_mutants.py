"""Faults that once survived the suite: each can still be applied (fast), and each is noticed (slow)."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutant import ROOT, Mutant
from run import copied_tree, judge, mutants

ALL = mutants()


def test_every_mutant_can_be_applied_and_names_tests_that_exist() -> None:
    """A refactor that moves the text has to move the mutant, too."""
    assert len({mutant.name for mutant in ALL}) == len(ALL)
    assert [why for why in (mutant.stale() for mutant in ALL) if why] == []
    files = {test.partition("::")[0] for mutant in ALL for test in mutant.tests if test.startswith("tests/")}
    assert files
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []


def test_the_runner_tells_killed_survived_stale_and_broken_apart(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text("WIDTH = 3\nHEIGHT = 4\n")
    (tmp_path / "test_thing.py").write_text(
        "import thing\n\ndef test_width() -> None:\n    assert thing.WIDTH == 3\n"
    )
    (tmp_path / "test_wrong.py").write_text("def test_wrong() -> None:\n    assert False\n")
    sound: dict[tuple[str, ...], str] = {}
    verdicts = [
        judge(tmp_path, Mutant(old, "thing.py", old, new, (test,)), sound).verdict
        for old, new, test in (
            ("WIDTH = 3", "WIDTH = 5", "test_thing.py"),
            ("HEIGHT = 4", "HEIGHT = 5", "test_thing.py"),
            ("DEPTH = 4", "DEPTH = 5", "test_thing.py"),
            ("WIDTH = 3", "WIDTH = 5", "test_wrong.py"),
            ("WIDTH = 3", "WIDTH = (", "test_thing.py"),
        )
    ]
    assert verdicts == ["killed", "survived", "stale", "broken", "broken"]
    assert (tmp_path / "thing.py").read_text() == "WIDTH = 3\nHEIGHT = 4\n"


@pytest.fixture(scope="module")
def tree() -> object:
    with copied_tree() as root:
        yield root


@pytest.fixture(scope="module")
def sound() -> dict[tuple[str, ...], str]:
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ALL, ids=[mutant.name for mutant in ALL])
def test_killed(mutant: Mutant, tree: Path, sound: dict[tuple[str, ...], str]) -> None:
    outcome = judge(tree, mutant, sound)
    assert outcome.verdict == "killed", outcome.why

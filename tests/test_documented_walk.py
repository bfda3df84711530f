"""The commands of docs/walk.md, in the order they stand there, on fewer people; they print what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from v2f_engine.cli.main import app
from v2f_engine.vectors.identities import Identities

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/walk.md").read_text().partition("## Executed")[2]
SMALLER = {"4_000": "600", "100000": "300"}
"""People with features, and identities asked for: 600 people of 10 span the 512 directions."""
NUMBER = re.compile(r"[\d,.]+")


def smaller(text: str) -> str:
    for usual, few in SMALLER.items():
        text = text.replace(usual, few)
    return text


def commands() -> list[tuple[list[str], list[str]]]:
    """(words after `v2f`, lines printed) of every command in the page's last block."""
    found: list[tuple[list[str], list[str]]] = []
    for line in PAGE.split("```")[3].strip().splitlines():
        if line.startswith("$ v2f "):
            found.append((shlex.split(smaller(line.partition("  #")[0]))[2:], []))
        elif line:
            found[-1][1].append(line)
    return found


def shape(line: str) -> str:
    """A line without its numbers."""
    return NUMBER.sub("0", re.sub(r"\b[0-9a-f]{12}\b", "HASH", line)).strip()


def test_every_command_of_the_page_knows_its_options() -> None:
    """Also those that need published weights and features, and are not run."""
    text = (ROOT / "docs/walk.md").read_text()
    lines = [line.removeprefix("$ ").partition("  #")[0] for line in text.splitlines()]
    typed = [shlex.split(line)[1:] for line in lines if line.startswith("v2f ")]
    assert len(typed) == 13
    for words in typed:
        command, rest = get_command(app), words
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context("v2f", list(rest))  # reads the words, runs nothing


@pytest.mark.slow
def test_the_walk_as_it_stands_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(smaller(PAGE.split("```python")[1].split("```")[0]), "walk.md", "exec"), {})
    walked = commands()
    assert [words[:2] for words, _ in walked[:5]] == [
        ["ids", name] for name in ("centres", "fit", "plan", "sample", "check")
    ]
    for words, printed in walked:
        get_command(app).main(args=words, prog_name="v2f", standalone_mode=False)
        said = [shape(line) for line in capsys.readouterr().out.splitlines()]
        absent = [line for line in printed if not any(one.startswith(shape(line)) for one in said)]
        assert not absent, (words, said)
    people = Identities.load(tmp_path / "ids.safetensors")
    real = np.load(tmp_path / "centres.npy")
    both = np.concatenate([real, people.vectors]).astype(np.float64)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    cosines = np.triu(both @ both.T, 1)[:, len(real) :]
    assert len(people) == 300
    assert cosines.max() < 0.3
    drawn = np.linalg.norm(people.vectors, axis=1).mean()
    assert drawn == pytest.approx(np.linalg.norm(real, axis=1).mean(), rel=0.02)
    assert len(list((tmp_path / "faces").rglob("*.jpg"))) == 8

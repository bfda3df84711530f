"""Every example of every page: run as typed, run small, or read; `classes.py` says which, and why."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from classes import ELSEWHERE, HELD, READ_ONLY, SMALLER, class_of, smaller
from documented import PAGES, ROOT, Typed, everything
from typer.main import get_command
from world import MAKERS, World

from v2f_engine.cli.dependent import TABLE, refuse_idle
from v2f_engine.cli.main import app

ALL = everything()
COMMAND = get_command(app)
TIMED = re.compile(r"\b[\d,.]+ (?:s|images/s|MiB|pairs/s)\b")
NUMBER = re.compile(r"[\d,.]+|\b[0-9a-f]{12}\b")
OUTPUTS = ("--out", "--report", "--plot", "--timing-cache")
"""Options whose value is written and not read."""
BEFORE: dict[str, str] = {
    "docs/attributes.md": (
        "import v2f_engine as v2f\n"
        "engine = v2f.Engine.load('mini')\n"
        "identities = engine.sample_identities(2, seed=0)\n"
    ),
}
"""What a page's snippet takes for granted."""


def test_each_falls_into_exactly_one_class() -> None:
    wrong = {f"{one.page}: {one.text[:90]}": class_of(one) for one in ALL if len(class_of(one)) != 1}
    assert not wrong, wrong
    tally = Counter(class_of(one)[0].partition(":")[0] for one in ALL)
    assert tally["run"] + tally["run small"] > tally["read only"], tally


def test_no_line_of_the_tables_is_idle() -> None:
    texts = [one.text for one in ALL]
    ours = [one.text for one in ALL if one.words is not None or one.python]
    others = [one.text for one in ALL if one.words is None and not one.python]
    for table, among in ((READ_ONLY, ours), (ELSEWHERE, others), (SMALLER, texts)):
        idle = [pattern for pattern in table if not any(re.search(pattern, text) for text in among)]
        assert not idle, idle
    blocks = {name for one in ALL for name in (one.page, f"{one.page}:{one.block}")}
    assert set(HELD) <= blocks
    for test in HELD.values():
        assert (ROOT / test).is_file()
    idle = [
        name
        for name in MAKERS
        if not any(re.search(rf"(?<![\w.-]){re.escape(name)}", text) for text in texts)
    ]
    assert not idle, idle


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for path in PAGES for word in re.findall(r"`make ([a-z-]+)`", path.read_text())]
    named += [one.text.split()[1] for one in ALL if one.text.startswith("make ")]
    assert len(named) > 10
    assert set(named) <= targets, set(named) - targets


@pytest.mark.parametrize(
    "typed",
    [one for one in ALL if one.words is not None],
    ids=lambda one: f"{one.page}:{one.block}:{one.text[:50]}",
)
def test_a_command_knows_its_words(typed: Typed) -> None:
    """Every option is known, every value of its type, none idle beside the others; nothing is run."""
    # A reader's manifest, and the set whose manifest is one.
    read = r"--config \S+|(?<=generate )--extend \S+"
    words = shlex.split(re.sub(read, "", shlex.join(typed.words or []))) if typed.words else []
    words = [
        word for word in words if word != "..."
    ]  # and what stands in a reader's file is not here to be read
    command, name = COMMAND, []
    while hasattr(command, "commands"):
        name.append(words.pop(0))
        command = command.commands[name[-1]]
    dots = "..." in typed.text
    context = command.make_context("v2f", words, resilient_parsing=dots)
    if not dots:
        refuse_idle(context, TABLE.get(" ".join(name), ()))


@pytest.mark.parametrize(
    "typed", [one for one in ALL if one.python], ids=lambda one: f"{one.page}:{one.block}"
)
def test_a_snippet_is_python(typed: Typed) -> None:
    compile(typed.text, typed.page, "exec")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


RUN = sorted({one.page for one in ALL if class_of(one)[:1] in (["run"], ["run small"])})
SLOW = {
    "docs/train_your_own.md",
    "docs/recognisers.md",
    "docs/export.md",
    "docs/serve.md",
    "docs/attributes.md",
    "docs/identities.md",
}
"""Pages that train, export, steer, plan or probe: with the slow tests."""


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page in SLOW else ()) for page in RUN]
)
def test_what_a_page_says_runs(
    page: str,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each block in a folder of its own, which holds what the block names and earlier blocks or `world` have."""
    folders: list[Path] = []
    shrunk = False
    names: dict[str, Any] = {"__name__": "page"}
    exec(BEFORE.get(page, ""), names)
    for block in dict.fromkeys(one.block for one in ALL if one.page == page):
        folder = tmp_path / str(block)
        folder.mkdir()
        monkeypatch.chdir(folder)
        for typed in [one for one in ALL if (one.page, one.block) == (page, block)]:
            how = class_of(typed)[0]
            if not how.startswith("run"):
                continue
            shrunk |= how == "run small"
            text = smaller(typed.text, str(ROOT))
            furnish(text, folder, folders, world)
            capsys.readouterr()
            if typed.python:
                exec(compile(text, f"{page}, block {block}", "exec"), names)
            else:
                run(Typed(page, block, text).words or [])
                compare(typed.printed, capsys.readouterr().out, exact=not shrunk)
        folders.insert(0, folder)


def furnish(text: str, folder: Path, earlier: list[Path], world: World) -> None:
    """Puts into the folder what the example reads: each word that names something an earlier block or the world has."""
    written = {match[1] for option in OUTPUTS for match in re.finditer(rf"{option} (\S+)", text)}
    written |= set(re.findall(r'\bout="([^"]+)"', text))
    for word in re.findall(r"[\w./-]+", text):
        name = word.rstrip("/")
        if not name or name in written or name.startswith(("/", "-", ".")) or (folder / name).exists():
            continue
        source = next((one / name for one in earlier if (one / name).exists()), None)
        if source is None:
            world.put(name, folder)
            continue
        for path in [source, *source.parent.glob(f"{name}.*"), *source.parent.glob(f".{source.name}.*")]:
            target = folder / path.relative_to(source.parents[len(Path(name).parts) - 1])
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                (shutil.copytree if path.is_dir() else shutil.copy)(path, target)


def run(words: list[str]) -> None:
    """A command as typed, in this process; an error fails the test with its message."""
    COMMAND.main(args=words, prog_name="v2f", standalone_mode=False)


def compare(printed: tuple[str, ...], said: str, exact: bool) -> None:
    """What a page shows stands in what was said; where sizes were changed, or times are told, without the numbers."""
    lines = [line.strip() for line in said.splitlines()]
    for line in printed:
        if exact and not TIMED.search(line):
            assert any(one.startswith(line.strip()) for one in lines), (line, said)
        else:
            shape = NUMBER.sub("0", line.strip())
            assert any(NUMBER.sub("0", one).startswith(shape) for one in lines), (line, said)

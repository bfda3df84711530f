"""Completion in a shell: commands, options and names of every command; the names are those that the rooms take."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from v2f_engine.cli import bench
from v2f_engine.cli.completion import GENERATORS, RECOGNISERS, VALUES, values_of
from v2f_engine.cli.dependent import leaves
from v2f_engine.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
ENV = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
V2F = get_command(app)
COMMANDS = leaves(V2F)


def named(place: str) -> Iterable[str]:
    """The names of a room's table: `module:NAME`."""
    module, _, name = place.partition(":")
    return list(getattr(import_module(f"v2f_engine.{module}"), name))


HOMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "--precision": ("machine:PRECISIONS", ()),
    "--runner": ("runtime:RUNNERS", ("auto",)),
    "--masks": ("models.mask_schedule:MASK_SCHEDULES", ()),
    "--format": ("data.formats:FORMATS", ()),
    "--executor": ("scale.executors:EXECUTORS", ("auto", "inline")),
    "--steer": ("attributes.control:USES", ()),
    "--steering": ("attributes.forms:FORMS", ()),
    "--landmark-heights": ("models.landmarks:HEIGHTS", ("auto",)),
    "--length": ("vectors.statistics:LENGTHS", ()),
    "--covariance": ("vectors.labelled:COVARIANCES", ()),
    "--channels": ("models.embedder:CHANNELS", ()),
    "--depth": ("models.iresnet:LAYERS", ()),
    "--margin": ("train.margin:MARGINS", ()),
    "--preset": ("train.generator_recipes:RECIPES", ("rendered",)),
    "--part": ("runtime.artefact:PARTS", ()),
    "--curve": ("evaluate.ijb:CURVES", ()),
    "--order": ("evaluate.tables.build:ORDERS", ()),
    "--table": ("evaluate.tables.layouts:LAYOUTS", ("all",)),
    "--reference-identity": ("pipeline.given:KINDS", ()),
    "train recogniser --recipe": ("train.recogniser_settings:RECIPES", ()),
    "train pose --recipe": ("train.pose_settings:RECIPES", ()),
    "train recogniser --stepping": ("train.recogniser_settings:STEPPING", ()),
    "train generator --stepping": ("train.generator_settings:STEPPING", ()),
    "select --by": ("selection.criteria:CRITERIA", ()),
    "--select": ("selection.criteria:CRITERIA", ()),
    "convert --precision": ("models.weights:DTYPES", ()),
    "evaluate table --format": ("evaluate.tables.formats:FORMATS", ()),
    "export onnx --precision": ("export.onnx:PRECISIONS", ()),
    "export tensorrt --precision": ("export.onnx:PRECISIONS", ()),
    "export tensorrt-rtx --precision": ("export.onnx:PRECISIONS", ()),
    "train estimator name": ("train.estimators:RECIPES", ()),
}
"""Key of `VALUES` -> the room's table, and names that only the command line knows."""


@pytest.mark.parametrize("key", HOMES)
def test_the_names_are_those_that_the_room_takes(key: str) -> None:
    place, more = HOMES[key]
    assert set(VALUES[key]) == {*named(place), *more}


def test_models_and_scripts_by_name() -> None:
    from v2f_engine.data.writing.encode import LIBRARIES
    from v2f_engine.models.registry import EMBEDDED, PUBLISHED

    assert "mini" in str(EMBEDDED)
    for kind, known in (("generator", GENERATORS), ("recogniser", RECOGNISERS)):
        assert set(known) == {"mini", *(name for name, one in PUBLISHED.items() if one.kind == kind)}
    assert VALUES["bench what"] == ("machine", *bench.SCRIPTS)
    assert set(VALUES["--jpeg-encoder"]) == {*LIBRARIES["jpeg"]}
    from v2f_engine.rendered.worlds import WORLDS

    assert VALUES["render --world"] == tuple(str(world) for world in WORLDS)
    for command in ("render", "convert", "select"):
        assert set(VALUES[f"{command} --format"]) == {*VALUES["--format"]} - {"null"}


def test_every_line_is_some_options() -> None:
    """A line of the table that no option has is a name that was changed."""
    used: set[str] = set()
    for words, command in COMMANDS.items():
        for parameter in command.params:
            for name in (*parameter.opts, parameter.name or ""):
                used |= {key for key in (f"{words} {name}", name) if key in VALUES}
    assert used == set(VALUES)


def test_every_default_that_is_a_name_is_among_them() -> None:
    for words, command in COMMANDS.items():
        for parameter in command.params:
            names = values_of(words, parameter)
            if names and isinstance(parameter.default, str):
                assert parameter.default in names, f"{words} {parameter.opts}"


Complete = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Complete:
    """complete("v2f gen"): what bash offers after TAB, by the script that `--show-completion` prints."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    folder = tmp_path_factory.mktemp("completion")
    v2f = folder / "v2f"
    v2f.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "
        '\'import sys; sys.argv[0] = "v2f"; from v2f_engine.cli import main; main()\' "$@"\n'
    )
    v2f.chmod(0o755)
    path = {**ENV, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    script = subprocess.run(
        [v2f, "--show-completion", "bash"], env=path, check=True, capture_output=True, text=True
    ).stdout

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        typed = " ".join(map(shlex.quote, words))
        asked = (
            f"{script}\nCOMP_WORDS=({typed}) COMP_CWORD={len(words) - 1}\n"
            '_v2f_completion v2f\nprintf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run([bash, "-c", asked], env=path, check=True, capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("v2f gen", ["generate"]),
        ("v2f ids pro", ["prove"]),
        ("v2f generate --format w", ["webdataset"]),
        ("v2f generate --model vec2face-", ["vec2face-plus", "vec2face-plus-pose"]),
        ("v2f generate --model ./", []),
        ("v2f render --form", ["--format"]),
        ("v2f train generator --preset mended-2", ["mended-2024", "mended-2025"]),
        ("v2f train estimator q", ["quality"]),
        ("v2f evaluate table --format m", ["markdown"]),
        ("v2f ids sample --js", ["--json"]),
    ],
)
def test_in_bash(complete: Complete, line: str, offered: list[str]) -> None:
    assert complete(line) == offered


def answered(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The same protocol, in this process: `_V2F_COMPLETE` and bash's two variables."""
    monkeypatch.setenv("_V2F_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit):
        V2F.main(args=[], prog_name="v2f")
    return capsys.readouterr().out.split()


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All options of each command, and all names of each option that has some."""
    command = COMMANDS[words]
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name[0] == "-"}
    offered = set(answered(f"v2f {words} --", monkeypatch, capsys))
    assert options <= offered
    for parameter in command.params:
        names = values_of(words, parameter)
        if names and parameter.param_type_name == "option":
            line = f"v2f {words} {parameter.opts[0]} "
            assert answered(line, monkeypatch, capsys) == list(names)


def test_zsh_and_fish(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for shell, more in (("zsh", {}), ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"})):
        for name, value in {
            "_V2F_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": "v2f generate --format web",
            **more,
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            V2F.main(args=[], prog_name="v2f")
        assert "webdataset" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_installs_itself(shell: str, tmp_path: Path) -> None:
    """Only in the home folder, and what is written there is a script of that shell."""
    program = "import sys; sys.argv[0] = 'v2f'; from v2f_engine.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--install-completion", shell],
        env={**ENV, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{shell} completion installed in {tmp_path}" in done.stdout
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert f"complete_{shell}" in written

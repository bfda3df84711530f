"""`v2f resume` after a real SIGKILL: an undisturbed run's bytes; what cannot be gone on with is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_line import v2f

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.layout import COMMAND, MANIFEST, RUN, WORK
from v2f_engine.errors import ConfigError

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
KILLED = """
import os, signal, sys
from v2f_engine import disk

text, left = sys.argv[1], int(sys.argv[2])

def step(operation, path):
    global left
    if operation == "rename" and text in path:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

disk.before = step
sys.argv = ["v2f", *sys.argv[3:]]
from v2f_engine.cli.main import main

main()
"""
"""The command line, killed at the n-th rename to a path that holds a text."""


def killed(text: str, nth: int, *words: str, at: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, text, str(nth), *words],
        cwd=at, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, or a file, but for notes of commands, which name folders and times."""
    files = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else [root]
    return {path.relative_to(root.parent).as_posix().partition("/")[2]: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resumed") / "people"
    coarse = np.random.default_rng(0).integers(0, 256, (6, 4, 14, 14, 3), np.uint8)

    def batches(chosen: range):  # type: ignore[no-untyped-def]
        for i in chosen:
            angles = {name: np.linspace(-20, 20, 4, dtype=np.float32) for name in ("yaw", "pitch", "roll")}
            yield ImageBatch(coarse[i].repeat(8, 1).repeat(8, 2), np.full(4, i), np.arange(4), angles)

    write_dataset(root, {}, Plan.of(6, 4), batches, format="webdataset", encoder=Encoder("png"))
    return root


@dataclass(frozen=True)
class Kind:
    """A command that goes on.

    Args:
        words: with `{people}` and `{out}`.
        out: name of what it makes.
        kill: text of a path whose n-th rename ends it, and n.
        compared: files whose bytes must agree; all of them where None.
    """

    words: str
    out: str
    kill: tuple[str, int]
    compared: Callable[[str], bool] = lambda name: True


GENERATE = "generate --ids 4 --images 2 --images-per-shard 2 --compute-batch 2 --seed 5 --out {out}"
KINDS = {
    "render": Kind("render --ids 3 --images 2 --processes 1 --out {out}", "set", ("shard-000000.pack", 1)),
    "convert": Kind("convert {people} {out} --format parquet", "set", ("train-00000", 1)),
    "select": Kind("select {people} --keep 3 --out {out}", "set", ("shard-000000.tar", 1)),
    "generate": Kind(GENERATE, "set", ("shard-000002.npy", 1)),
    "features": Kind("features {people} --batch 8 --out {out}", "f.npy", ("f.npy.progress", 1)),
    "train recogniser": Kind(
        "train recogniser {people} --steps 4 --batch 4 --checkpoint-every 2 --fp32 --out {out}",
        "run", ("00000004", 1), lambda name: name == "recogniser.safetensors",
    ),
    "train generator": Kind(
        "train generator {people} --steps 4 --batch 4 --checkpoint-every 2 --fp32 --device cpu --out {out}",
        "run", ("00000004", 1), lambda name: name == "generator.safetensors",
    ),
    "train generator, before its last weights": Kind(
        "train generator {people} --steps 4 --batch 4 --checkpoint-every 2 --fp32 --device cpu --out {out}",
        "run", ("generator.safetensors", 2), lambda name: name == "generator.safetensors",
    ),
    "train pose": Kind(
        "train pose {people} --steps 3 --batch 4 --device cpu --out {out}",
        "run", ("pose.safetensors", 1), lambda name: name == "pose.safetensors",
    ),
    "ids prove": Kind("ids prove 3 --compute-batch 2 --out {out}", "p.safetensors", ("p.safetensors", 2)),
}  # fmt: skip
QUICK = ("convert",)
CASES = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in KINDS]


@pytest.mark.parametrize("name", CASES)
def test_killed_and_gone_on_with(
    name: str, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    words = kind.words.format(people=people, out=kind.out).split()  # a relative name: resumed from elsewhere
    killed(*kind.kill, *words, at=here)
    monkeypatch.chdir(tmp_path)
    said = v2f("resume", here / kind.out)
    assert f"going on with: v2f {name.partition(',')[0]}" in said
    assert Path.cwd() == tmp_path
    monkeypatch.chdir(there)
    v2f(*words)
    found, expected = (
        {key: data for key, data in tree(place / kind.out).items() if kind.compared(key)}
        for place in (here, there)
    )
    assert found
    assert found == expected
    assert not list(here.rglob(f"{WORK}/*"))
    with pytest.raises(ConfigError, match="is complete"):
        v2f("resume", here / kind.out)


def interrupted(people: Path, root: Path) -> Path:
    """A conversion as a kill leaves it."""
    v2f("convert", people, root)
    (root / WORK).mkdir()
    (root / MANIFEST).rename(root / WORK / RUN)
    return root


def test_nothing_to_go_on_with(people: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is complete: 24 images of 6 people"):
        v2f("resume", people)
    with pytest.raises(ConfigError, match="is not there, and nothing beside it"):
        v2f("resume", tmp_path / "nothing")
    (tmp_path / "foreign").mkdir()
    with pytest.raises(ConfigError, match="nothing in it or beside it"):
        v2f("resume", tmp_path / "foreign")
    (tmp_path / "training" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="begun from Python or by an earlier version"):
        v2f("resume", tmp_path / "training")
    without_note = interrupted(people, tmp_path / "noteless")
    with pytest.raises(ConfigError, match="without a note of its command.*Repeat the command"):
        v2f("resume", without_note)


def note(place: Path, **changes: object) -> None:
    whole = {"schema": "v2f-command/1", "command": "convert", "folder": "/nowhere", "options": {}, "ranks": 1}
    (place / WORK / COMMAND).write_text(json.dumps({**whole, **changes}))


def test_what_the_note_says_is_looked_at(people: Path, tmp_path: Path) -> None:
    place = interrupted(people, tmp_path / "set")
    note(place, command="conjure")
    with pytest.raises(ConfigError, match="does not have `v2f conjure`"):
        v2f("resume", place)
    note(place, options={"wand": 3})
    with pytest.raises(ConfigError, match="does not have wand of `v2f convert`"):
        v2f("resume", place)
    note(place, ranks=4, options={"source": str(people)})
    with pytest.raises(ConfigError, match=r"torchrun --nproc-per-node 4 -m v2f_engine convert .*people"):
        v2f("resume", place)


def test_it_moved_and_where_it_was_begun_is_gone(people: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    killed("shard-000000.tar", 1, "convert", str(people), "set", at=old)
    shutil.move(old / "set", tmp_path / "moved")
    old.rmdir()
    assert "is gone: names are taken from" in v2f("resume", tmp_path / "moved")
    v2f("convert", people, tmp_path / "fresh")
    assert tree(tmp_path / "moved") == tree(tmp_path / "fresh")


@pytest.mark.slow
def test_a_set_begun_from_python_goes_on_as_its_settings_tell(tmp_path: Path) -> None:
    from v2f_engine.rendered import WORLD_VERSION, render_people

    class Enough(Exception):
        pass

    def broken(chosen: range):  # type: ignore[no-untyped-def]
        if chosen.start:
            raise Enough
        yield from render_people(3, chosen, 1)

    plan, settings = Plan(2, 1, 1), {"world": WORLD_VERSION, "seed": 3, "first": 0}
    with pytest.raises(Enough):
        write_dataset(tmp_path / "set", settings, plan, broken, format="recordio")
    with pytest.raises(Exception, match="other settings: plan.identities_per_shard"):
        v2f("resume", tmp_path / "set")  # one person a shard is said by no option of `v2f render`
    with pytest.raises(Enough):
        write_dataset(
            tmp_path / "b", settings, Plan(2, 1, 2), lambda chosen: broken(range(1, 2)), format="recordio"
        )
    assert "going on with: v2f render" in v2f("resume", tmp_path / "b")
    v2f("render", "--ids", 2, "--images", 1, "--seed", 3, "--format", "recordio", "--out", tmp_path / "c")
    assert tree(tmp_path / "b") == tree(tmp_path / "c")

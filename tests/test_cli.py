"""The command line as a user meets it: quick to start, named errors on stderr, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
ENV = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}


def v2f(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from v2f_engine.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=ENV, check=False
    )


def seconds(program: str) -> float:
    """CPU time, the best of five: what the program costs, not what else the machine was doing."""
    best = float("inf")
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-c", program], env=ENV, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        used = after.children_user - before.children_user + after.children_system - before.children_system
        best = min(best, used)
    return best


def test_importing_is_free_and_help_is_quick() -> None:
    empty = seconds("")
    assert seconds("import v2f_engine") - empty < 0.1
    assert (
        seconds("import sys; sys.argv = ['v2f', '--help']\nfrom v2f_engine.cli import main; main()") - empty
        < 0.8  # 0.32 to 0.51 on a busy EPYC without AVX-512; torch alone is 1.4 and more
    )
    heavy = "print([m for m in ('torch', 'numpy', 'lmdb') if m in sys.modules])"
    loaded = f"import sys, v2f_engine, v2f_engine.cli; {heavy}"
    done = subprocess.run([sys.executable, "-c", loaded], env=ENV, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "--ids", "2", "--format", "webdatset", "--source", "gaussian"), "webdataset"),
        (("generate", "--ids", "2", "--model", "vec2face"), "Vec2Face"),
        (("generate", "--ids", "2", "--sigma", "a,b"), "--sigma"),
        (("verify", "/nonexistent"), "manifest"),
        (("ids", "check", "/nonexistent.npy"), "nonexistent"),
        (("ids", "sample", "0"), "at least 1"),
        (("ids", "sample", "5", "--fmr", "1e-4"), "--calibration"),
        (("ids", "fit"), "--images"),
        (("env", "--device", "cuda:99"), "cuda"),
    ],
)
def test_mistakes_end_in_one_named_line(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    if arguments[0] == "generate":
        arguments = (*arguments, "--out", str(tmp_path / "out"))
    done = v2f(*arguments)
    assert done.returncode not in (0, 70)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_options_are_refused() -> None:
    done = v2f("generate", "--identities", "5")
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_sample_plan_fit_and_check(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((700, 512)).astype(np.float32)
    np.save(tmp_path / "f.npy", features)
    fitted, table = tmp_path / "s.safetensors", tmp_path / "i.safetensors"
    assert v2f("ids", "fit", str(tmp_path / "f.npy"), "--out", str(fitted)).returncode == 0
    rate = ("--fmr", "1e-3", "--calibration", str(tmp_path / "f.npy"))
    done = v2f("ids", "sample", "50", "--source", str(fitted), "--out", str(table), *rate)
    assert done.returncode == 0, done.stderr
    assert "50 identities" in done.stdout
    assert "every cosine below 0.1" in done.stdout
    done = v2f("ids", "check", str(table), "--step", "10", "--plot", str(tmp_path / "c.png"))
    assert done.returncode == 0, done.stderr
    assert "100.0000% of 50" in done.stdout
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_env_says_what_runs_and_why() -> None:
    done = v2f("env", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "attention" in done.stdout
    assert "precision" in done.stdout


@pytest.mark.parametrize(
    ("message", "hinted"),
    [
        ("a.npy: expected float16, float32 or float64 entries, found int64.", True),
        ("a.pt: holds a dict; expected a tensor of vectors.", True),
        ("a.npz: a zip, but not of one .npy array: 3 members.", True),
        ("a.npy: 1 of 10 rows are duplicates: row 1 repeats 0.", False),
        ("a.npy: 5 of 5 rows are constant (all entries equal); rows 0, 1.", False),
        ("a.npy: 10 rows of features, lab.npy: 3 labels. Expected a label for every row.", False),
        ("a.npy: expected shape [N, 512], found [10, 100].", False),
    ],
)
def test_another_container_is_advised_only_where_it_would_help(message: str, hinted: bool) -> None:
    from v2f_engine.cli.advice import advice
    from v2f_engine.errors import VectorError

    error = VectorError(message)
    assert advice(error, ["ids", "check"]) == (error.hint if hinted else "")


def test_a_sound_set_is_not_suspected_for_its_rows_or_for_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder `people` stands in half of all sentences, and a folder `a` in every one."""
    from v2f_engine.cli import advice as room
    from v2f_engine.errors import DatasetError, VectorError

    monkeypatch.chdir(tmp_path)
    for name in ("people", "a"):
        Path(name).mkdir()
    monkeypatch.setattr(room, "_of_ours", lambda path: f"looked at {path}")
    few = VectorError("20 people of x.npy by age: 1 of 2 groups have fewer than 10 rows: 'woman' (5).")
    assert room.advice(few, ["ids", "fit", "x.npy", "--labels", "people"]) == ""
    cut = DatasetError("b/x.tar: ends after 3 bytes.")
    assert "looked at" not in room.advice(cut, ["convert", "b", "--out", "a"])
    for told in ("a: ends after 3 bytes.", "a/x.tar: ends after 3 bytes.", "The set in a is cut short."):
        assert room.advice(DatasetError(told), ["verify", "a"]) == "looked at a"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (("ids", "sample", "5", "--out", "a.npy", "--seed", "1", "--out", "b.npy"), "--out"),
        (("render", "--ids", "1", "--ids=1"), "--ids"),
        (("verify", "x", "--full", "--fast"), "--full or --fast"),
        (("env", "--json", "--json"), "--json"),
    ],
)
def test_an_option_that_holds_one_value_is_not_given_twice(line: tuple[str, ...], named: str) -> None:
    done = v2f(*line)
    assert done.returncode == 2
    assert f"error (ConfigError): {named} is given more than once" in done.stderr

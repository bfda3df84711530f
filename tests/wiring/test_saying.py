"""`--json` and `--quiet`, of every command that `v2f` has: really run, on small things.

With `--json` stdout is one strict object, whatever the end: complete, complete before, a named error, a mistyped
line. With `--quiet` nothing but errors is said, on either stream.
"""

from __future__ import annotations

import itertools
import json
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wiring_case import commands

from v2f_engine.cli import saying
from v2f_engine.cli.main import main


@dataclass(frozen=True)
class Line:
    """How a command is run here.

    Args:
        line: what follows `v2f`; `{o}` is a name in an empty folder.
        keys: what its object must hold beside `command` and `status`.
        error: the named error that it ends with on this machine.
        slow: that it is worth waiting for once.
    """

    line: str
    keys: str
    error: str = ""
    slow: bool = False


LINES = {
    "generate": Line(
        "generate --ids 2 --images 2 --out {o} --model {small} --source gaussian --compute-batch 2",
        "out identities images written seconds images_per_second manifest contact_sheet failed people start_up",
    ),
    "render": Line(
        "render --ids 1 --images 1 --processes 1 --out {o}",
        "out format identities images written seconds manifest",
    ),
    "align": Line(
        "align {faces}/images/000000/000.jpg --processes 1 --skip-bad --out {o}",
        "photographs written counts out table",
    ),
    "features": Line("features {faces} --out {o}.npy", "out images dim recogniser bad"),
    "select": Line(
        "select {faces} --keep 1 --out {o}",
        "out format images written identities manifest selection judged",
    ),
    "convert": Line("convert {faces} {o}", "out format images written identities manifest"),
    "verify": Line("verify {faces}", "dataset sound shards files bytes broken faults strays misleading"),
    "repair": Line("repair {whole}", "dataset shards repaired"),
    "resume": Line("resume {whole}", "", error="ConfigError"),
    "show": Line("show {whole}", "kind place options made_by identities images format shards"),
    "ui": Line("ui --port 99999", "", error="ConfigError"),
    "push": Line("push {whole} nobody", "", error="ConfigError"),
    "pull": Line("pull nobody", "", error="ConfigError"),
    "inspect": Line("inspect {vectors}", "file sound summary account"),
    "bench": Line(
        "bench --model {small} --images 2 --rounds 1",
        "benchmark model images rounds runner images_per_second",
    ),
    "env": Line("env --device cpu", "python packages device precision runner backends reasons threads gpus"),
    "ids sample": Line(
        "ids sample 5 --source gaussian --out {o}.npy", "out identities candidates max_cosine hash source"
    ),
    "ids centres": Line(
        "ids centres {features} --labels {labels} --out {o}.npy", "out table people images left_out"
    ),
    "ids fit": Line("ids fit {known} --out {o}.safetensors", "out rows length components shrinkage sha256"),
    "ids within": Line(
        "ids within {features} --labels {labels} --out {o}.safetensors",
        "out images people length components sha256",
    ),
    "ids plan": Line(
        "ids plan 30 --source gaussian --max-cosine 0.5", "feasible plan plot parts whole", slow=True
    ),
    "ids check": Line("ids check {known}", "threshold threshold_from curves"),
    "ids pack": Line(
        "ids pack {known} --source gaussian --out {o}.safetensors",
        "out csv plot identities step target worst_cosine mean_nearest_cosine mean_mahalanobis bound curve table_hash",
    ),
    "ids prove": Line(
        "ids prove 2 --out {o}.safetensors --model {small} --source gaussian --max-rounds 1 --image-cosine 1",
        "out report plot identities met max_cosine before after made rounds table_hash",
    ),
    "train recogniser": Line(
        "train recogniser {faces} --batch 4 --fp32 --steps 1 --out {o}", "out weights sha256 steps last"
    ),
    "train generator": Line(
        "train generator {faces} --batch 4 --fp32 --steps 1 --device cpu --out {o}",
        "out weights sha256 steps last",
    ),
    "train pose": Line("train pose {faces} --batch 2 --steps 1 --out {o}", "out weights sha256 steps last"),
    "train estimator": Line(
        "train estimator quality {faces} --batch 4 --steps 1 --out {o}.safetensors",
        "out weights estimator sha256",
    ),
    "evaluate separability": Line(
        "evaluate separability {features} --labels {labels} --threshold 0.3 --out {o}.json",
        "out picture data threshold threshold_from identities images eer unique_share dcface curve",
    ),
    "evaluate consistency": Line(
        "evaluate consistency {features} --labels {labels} --out {o}.json",
        "out picture identities pair_cosine own_nearest",
    ),
    "evaluate leakage": Line(
        "evaluate leakage {features} {gallery} --fmr 0 --out {o}.json",
        "out picture above worst synthetic gallery",
    ),
    "evaluate verification": Line(
        "evaluate verification {pairs} --out {o}.json", "out picture recogniser average sets"
    ),
    "evaluate ijb": Line(
        "evaluate ijb {meta} --name ijbb --features {eight} --out {o}.json",
        "out picture set templates pairs tpr",
    ),
    "evaluate report": Line(
        "evaluate report {faces} --no-card --threshold 0.3 --out {o}.html",
        "out record separability consistency leakage threshold",
    ),
    "evaluate table": Line("evaluate table {result}", "out format tables"),
    "export onnx": Line(
        "export onnx --out {o}.onnx --model {small} --check 0",
        "out bytes layers seconds kind precision model files accuracy",
        slow=True,
    ),
    "export verify": Line("export verify {exported}", "file sidecar passed left"),
    "export tensorrt": Line("export tensorrt --out {o}.plan --model {small}", "", error="MissingDependency"),
    "export tensorrt-rtx": Line(
        "export tensorrt-rtx --out {o}.plan --model {small} --precision fp64", "", error="ConfigError"
    ),
}
"""Every command of `v2f`; what it gives is a promise to scripts, so keys are added here and not taken away."""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[[str], Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `v2f LINE` as the installed script does; what a library in C prints counts, too."""

    def run(line: str) -> Ran:
        with monkeypatch.context() as typed:
            typed.setattr(sys, "argv", ["v2f", *shlex.split(line)])
            capfd.readouterr()
            try:
                main()
                code = 0
            except SystemExit as left:
                code = int(left.code or 0)
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def here(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`places`, a set that lacks nothing, pairs of pictures, and an exported file."""
    from v2f_engine.data.verification import open_verification_set
    from v2f_engine.data.writing.convert_pairs import convert_pairs
    from v2f_engine.export.onnx import export_onnx
    from v2f_engine.pipeline import generate

    root = tmp_path_factory.mktemp("saying")
    generate(2, 1, root / "whole", model=places["small"], source="gaussian", device="cpu", compute_batch=2)
    pictures = sorted(places["faces"].rglob("*.jpg"))
    rows = [(a, b, a.parent == b.parent) for a, b in itertools.pairwise(pictures)]
    (root / "list.txt").write_text("".join(f"{a} {b} {int(same)}\n" for a, b, same in rows))
    convert_pairs(root / "list.txt", root / "pairs.bin", Path("/"))
    assert len(open_verification_set(root / "pairs.bin").same) == len(rows)
    exported = export_onnx(places["small"], root / "small.onnx", check_images=0).path
    return {**places, "whole": root / "whole", "pairs": root / "pairs.bin", "exported": exported}


def never(constant: str) -> Any:
    raise AssertionError(f"{constant} is no strict JSON")


def object_of(text: str) -> dict[str, Any]:
    """The one object of a stdout, to the letter: one line, no NaN."""
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    found = json.loads(text, parse_constant=never)
    assert isinstance(found, dict)
    return found


def test_every_command_is_in_this_table() -> None:
    assert set(LINES) == set(commands())


@pytest.mark.parametrize("command", LINES)
def test_one_object_and_nothing_else(command: str, here: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """Fresh with --json; the same again with both; another time with --quiet."""
    told = LINES[command]

    def line(name: str) -> str:
        return told.line.format(**here, o=tmp_path / name)

    fresh = run(f"{line('a')} --json")
    found = object_of(fresh.out)
    assert found["command"] == command
    assert found["status"] == ("error" if told.error else "complete"), fresh
    assert found.get("error", "") == told.error, fresh
    assert bool(fresh.code) == bool(told.error)
    assert set(told.keys.split()) <= set(found), sorted(found)
    if told.error:
        assert found["message"] in fresh.err
        return
    assert fresh.err, "sentences are on stderr"
    if not told.slow or command.startswith("export"):  # complete before
        again = run(f"{line('a')} --json --quiet")
        assert again.err == ""
        assert object_of(again.out).keys() >= found.keys()
    quiet = run(f"{line('a' if told.slow else 'b')} --quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "code", "command", "error"),
    [
        ("ids sample --json --bogus", 2, "ids sample", "UsageError"),
        ("ids bogus --json", 2, "ids", "UsageError"),
        ("ids sample --json", 2, "ids sample", "UsageError"),
        ("ids sample --json x", 2, "ids sample", "UsageError"),
        ("ids sample 5 --json --fmr 1e-4", 2, "ids sample", "ConfigError"),
        ("ids sample 5 --json --out a.npy --out b.npy", 2, "ids sample", "ConfigError"),
        ("verify /nowhere --json", 1, "verify", "DatasetError"),
        ("inspect {labels} --json --json", 2, "inspect", "ConfigError"),
        ("inspect {garbage} --json", 1, "inspect", "NotSound"),
        ("generate --ids 5 --images 1 --out {garbage} --json", 1, "generate", "OutputFolderError"),
    ],
)
def test_errors(
    line: str, code: int, command: str, error: str, here: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    garbage = tmp_path / "garbage.npy"
    garbage.write_bytes(b"\x93NUMPY\x01\x00 nothing")
    for quiet in ("", " --quiet"):
        ran = run(line.format(**here, garbage=garbage) + quiet)
        found = object_of(ran.out)
        assert (ran.code, found["command"], found["status"], found["error"]) == (
            code,
            command,
            "error",
            error,
        )
        assert found["message"]
        assert "Traceback" not in ran.err
        if error != "NotSound":  # an answer, not an error: --quiet leaves it to the exit code
            assert ran.err


def test_a_fault_of_ours_is_an_object_too(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import v2f_engine.vectors.sampling as sampling

    def fails(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(sampling, "sample_identities", fails)
    with pytest.raises(ZeroDivisionError):
        run(f"ids sample 5 --json --out {tmp_path}/o.npy")


def test_it_says_what_it_said_when_it_is_complete(here: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """A repeated command gives a script the same numbers, and says that it did nothing."""
    line = LINES["ids centres"].line.format(**here, o=tmp_path / "o") + " --json"
    first, second = (object_of(run(line).out) for _ in range(2))
    assert second.pop("already_complete") is True
    assert second == first


def test_what_is_printed_elsewhere_stays_out_of_the_object(
    here: dict[str, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that prints, a process of ours that prints: on stderr with --json, nowhere with --quiet."""
    import subprocess

    import v2f_engine.data.inspect_file as inspect_file

    real = inspect_file.inspect_file

    def chatty(*arguments: Any, **options: Any) -> Any:
        print("chatter")
        subprocess.run(["echo", "child"], check=True)
        return real(*arguments, **options)

    monkeypatch.setattr(inspect_file, "inspect_file", chatty)
    ran = run(f"inspect {here['vectors']} --json")
    assert object_of(ran.out)["sound"] is True
    assert {"chatter", "child"} <= set(ran.err.split())
    ran = run(f"inspect {here['vectors']} --json --quiet")
    assert object_of(ran.out)["sound"] is True
    assert ran.err == ""


def test_warnings_are_said_with_json_and_not_with_quiet(
    here: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    line = LINES["generate"].line.format(**here, o=tmp_path / "o").replace("--source gaussian", "")
    ran = run(f"{line} --json")
    assert "warning: " in ran.err
    assert object_of(ran.out)["identities"] == 2
    ran = run(f"{line} --json --quiet")
    assert object_of(ran.out)["identities"] == 2
    assert ran.err == ""


def test_help_and_version_are_no_objects(run: Run) -> None:
    for line in ("ids sample --json --help", "--version"):
        ran = run(line)
        assert ran.code == 0
        assert not ran.out.startswith("{")


def test_plain_values() -> None:
    import torch

    given = {
        "nan": float("nan"), "inf": -np.inf, "scalar": np.float32(0.5), "count": np.int64(3), "flag": np.bool_(True),
        "array": np.arange(3), "tensor": torch.ones(2), "path": Path("a/b"), "set": {"b", "a"}, "none": None,
        1: (1, [2.0, "c"]), "range": range(2),
    }  # fmt: skip
    assert json.loads(json.dumps(saying.plain(given), allow_nan=False)) == {
        "nan": None, "inf": None, "scalar": 0.5, "count": 3, "flag": True, "array": [0, 1, 2], "tensor": [1.0, 1.0],
        "path": "a/b", "set": ["a", "b"], "none": None, "1": [1, [2.0, "c"]], "range": [0, 1],
    }  # fmt: skip


def test_other_ranks_of_a_training_print_no_object(
    here: dict[str, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(f"inspect {here['vectors']} --json").out == ""


def test_stopped_and_gone_on_with(
    here: dict[str, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal is an object, too; that of `resume` is its own, with what the command that it went on with gave."""
    from v2f_engine.cli.progress import Bar
    from v2f_engine.stopping import Stopped

    def stops(bar: Bar, done: int, total: int) -> None:
        if done:
            raise Stopped(signal.SIGINT)

    out = tmp_path / "set"
    small = (
        f"--ids 3 --images 1 --images-per-shard 1 --model {here['small']} --source gaussian --compute-batch 2"
    )
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Bar, "__call__", stops)
        ran = run(f"generate {small} --out {out} --json")
    found = object_of(ran.out)
    assert (ran.code, found["command"], found["status"]) == (130, "generate", "stopped")
    assert f"`v2f resume {out}`" in found["message"]
    assert found["message"] in ran.err
    ran = run(f"resume {out} --json --quiet")
    found = object_of(ran.out)
    assert (ran.code, found["command"], found["status"], found["images"]) == (0, "resume", "complete", 3)
    assert 0 < found["written"] < 3
    assert ran.err == ""

"""Commands in real processes, ended by real signals: never a 0, never a file named that does not exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from v2f_engine.data.layout import MANIFEST, WORK

V2F = (sys.executable, "-m", "v2f_engine")
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def begun(*words: str, ignoring: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    def settle() -> None:
        for number in STATUS:
            signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

    return subprocess.Popen(
        [*V2F, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=settle
    )  # fmt: skip


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    start = time.monotonic()
    while not what() and process.poll() is None:
        assert time.monotonic() - start < 120, "not begun within two minutes"
        time.sleep(0.02)


def generation(out: Path, ids: int = 30) -> tuple[str, ...]:
    return ("generate", "--ids", str(ids), "--images", "20", "--images-per-shard", "20", "--out", str(out))


def committed(out: Path) -> int:
    found = out.glob(
        f"{WORK}/ledger/[!.]*.jsonl"
    )  # a name that begins with a dot is being written, and may be gone
    return sum(len(path.read_bytes().splitlines()) for path in found)


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_a_stopped_generation_says_what_is_kept_and_the_same_command_resumes(
    number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    process = begun(*generation(out))
    wait_for(lambda: committed(out) >= 2, process)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == STATUS[number], errors
    assert said == "", "an unfinished set told as a finished one"
    last, again = errors.strip().splitlines()[-2:]
    found = re.fullmatch(
        rf"stopped by {number.name}: (\d+) of 600 images \((\d+) of 30 shards\) kept in {out}; "
        rf"the same command resumes, or `v2f resume {out}`\.",
        last,
    )
    assert found, last
    assert again == f"  v2f {shlex.join(generation(out))}"
    assert int(found[2]) == committed(out)
    assert not (out / MANIFEST).exists()
    if number == signal.SIGINT:
        done = subprocess.run(
            [*V2F, *generation(out)], capture_output=True, text=True, env=ENVIRONMENT, check=True
        )
        written = int(re.search(r"\((\d+) written now", done.stdout)[1])  # type: ignore[index]
        assert written == 600 - int(found[1])
        assert (out / MANIFEST).is_file()


@pytest.mark.parametrize("command", ["{v2f} &", "nohup {v2f} &"])
def test_what_the_shell_has_ignored_stays_ignored(command: str, tmp_path: Path) -> None:
    """A script's `command &` begins with SIGINT ignored, `nohup` with SIGHUP: the set is finished, with status 0."""
    out = tmp_path / "set"
    words = " ".join([*V2F, *generation(out, 8)])
    script = f"{command.format(v2f=words)} child=$!; echo $child; wait $child; echo status $?"
    process = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=tmp_path
    )  # fmt: skip
    assert process.stdout is not None
    child = int(process.stdout.readline())
    wait_for(lambda: committed(out) >= 1, process)
    os.kill(child, signal.SIGINT)
    if "nohup" in command:
        os.kill(child, signal.SIGHUP)
    said, _ = process.communicate(timeout=120)
    assert "status 0" in said
    assert (out / MANIFEST).is_file()
    for path in re.findall(r"^(?:contact sheet|manifest)\s+(.+)$", said, re.MULTILINE):
        assert Path(path).is_file()


def test_a_signal_while_everything_is_still_being_imported(tmp_path: Path) -> None:
    for number, (signum, status) in enumerate(STATUS.items()):
        out = tmp_path / str(number)
        process = begun(*generation(out))
        time.sleep(0.4 + 0.5 * number)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (status, -signum), errors
        assert not (out / MANIFEST).exists()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from v2f_engine.batch import ImageBatch
    from v2f_engine.data import Plan, write_dataset

    def batches(identities: range):  # type: ignore[no-untyped-def]
        for identity in identities:
            dice = np.random.default_rng(identity)
            images = dice.integers(0, 255, (40, 112, 112, 3), np.uint8)
            yield ImageBatch(images, np.full(40, identity), np.arange(40), {})

    root = tmp_path_factory.mktemp("faces") / "set"
    write_dataset(root, {"seed": 1}, Plan.of(60, 40), batches, format="lmdb")
    return root


COMMANDS = {
    "features": "features {faces} --out {out}.npy",
    "evaluate": "evaluate consistency {faces} --out {out}.json",
    "ids sample": "ids sample 400000 --source gaussian --max-cosine 0.2 --out {out}.safetensors",
    "render": "render --ids 2000 --images 4 --out {out}",
    "train": "train recogniser {faces} --out {out} --steps 100000",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_every_long_command_ends_with_the_signal_s_status(
    command: str, number: signal.Signals, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = begun(*COMMANDS[command].format(faces=faces, out=out).split())
    time.sleep(6)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == STATUS[number], errors
    assert f"stopped by {number.name}" in errors.strip().splitlines()[-2]
    assert str(out) not in said


def early(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`v2f`, interrupted as it begins to import a module: in the first tenth of a second."""
    program = f"""
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
sys.argv[0] = "/usr/bin/v2f"
from v2f_engine.cli import main
main()
"""
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )


@pytest.mark.parametrize(
    "module", ["v2f_engine.threads", "typer", "v2f_engine.cli.ids", "v2f_engine.cli.dependent", "torch"]
)
def test_ctrl_c_in_the_first_moment_is_a_line(module: str) -> None:
    done = early(module, "env", "--json")
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("stopped by SIGINT")
    if module != "v2f_engine.threads":  # by whom it was called is not known there
        assert json.loads(done.stdout)["status"] == "stopped"


CHECKPOINTS = "--batch 4 --fp32 --checkpoint-every 2 --steps 100000"


@pytest.mark.parametrize(
    ("line", "begun_by", "kept"),
    [
        pytest.param(
            "render --ids 2000 --images 2 --processes 1 --format imagefolder --out {out}", f"{WORK}/run.json", "images",
            marks=pytest.mark.slow, id="render",
        ),
        ("train recogniser {faces} " + CHECKPOINTS + " --out {out}", "checkpoints/*.json", "the checkpoint of step"),
        pytest.param(
            "ids prove 400 --compute-batch 4 --out {out}/p.safetensors", "p.work/*.safetensors", "finished pieces",
            marks=pytest.mark.slow, id="ids prove",
        ),
        ("evaluate report {faces} --out {out}/r.html", ".r.html.v2f.json", "nothing was kept"),
        ("features {faces} --out {out}/f.npy", ".f.npy.v2f.json", "nothing was kept"),
    ],
    ids=lambda value: str(value).partition(" {")[0] if "{" in str(value) else "",
)  # fmt: skip
def test_the_words_are_true_of_the_disk(
    line: str, begun_by: str, kept: str, faces: Path, tmp_path: Path
) -> None:
    """A real process, a real Ctrl-C: what is said to be kept is there, what is not is not; the command is given."""
    out = tmp_path / "out"
    typed = line.format(faces=faces, out=out).split()
    process = begun(*typed)
    wait_for(lambda: list(out.glob(begun_by)), process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    said, again = errors.strip().splitlines()[-2:]
    assert kept in said, errors
    assert again == f"  v2f {shlex.join(typed)}"
    if kept == "nothing was kept":
        left = [path.name for path in out.rglob("*") if path.suffix in (".npy", ".html", ".json", ".png")]
        assert [name for name in left if not name.endswith(".v2f.json")] == []
        return
    assert "the same command resumes, or `v2f resume " in said
    if step := re.search(r"checkpoint of step ([\d,]+)", said):
        found = sorted((out / "checkpoints").glob("*.json"))
        assert int(found[-1].stem) >= int(step[1].replace(",", "")) >= 2
    if pieces := re.search(r"(\d+) finished pieces", said):
        assert len(list((out / "p.work").glob("*.safetensors"))) == int(pieces[1])


def test_features_go_on_where_they_say(faces: Path, tmp_path: Path) -> None:
    """Rows that were committed are counted in the words, with the file that says so."""
    from v2f_engine.asked import Asked
    from v2f_engine.cli.stopped import words
    from v2f_engine.stopping import Stopped

    for name, state in (("f.npy", ".f.npy.progress"), ("f.lmdb", ".f.features.npy.progress")):
        out = tmp_path / name
        asked = Asked("features", str(tmp_path), {"out": str(out)})
        stop = Stopped(signal.SIGINT)
        assert "nothing was kept" in words(stop, ["features", "x"], asked)
        (tmp_path / state).write_text(json.dumps({"done": 8192}))
        assert f"8,192 images are kept beside {out}; the same command resumes" in words(stop, [], asked)

"""Outputs of commands: what is there is not overwritten unasked, refusals come before the work, errors have names."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from v2f_engine import disk
from v2f_engine.batch import ImageBatch
from v2f_engine.cli.main import app, main
from v2f_engine.cli.outputs import NOT_DECISIVE, Claim, beside
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import OutputFolderError
from v2f_engine.vectors.identities import Identities

ROOT = Path(__file__).resolve().parents[2]
PEOPLE, IMAGES = 8, 2

FOREIGN = {
    "ids sample": ("ids sample 5 --source gaussian --out {o}.safetensors", ".safetensors"),
    "ids fit": ("ids fit {known} --out {o}.safetensors", ".safetensors"),
    "ids plan": ("ids plan 20 --source gaussian --plot {o}.png", ".png"),
    "ids check": ("ids check {known} --plot {o}.png", ".png"),
    "ids pack": ("ids pack {known} --source gaussian --out {o}.safetensors", ".safetensors .csv .png"),
    "ids prove": ("ids prove 2 --out {o}.safetensors", ".safetensors .json .png"),
    "ids within": ("ids within {features} --labels {labels} --out {o}.safetensors", ".safetensors"),
    "ids centres": ("ids centres {features} --labels {labels} --out {o}.npy", ".npy .csv"),
    "evaluate separability": (
        "evaluate separability {features} --labels {labels} --out {o}.json",
        ".json .png",
    ),
    "evaluate consistency": (
        "evaluate consistency {features} --labels {labels} --out {o}.json",
        ".json .png",
    ),
    "evaluate leakage": (
        "evaluate leakage {features} {known} --fmr 0 --out {o}.json",
        ".json .png _worst.png",
    ),
    "evaluate verification": ("evaluate verification {pairs} --out {o}.json", ".json .png"),
    "evaluate ijb": ("evaluate ijb {folder} --features {features} --out {o}.json", ".json .png"),
    "evaluate report": ("evaluate report {faces} --out {o}.html", ".html .json"),
    "evaluate table": ("evaluate table --out {o}.md", ".md"),
    "show": ("show {faces} --pictures {o}.png", ".png"),
    "convert": ("convert {weights} {o}.safetensors", ".safetensors"),
    "features": ("features {faces} --out {o}.npy", ".npy .json"),
    "export onnx": ("export onnx --out {o}.onnx", ".onnx .onnx.json"),
    "export tensorrt": ("export tensorrt --out {o}.plan", ".plan .plan.json"),
    "export tensorrt-rtx": ("export tensorrt-rtx --out {o}.plan", ".plan .plan.json"),
    "train estimator": ("train estimator pose {faces} --steps 1 --out {o}.safetensors", ".safetensors"),
}
"""Command -> how it is run, and the endings of what it writes: a stranger's file under each must survive."""
FOLDERS = {
    "generate": "generate --ids 2 --images 1 --out {o}",
    "render": "render --ids 2 --images 1 --out {o}",
    "select": "select {faces} --keep 1 --out {o}",
    "align": "align {faces} --out {o}",
    "convert": "convert {faces} {o}",
    "pull": "pull owner/name --out {o}",
    "train recogniser": "train recogniser {faces} --steps 1 --out {o}",
    "train generator": "train generator {faces} --steps 1 --out {o} --device cpu",
    "train pose": "train pose {faces} --steps 1 --out {o}",
}
"""Commands that write a folder."""
NUMBERED = {"ui"}
"""Commands whose sets take the next free number below a folder: `tests/ui/test_export.py`."""
TWICE = {
    "ids sample": ("--seed 1", "--seed 2"),
    "ids fit": ("", "--components 4"),
    "ids plan": ("", "--max-cosine 0.2"),
    "ids centres": ("", "--unit"),
    "ids pack": ("", "--max-cosine 0"),
    "ids check": ("", "--threshold 0.3"),
    "evaluate separability": ("--threshold 0.3", "--threshold 0.4"),
    "evaluate leakage": ("", "--worst 3"),
    "evaluate report": ("--threshold 0.3", "--threshold 0.4"),
    "evaluate table": ("--table verification", "--table ijb"),
    "convert": ("", "--precision fp16"),
    "features": ("", "--mean 0 --std 1"),
}
"""Command -> two settings, of those that work quickly."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from v2f_engine.models.registry import locate

    root = tmp_path_factory.mktemp("outputs")
    rng = np.random.default_rng(0)
    for name, rows in (("features", PEOPLE * IMAGES), ("known", 30)):
        np.save(root / f"{name}.npy", rng.standard_normal((rows, 512)).astype(np.float32))
    np.save(root / "labels.npy", np.repeat(np.arange(PEOPLE), IMAGES))

    def batches(ids: range) -> list[ImageBatch]:
        identity = np.repeat(np.arange(ids.start, ids.stop), IMAGES)
        pictures = rng.integers(0, 256, (len(identity), 112, 112, 3), dtype=np.uint8)
        angles = {name: np.zeros(len(identity), np.float32) for name in ("yaw", "pitch", "roll", "blur")}
        return [ImageBatch(pictures, identity, np.tile(np.arange(IMAGES), len(ids)), angles)]

    write_dataset(root / "faces", {"seed": 1}, Plan.of(PEOPLE, IMAGES), batches, format="imagefolder")
    (root / "folder").mkdir()
    return {
        **{name: root / f"{name}.npy" for name in ("features", "known", "labels")},
        "faces": root / "faces",
        "folder": root / "folder",
        "pairs": root / "pairs.bin",
        "weights": locate("mini", "recogniser").path,
    }


Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(line, code, *words): runs `v2f LINE` as the installed script does; it ends so and says these words."""

    def run(line: str, code: int, *words: str) -> str:
        with monkeypatch.context() as typed:
            typed.setattr(sys, "argv", ["v2f", *line.split()])
            capsys.readouterr()
            try:
                main()
                found = 0
            except SystemExit as left:
                found = int(left.code or 0)
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert (found, "Traceback" in said) == (code, False), said
        assert [word for word in words if word not in said] == [], said
        return said

    return run


REFUSED = "error (OutputFolderError)"


def test_every_command_that_writes_is_in_these_tables() -> None:
    def walk(command: object, words: tuple[str, ...]) -> dict[str, set[str]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return {" ".join(words): {parameter.name for parameter in command.params}}  # type: ignore[attr-defined]
        return {k: v for name, one in inner.items() for k, v in walk(one, (*words, name)).items()}

    found = walk(get_command(app), ())
    writing = {name for name, options in found.items() if options & {"out", "target", "plot", "pictures"}}
    assert writing == set(FOREIGN) | set(FOLDERS) | NUMBERED
    assert {name for name, options in found.items() if "overwrite" in options} == set(FOREIGN)


@pytest.mark.parametrize("command", FOREIGN)
def test_a_strangers_file_survives(command: str, places: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """Whichever of the command's files is there: refused by name before the work, every byte intact, nothing added."""
    line, endings = FOREIGN[command]
    for number, ending in enumerate(endings.split()):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = folder / f"o{ending}"
        file.write_bytes(b"somebody's")
        run(line.format(**places, o=folder / "o"), 1, REFUSED, str(file), "--overwrite")
        assert file.read_bytes() == b"somebody's"
        assert [entry.name for entry in folder.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=pytest.mark.slow if one == "ids plan" else ()) for one in TWICE]
)  # four pilots of 3 s
def test_twice_with_other_settings(command: str, places: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """The first file's bytes are intact; the same settings again are complete; --overwrite replaces."""
    line, endings = FOREIGN[command]
    line = line.format(**places, o=tmp_path / "o")
    first, second = (f"{line} {words}" for words in TWICE[command])

    def there() -> dict[str, bytes]:
        return {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}

    run(first, 0)
    before = there()
    assert {f"o{ending}" for ending in endings.split()} - {"o_worst.png"} <= set(before)
    run(second, 1, REFUSED, "other settings", "--overwrite")
    assert there() == before
    run(first, 0, "" if command in ("ids plan", "ids check", "evaluate table") else "already complete")
    assert there().keys() == before.keys()
    run(f"{second} --overwrite", 0)
    assert there() != before


def test_two_commands_that_write_one_file_at_once_do_not_both_succeed(tmp_path: Path) -> None:
    out = tmp_path / "o.npy"
    one, two = (Claim((out,), False, {"command": "ids sample", "--seed": seed}) for seed in "12")
    assert not one.complete()
    one.begin(0)
    assert not two.complete()
    two.begin(0)
    out.write_bytes(b"both")
    two.finish()
    with pytest.raises(
        OutputFolderError, match="two commands at once: .* another began, .*--seed was 2, is 1"
    ):
        one.finish()


def test_a_result_that_was_changed_is_not_called_complete(
    places: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    line = FOREIGN["ids sample"][0].format(**places, o=tmp_path / "o")
    run(line, 0)
    file = tmp_path / "o.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    run(line, 1, REFUSED, "was changed")


def test_numbers_are_stored_before_the_picture_that_fails(
    places: dict[str, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command then goes on; one with other settings touches nothing."""
    import v2f_engine.evaluate.plots as plots

    line = f"evaluate separability {places['features']} --labels {places['labels']} --out {tmp_path}/o.json"

    def fails(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(plots, "_save", fails)
        run(f"{line} --threshold 0.3", 1, "error (DiskFull)")
    numbers = (tmp_path / "o.json").read_bytes()
    assert json.loads(numbers)["identities"] == PEOPLE
    run(f"{line} --threshold 0.4", 1, REFUSED, "other settings")
    assert (tmp_path / "o.json").read_bytes() == numbers
    run(f"{line} --threshold 0.3", 0)
    assert (tmp_path / "o.png").is_file()
    assert (tmp_path / "o.json").read_bytes() == numbers


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_of_somebody_else_survives(
    command: str, places: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "o"
    folder.mkdir()
    (folder / "log.jsonl").write_bytes(b"somebody's")
    run(FOLDERS[command].format(**places, o=folder), 1, REFUSED, "log.jsonl")
    assert (folder / "log.jsonl").read_bytes() == b"somebody's"


def test_two_recipes_do_not_share_a_folder(places: dict[str, Path], tmp_path: Path, run: Run) -> None:
    line = f"train recogniser {places['faces']} --batch 4 --fp32 --steps 1 --out {tmp_path / 'run'}"
    run(line, 0)
    weights = (tmp_path / "run/recogniser.safetensors").read_bytes()
    said = run(f"{line} --margin arcface --seed 5", 1, REFUSED, "other settings", "seed is 0 there, 5 now")
    assert "margin is 'cosface' there, 'arcface' now" in said
    assert not [word for word in ("size mismatch", "fetched", "Fetch") if word in said]
    assert (tmp_path / "run/recogniser.safetensors").read_bytes() == weights
    run(line.replace("--steps 1", "--steps 2"), 0)  # a longer one goes on


REFUSALS = (
    errno.EACCES,
    errno.EROFS,
    errno.ENOSPC,
    errno.ENOENT,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EDQUOT,
)
"""What an operating system answers to a user's places."""


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("command", [*FOREIGN, *(name for name in FOLDERS if name not in FOREIGN)])
def test_every_refusal_of_the_system_has_a_name(
    command: str,
    number: int,
    places: dict[str, Path],
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first step of a command that changes the disk is refused: an error of ours and no traceback."""

    def refused(operation: str, path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    line = FOREIGN[command][0] if command in FOREIGN else FOLDERS[command]
    monkeypatch.setattr(disk, "before", refused)
    name = "DiskFull" if number in disk.FULL else "OutputFolderError"
    run(line.format(**places, o=tmp_path / "o"), 1, f"error ({name})")


def test_a_place_that_cannot_be_written_is_named_before_the_work(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where a folder should be, a folder, a device (never replaced by a file): the work does not begin."""
    import v2f_engine.vectors.sampling as sampling

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(sampling, "sample_identities", never)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "device.npy").symlink_to("/dev/null")
    run(f"ids sample 5 --out {tmp_path}/file/o.npy", 1, REFUSED, "--out")
    run(f"ids sample 5 --out {tmp_path}/folder.npy", 1, REFUSED, "no plain file")
    run(f"ids sample 5 --out {tmp_path}/device.npy --overwrite", 1, REFUSED, "no plain file")
    assert Path("/dev/null").is_char_device()


def test_an_input_is_never_an_output(places: dict[str, Path], tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "weights.safetensors"
    copy.write_bytes(places["weights"].read_bytes())
    run(f"convert {copy} {copy} --overwrite", 1, REFUSED, "what this command reads")
    assert copy.read_bytes() == places["weights"].read_bytes()


def test_suffixes_decide_the_format(places: dict[str, Path], tmp_path: Path, run: Run) -> None:
    for name in ("a.npy", "a.safetensors"):
        run(f"ids sample 4 --out {tmp_path}/{name}", 0)
    vectors = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert np.array_equal(vectors, Identities.load(tmp_path / "a.safetensors").vectors)
    for line in ("ids sample 4 --out {}.txt", "ids sample 4 --out {}", "ids prove 2 --out {}.npy"):
        run(line.format(tmp_path / "b"), 1, REFUSED, "ends in")
    run(f"ids fit {places['known']} --out {tmp_path}/b.npy", 1, REFUSED, "ends in .safetensors")
    run(f"features {places['faces']} --out {tmp_path}/b.csv", 1, REFUSED, "ends in .npy or .lmdb")
    assert {entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")} == {
        "a.npy",
        "a.safetensors",
    }


@pytest.mark.parametrize(
    "line",
    [
        "ids sample 1000000000000 --out {o}.npy",
        "ids prove 1000000000000 --out {o}.safetensors",
        "generate --ids 1000000000000 --out {o}",
        "generate --ids 1000 --images 4000000000 --out {o}",
        "generate --ids 1000000000000 --format null --out {o}",
        "generate --ids 1000 --images 4000000000 --format null --out {o}",
        "render --ids 1000000000000 --out {o}",
    ],
)
def test_what_cannot_be_is_refused_at_once(line: str, tmp_path: Path, run: Run) -> None:
    code = 2 if "null" in line else 1
    name = "ConfigError" if "null" in line else "DiskFull"
    run(line.format(o=tmp_path / "o"), code, f"error ({name})", " TB", "" if "ids " in line[:4] else " years")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_numbers(
    places: dict[str, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(operation: str, path: str) -> None:
        if operation == "write" and "shard" in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(disk, "before", full)
    said = run(f"convert {places['faces']} {tmp_path}/o", 1, "error (DiskFull)", "more needed", "free")
    assert "unknown" not in said


def test_results_lie_beside_what_they_measure(
    places: dict[str, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing appears in the current folder, the set stays whole, and a later report adds to its card."""
    from v2f_engine.data import open_dataset
    from v2f_engine.data.records.verify import verify_dataset

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert beside("mini", "x.json") == Path("mini.evaluation/x.json")
    assert beside(tmp_path / "no" / "set", "x.json") == Path("set.evaluation/x.json")
    assert beside(".", "x.json") == tmp_path / "here.evaluation/x.json"
    faces = places["faces"]
    run(f"evaluate report {faces} --gallery {places['known']} --threshold 0.3", 0)
    run(f"evaluate report {faces} --threshold 0.3", 1, REFUSED, "--gallery")
    run(f"evaluate report {faces} --threshold 0.35 --out {tmp_path}/second.html", 0)
    card = (faces / "README.md").read_text()
    assert [word for word in ("cosine 0.350", "leakage above 0.300") if word not in card] == []
    assert "not measured" not in card
    found = {entry.name for entry in faces.with_name("faces.evaluation").iterdir()}
    assert {"report.html", "report.json"} <= found
    assert verify_dataset(faces).ok
    assert len(open_dataset(faces)) == PEOPLE * IMAGES
    assert list(Path.cwd().iterdir()) == []


def test_a_card_that_cannot_be_written_is_said(
    places: dict[str, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import v2f_engine.data.records.card as cards

    def refused(*arguments: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(places["faces"]))

    monkeypatch.setattr(cards, "write_file", refused)
    line = f"evaluate report {places['faces']} --threshold 0.3 --out {tmp_path}/r.html"
    run(line, 0, "was not written: Read-only file system")
    assert (tmp_path / "r.html").is_file()


def test_a_reference_of_too_few_is_named_before_it_is_read(
    places: dict[str, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import v2f_engine.evaluate.source as source

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("images were read")

    monkeypatch.setattr(source, "open_source", never)
    line = f"evaluate report {places['faces']} --reference {places['faces']} --out {tmp_path}/r.html"
    run(line, 2, "error (ConfigError)", "100,000 pairs", "found 112", "--threshold")
    assert list(tmp_path.iterdir()) == []


def test_advice_is_per_cause(places: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """A damaged set of ours is mended, one that was begun is gone on with, and a name mistyped is not fetched again."""
    damaged, begun = tmp_path / "damaged", tmp_path / "begun"
    for copy in (damaged, begun):
        shutil.copytree(places["faces"], copy)
    next(damaged.rglob("*.jpg")).write_bytes(b"")
    said = run(f"features {damaged} --out {tmp_path}/f.npy", 1, "1 file of the set", "byte for byte")
    said += run(f"evaluate consistency {tmp_path}/nowhere --out {tmp_path}/c.json", 1)
    (begun / ".v2f").mkdir(exist_ok=True)
    (begun / "manifest.json").rename(begun / ".v2f/run.json")
    said += run(
        f"features {begun} --out {tmp_path}/g.npy", 1, f"{begun} is not finished", "when it is repeated"
    )
    said += run(f"verify {begun}", 1, f"{begun} is not finished")
    assert not [word for word in ("etched again", "ownload") if word in said]


@pytest.mark.parametrize(
    ("executor", "option", "words"),
    [
        ("ray", "foo=3", ("'foo' is unknown to 'ray'", "address", "gpus")),
        ("slurm", "minutes=abc", ("minutes='abc'", "expected int", "partition")),
        ("local", "address=x", ("'address' is unknown to 'local'", "none")),
    ],
)
def test_options_of_executors(
    executor: str, option: str, words: tuple[str, ...], tmp_path: Path, run: Run
) -> None:
    line = f"generate --ids 2 --images 1 --out {tmp_path}/o --executor {executor} --executor-option {option}"
    run(line, 2, "error (ConfigError)", *words)
    assert list(tmp_path.iterdir()) == []


def test_nobody_listening_is_quiet() -> None:
    """`v2f ... | head -1`, and a standard output that is full."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    program = [sys.executable, "-m", "v2f_engine", "generate", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writing)
    assert done.stderr == b""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error (DiskFull)"), done.stderr


def test_what_is_not_decisive_names_real_options() -> None:
    names = set()

    def walk(command: object) -> None:
        for one in getattr(command, "commands", {}).values():
            walk(one)
        names.update(parameter.name for parameter in getattr(command, "params", []))

    walk(get_command(app))
    assert names >= NOT_DECISIVE

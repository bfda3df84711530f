"""`v2f generate --extend` and `v2f ids sample --extend`: as if the larger one had been asked for at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import v2f

from v2f_engine.data import open_dataset, verify_dataset
from v2f_engine.data.layout import COMMAND, IDENTITIES, MANIFEST, RUN, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.errors import ConfigError, OutputFolderError, VectorError
from v2f_engine.options import IdentityOptions
from v2f_engine.pipeline import generate
from v2f_engine.pipeline.extension import Held
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.sampling import sample_identities

ROOT = Path(__file__).parents[1]
SMALL = "--images 2 --images-per-shard 2 --compute-batch 2 --device cpu --seed 5 --format webdataset"
OF_A_SET = {MANIFEST, "croissant.json", "README.md"}
"""What describes a set, and has its manifest's hash."""


def tree(root: Path) -> dict[str, bytes]:
    """Every file but the lock, which notes who held it."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files if path.name != "lock"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of two people, and one of four that was made at once."""
    root = tmp_path_factory.mktemp("extension")
    for name, people in (("two", 2), ("four", 4)):
        v2f("generate", "--ids", people, *SMALL.split(), "--out", root / name)
    return root


@pytest.fixture
def two(made: Path, tmp_path: Path) -> Path:
    """A copy of the set of two people."""
    return Path(shutil.copytree(made / "two", tmp_path / "two"))


def test_extended_is_made_at_once(made: Path, two: Path) -> None:
    """Options come from the set; every file but the set's own description is that of the set made at once."""
    before = tree(two)
    said = v2f("generate", "--extend", two, "--ids", 4, "--dry-run")
    assert "2 of 4 shards (4 images) are kept" in said
    assert tree(two) == before
    v2f("generate", "--extend", two, "--ids", 4)
    found, whole = tree(two), tree(made / "four")
    assert found.keys() == whole.keys()
    assert {name for name in found if found[name] != whole[name]} == OF_A_SET
    own = {name for name in before if name.endswith(".tar") or name.startswith("attributes/")}
    assert len(own) == 4
    assert all(found[name] == before[name] for name in own)
    assert verify_dataset(two).ok
    assert "from 2 people, 4 images" in v2f("show", two)
    assert "(0 written now" in v2f("generate", "--extend", two, "--ids", 4)
    assert tree(two) == found


@pytest.mark.slow
def test_a_replay_makes_it_at_once(made: Path, two: Path) -> None:
    """Shards were full, so what a replay makes is the set that was made at once, to the last byte."""
    v2f("generate", "--extend", two, "--ids", 4)
    v2f("generate", "--config", two / MANIFEST, "--out", two.with_name("copy"))
    assert tree(two.with_name("copy")) == tree(made / "four")


@pytest.mark.slow
def test_python_and_a_last_shard_that_is_not_full(two: Path) -> None:
    """Three people in shards of two, then four: the same images in other shards, from Python."""
    out = two.with_name("three")
    options = {
        "seed": 5, "format": "webdataset", "images_per_shard": 4, "device": "cpu", "compute_batch": 2,
    }  # fmt: skip
    generate(3, 2, out, **options)
    report = generate(4, 2, out, extend=True, **options)
    assert (report.identities, report.written) == (4, 2)
    assert [shard.identities for shard in Manifest.load(out / MANIFEST).shards] == [2, 1, 1]
    v2f("generate", "--extend", two, "--ids", 4)
    grown, other = open_dataset(out), open_dataset(two)
    assert [grown.record(row) for row in range(8)] == [other.record(row) for row in range(8)]


REFUSED = {
    "another seed": ("--ids 4 --seed 6", OutputFolderError, r"settings.seed is 5 there, 6 now \(--seed\)"),
    "another perturbation": ("--ids 4 --sigma 0.1 --sigma-weights 1", OutputFolderError, "settings.perturbation"),
    "another mask": ("--ids 4 --masks 0.4", OutputFolderError, "settings.masks"),
    "another quality": ("--ids 4 --jpeg-quality 80", OutputFolderError, r"encoder.quality is 95 there, 80 now"),
    "another format": ("--ids 4 --format parquet", OutputFolderError, 'format is "webdataset" there, "parquet" now'),
    "more images": ("--ids 4 --images 3", OutputFolderError, r"plan.images_per_id is 2 there, 3 now \(--images\)"),
    "another model": ("--ids 4 --model mini-pose", OutputFolderError, r'settings.model.name is "mini" there'),
    "another limit": ("--ids 4 --max-cosine 0.3", ConfigError, r"found max_cosine 0.3 \(--max-cosine\)"),
    "another source": ("--ids 4 --source gaussian --rescale", ConfigError, "the table was sampled from 'mini'"),
    "people to keep away from": ("--ids 4 --exclude {npy}", ConfigError, "kept apart from no real people"),
    "fewer": ("--ids 1", ConfigError, r"has 2 people; 1 in all were asked for \(--ids\). A set grows"),
    "more images alone": (
        "--images 3", ConfigError, r"plan.images_per_id is 2 there, 3 now.*--config {two}/manifest.json --images 3",
    ),
    "no number": ("", ConfigError, r"say how many people it shall have in all \(--ids\)"),
    "another place": ("--ids 4 --out elsewhere", ConfigError, "a set is extended where it lies"),
    "a file of options": ("--ids 4 --config {two}/manifest.json", ConfigError, "has its own settings; leave it out"),
    "other people": ("--vectors {npy}", ConfigError, "expected vectors that begin with its own 2"),
}  # fmt: skip


EARLY = ("more images alone", "another limit", "no number", "another place", "a file of options")
"""Said before a network is loaded."""
CASES = [pytest.param(case, marks=[] if case in EARLY else pytest.mark.slow) for case in REFUSED]


@pytest.mark.parametrize("case", CASES)
def test_refused_by_name(case: str, two: Path, tmp_path: Path) -> None:
    words, error, told = REFUSED[case]
    file = tmp_path / "people.npy"
    np.save(file, sample_identities(4, source="mini", seed=9).vectors)
    before = tree(two)
    typed = words.format(two=two, npy=file).split()
    with pytest.raises(error, match=told.replace("{two}", str(two))):
        v2f("generate", "--extend", two, *typed)
    assert tree(two) == before


@pytest.mark.slow
def test_more_images_are_a_set_of_their_own(two: Path) -> None:
    """What the refusal promises: every image of the first set, in the second under the same number."""
    v2f("generate", "--config", two / MANIFEST, "--images", 3, "--out", two.with_name("more"))
    few, more = open_dataset(two), open_dataset(two.with_name("more"))
    assert [more.record(row)[0] for row in (0, 1, 3, 4)] == [few.record(row)[0] for row in range(4)]


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("sigma_shares", "exact", "dealt out over all of its images"),
        ("perturbation", {"nearest_sha256": "0" * 64}, "a guarded cone"),
        ("model", None, "only a set that `v2f generate` made"),
    ],
)
def test_what_counts_over_all_people_does_not_grow(setting: str, value: object, told: str, two: Path) -> None:
    manifest = Manifest.load(two / MANIFEST)
    settings = {**manifest.settings, setting: value}
    replace(manifest, settings={k: v for k, v in settings.items() if v is not None}).save(two / MANIFEST)
    with pytest.raises(ConfigError, match=told):
        Held.at(two, IdentityOptions(4))


def test_a_rate_is_another_distance(two: Path) -> None:
    with pytest.raises(ConfigError, match=r"keep the distance that it was begun with.*--fmr"):
        Held.at(two, IdentityOptions(4, fmr=1e-3, calibration=np.ones((3, 512), np.float32)))


def test_no_set_or_one_that_is_not_finished(two: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a finished set to extend, found no manifest.json"):
        v2f("generate", "--extend", tmp_path / "nothing", "--ids", 4)
    (two / WORK).mkdir(exist_ok=True)
    shutil.copy(two / MANIFEST, two / WORK / RUN)
    (two / MANIFEST).unlink()
    with pytest.raises(ConfigError, match=r"is not finished yet. `v2f resume"):
        v2f("generate", "--extend", two, "--ids", 4)


@pytest.mark.slow
def test_with_a_larger_table(made: Path, two: Path, tmp_path: Path) -> None:
    """`ids sample --extend` of the set's own table, then `generate --extend --vectors`: the same set."""
    table = tmp_path / "larger.safetensors"
    said = v2f("ids", "sample", 4, "--extend", two / IDENTITIES, "--out", table)
    assert "the first 2 are those of" in said
    assert table.read_bytes() == (made / "four" / IDENTITIES).read_bytes()
    v2f("generate", "--extend", two, "--vectors", table)
    found, whole = tree(two), tree(made / "four")
    assert {name for name in found if found[name] != whole[name]} == OF_A_SET


def test_tables_from_the_command_line(tmp_path: Path) -> None:
    """Bytes of a table made at once; what the table says itself is not typed; a plan of the new part alone."""
    small, larger, whole = (tmp_path / f"{name}.safetensors" for name in ("small", "larger", "whole"))
    v2f("ids", "sample", 20, "--seed", 3, "--source", "gaussian", "--out", small)
    v2f("ids", "sample", 50, "--seed", 3, "--source", "gaussian", "--out", whole)
    v2f("ids", "sample", 50, "--extend", small, "--out", larger)
    assert larger.read_bytes() == whole.read_bytes()
    for option in ("--seed 4", "--max-cosine 0.2"):
        with pytest.raises(ConfigError, match="--extend"):
            v2f("ids", "sample", 60, "--extend", small, *option.split(), "--out", tmp_path / "no.safetensors")
    told = v2f("ids", "plan", 50, "--extend", small)
    assert "new part    30 candidates behind the 20 of the table" in told
    assert "s to read this table and write the larger" in told
    assert "30 more than the 20 of the table" in v2f("ids", "sample", 50, "--extend", small, "--out",
                                                      tmp_path / "n.safetensors", "--dry-run")  # fmt: skip
    np.save(tmp_path / "given.npy", Identities.load(small).vectors)
    with pytest.raises(VectorError, match="it was not sampled"):
        v2f("ids", "sample", 60, "--extend", tmp_path / "given.npy", "--out", tmp_path / "no.safetensors")
    with pytest.raises(ConfigError, match="sampled from 'gaussian'"):
        v2f("ids", "sample", 60, "--extend", small, "--source", "mini", "--out", tmp_path / "no.safetensors")


KILLED = """
import os, signal, sys
from v2f_engine import disk

text = sys.argv[1]

def step(operation, path):
    if operation == "rename" and text in path:
        os.kill(os.getpid(), signal.SIGKILL)

disk.before = step
sys.argv = ["v2f", *sys.argv[2:]]
from v2f_engine.cli.main import main

main()
"""
"""The command line, killed before the first rename to a path that holds a text."""


@pytest.mark.slow
@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("at", ["grown_from.json", "shard-000003.tar", "manifest.json"])
def test_killed_and_resumed(
    at: str, noted: bool, made: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real SIGKILL, then `v2f resume`, with the note of the command or from the folder's own settings alone."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764300000")
    undisturbed = Path(shutil.copytree(two, two.with_name("undisturbed")))
    v2f("generate", "--extend", undisturbed, "--ids", 4)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, at, "generate", "--extend", str(two), "--ids", "4"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    if at == "grown_from.json":  # the old set, whole, until that very rename
        assert verify_dataset(two).ok
        assert len(open_dataset(two)) == 4
    else:
        assert "an unfinished set" in v2f("show", two)
        with pytest.raises(ConfigError, match=r"is being extended to 4 people, found 5 \(--ids\)"):
            v2f("generate", "--extend", two, "--ids", 5)
    if not noted:
        (two / WORK / COMMAND).unlink()
    v2f("resume", two)
    assert tree(two) == tree(undisturbed)


@pytest.mark.slow
def test_a_rescaled_source_need_not_be_named(tmp_path: Path) -> None:
    """Everything but the number is as the set itself says; the model's own source was taken for it."""
    words = [*SMALL.split(), "--source", "gaussian", "--rescale", "--max-cosine", 0.3]
    v2f("generate", "--ids", 2, *words, "--out", tmp_path / "two")
    v2f("generate", "--ids", 4, *words, "--out", tmp_path / "four")
    v2f("generate", "--extend", tmp_path / "two", "--ids", 4)
    found, whole = tree(tmp_path / "two"), tree(tmp_path / "four")
    assert {name for name in found if found[name] != whole[name]} == OF_A_SET


@pytest.mark.slow
def test_by_several_workers_and_repaired(made: Path, two: Path) -> None:
    """Other hands, the same bytes; a broken shard of either part is made again."""
    v2f("generate", "--extend", two, "--ids", 4, "--workers", 2, "--executor", "local")
    found, whole = tree(two), tree(made / "four")
    assert {name for name in found if found[name] != whole[name]} == OF_A_SET
    for name in ("shard-000000.tar", "shard-000003.tar"):
        (two / name).write_bytes(b"broken")
    v2f("repair", two)
    assert tree(two) == found


def test_given_people_begin_with_the_sets_own(two: Path) -> None:
    """Under the numbers that their images are keyed by: a part of another table has the vectors and other numbers."""
    own = Identities.load(two / IDENTITIES)
    further = sample_identities(3, source="mini", seed=9).vectors

    def given(*rows: np.ndarray) -> Identities:
        return Identities.from_vectors(np.concatenate(rows))

    def asked(table: Identities) -> Identities:
        options = IdentityOptions(identities=table)
        return Held.at(two, options).identities(options, 5)

    larger = given(own.vectors, further)
    assert asked(larger).table_hash == larger.table_hash
    moved = given(further[:1], own.vectors, further[1:])[1:5]
    assert np.array_equal(moved.vectors[:2], own.vectors)
    for other in (given(own.vectors[::-1], further), given(further), moved):
        with pytest.raises(ConfigError, match="expected vectors that begin with its own 2"):
            asked(other)

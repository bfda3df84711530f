"""`select_dataset`: bytes pass, attributes come along, each image is accounted for, and a kill costs nothing."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stub_judges import IMAGES, PEOPLE, Cells, brightness, features_of, judges, people, picture, source, tree

from v2f_engine.data import Encoder, Plan, convert_dataset, open_dataset, verify_dataset, write_dataset
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.layout import CARD, CROISSANT, MANIFEST, SELECTION
from v2f_engine.errors import BackendUnavailable, ConfigError, DatasetError, OutputFolderError, VectorError
from v2f_engine.selection import selection_job
from v2f_engine.selection.chosen_set import opened, select_dataset
from v2f_engine.selection.judges import Judges
from v2f_engine.selection.rule import Rule

ROOT = Path(__file__).parents[2]
FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("select") / "made")


def rows_of(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((root / SELECTION).read_text().splitlines()))


def expected(keep: int) -> dict[int, list[int]]:
    """Images of each person nearest to the centre, image 4 aside, which repeats image 1: a loop over the pictures."""
    found = {}
    for identity in range(PEOPLE):
        features = features_of(np.stack([picture(identity, k) for k in range(IMAGES)])).astype(np.float64)
        units = features / np.linalg.norm(features, axis=1)[:, None]
        mean = units[[0, 1, 2, 3, 5]].mean(0)
        order = sorted(range(IMAGES), key=lambda k: (k == 4, -float(units[k] @ mean), k))
        found[identity] = sorted(order[:keep])
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_the_kept_images_pass_byte_for_byte(made: Path, format: str, tmp_path: Path) -> None:
    report = select_dataset(made, tmp_path / "set", Rule(3), format, judges=judges(), images_per_shard=6)
    before, after = open_dataset(made), open_dataset(tmp_path / "set")
    kept = expected(3)
    rows = [identity * IMAGES + image for identity in kept for image in kept[identity]]
    assert [data for data, _ in after] == [before.record(row)[0] for row in rows]
    assert after.labels.tolist() == [identity for identity in kept for _ in range(3)]
    table = after.attributes()
    assert table is not None
    assert table["source_image"].tolist() == [row % IMAGES for row in rows]
    assert table["yaw"].tolist() == [10 * (row % IMAGES) for row in rows]
    assert (report.images, report.identities, report.complete) == (3 * PEOPLE, PEOPLE, True)
    assert report.tally is not None
    assert (report.tally.images, report.tally.kept, report.tally.duplicates) == (30, 15, PEOPLE)
    assert verify_dataset(tmp_path / "set").ok
    said = rows_of(tmp_path / "set")
    assert [(int(row["identity"]), int(row["image"])) for row in said] == [
        divmod(row, IMAGES) for row in range(PEOPLE * IMAGES)
    ]
    assert [i for i, row in enumerate(said) if row["kept_as"]] == rows
    # Its number among its person's images in the new set: the first there is 0, whatever it was before.
    assert [int(row["kept_as"]) for row in said if row["kept_as"]] == [0, 1, 2] * PEOPLE
    assert all(row["reason"] == "dropped: the same as image 1" for row in said if row["image"] == "4")
    scores = {(int(row["identity"]), int(row["image"])): float(row["score_centre"]) for row in said}
    assert table["score_centre"] == pytest.approx([scores[divmod(row, IMAGES)] for row in rows])
    selection = after.manifest.settings["selection"]  # type: ignore[union-attr]
    assert selection == {
        "keep": 3, "by": ["centre"], "recogniser": Cells().describe(), "quality": {"name": "brightness"}, "rows": 64,
    }  # fmt: skip


def test_all_of_them_is_the_conversion(made: Path, tmp_path: Path) -> None:
    """keep = made: the files of a conversion but for what says how, and the attributes."""
    select_dataset(made, tmp_path / "a", Rule(IMAGES, ("diversity",)), judges=judges())
    convert_dataset(made, tmp_path / "b", "webdataset")
    own = (MANIFEST, CARD, CROISSANT, SELECTION, "attributes/shard-000000.npy")
    a, b = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert {k: v for k, v in a.items() if k not in own} == {k: v for k, v in b.items() if k not in own}


def test_shards_and_the_order_of_a_strangers_rows_change_no_choice(made: Path, tmp_path: Path) -> None:
    """One shard or five, people one after the other or mixed: the same images of the same people."""

    def mixed(_: range):  # type: ignore[no-untyped-def]
        for image in range(IMAGES):
            for one in people()(range(PEOPLE)):
                yield from (one[np.flatnonzero(one.image == image)],)

    kept = {}
    for name, per_shard in (("one", 10_000), ("five", 3)):
        select_dataset(made, tmp_path / name, Rule(3), "lmdb", judges=judges(), images_per_shard=per_shard)
        kept[name] = list(open_dataset(tmp_path / name))
    folder = tmp_path / "strangers"
    encoder = Encoder("png")
    for image in range(IMAGES):  # a list in this order: all first images, then all second ones
        for identity in range(PEOPLE):
            file = folder / f"{identity}" / f"{image}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoder.encode(picture(identity, image)))
    lines = [f"{identity}/{image}.png {identity}" for image in range(IMAGES) for identity in range(PEOPLE)]
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    select_dataset(folder / "list.txt", tmp_path / "mixed", Rule(3), "lmdb", judges=judges())
    kept["mixed"] = list(open_dataset(tmp_path / "mixed"))
    assert kept["one"] == kept["five"] == kept["mixed"]


def test_finished_and_broken_again(made: Path, tmp_path: Path) -> None:
    """The same command on a finished set judges nothing; a broken file and a broken list are made again."""
    root, rule = tmp_path / "set", Rule(3)
    select_dataset(made, root, rule, judges=judges(), images_per_shard=6)
    before = tree(root)
    looks = judges()
    report = select_dataset(made, root, rule, judges=looks, images_per_shard=6)
    assert (looks.recogniser.calls, report.images_written, report.tally) == (0, 0, None)  # type: ignore[union-attr]
    for name in ("shard-000001.tar", SELECTION):
        data = bytearray((root / name).read_bytes())
        data[len(data) // 2] ^= 1
        (root / name).write_bytes(bytes(data))
        select_dataset(made, root, rule, judges=judges(), images_per_shard=6)
        assert tree(root) == before, name


def convert(src: Path, dst: Path) -> None:
    convert_dataset(src, dst, "lmdb")


def test_a_device_that_is_not_there_is_named() -> None:
    """By either judge: torch ended in an AssertionError or a RuntimeError of its own."""
    rules = (Rule(1), Rule(1, ("quality",)))
    for rule in rules:
        with pytest.raises(BackendUnavailable, match="device 'cuda:99': torch sees"):
            Judges.open(rule, device="cuda:99")
        with pytest.raises(ConfigError, match="device 'tpu' is not known"):
            Judges.open(rule, device="tpu")


def test_another_rule_or_another_recogniser_is_refused(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    select_dataset(made, root, Rule(3), judges=judges())
    before = tree(root)
    with pytest.raises(OutputFolderError, match=r"selection.*--by"):
        select_dataset(made, root, Rule(3, ("diversity",)), judges=judges())
    other = judges()
    other.recogniser.describe = lambda: {"name": "cells", "sha256": "1" * 64}  # type: ignore[union-attr, method-assign]
    with pytest.raises(OutputFolderError, match="recogniser"):
        select_dataset(made, root, Rule(3), judges=other)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").touch()
    with pytest.raises(OutputFolderError, match=r"mine\.txt"):
        select_dataset(made, foreign, Rule(3), judges=judges())
    with pytest.raises(OutputFolderError, match="lies inside"):
        select_dataset(made, made / "new", Rule(3), judges=judges())
    recordio = source(tmp_path / "recordio", "recordio")
    for part in ("", "train.rec"):
        for make in (lambda *places: select_dataset(*places, Rule(3), judges=judges()), convert):
            with pytest.raises(OutputFolderError, match=f"lies inside {recordio}, "):
                make(recordio / part, recordio / "new")
    assert verify_dataset(recordio).strays == ()
    assert tree(root) == before
    assert sorted(path.name for path in foreign.iterdir()) == ["mine.txt"]


def uneven(root: Path) -> Path:
    """People of 4, 1 and 2 pictures, in folders with names."""
    for name, count in (("ada", 4), ("ben", 1), ("cyd", 2)):
        (root / name).mkdir(parents=True)
        for image in range(count):
            data = Encoder("png").encode(picture(len(name) + ord(name[0]), image))
            (root / name / f"{image}.png").write_bytes(data)
    return root


def test_people_with_too_few_images(tmp_path: Path) -> None:
    folder = uneven(tmp_path / "folders")
    with pytest.raises(
        DatasetError, match=r"2 of 3 people have fewer than 3 images: ben \(1\), cyd \(2\).*--at-least 1"
    ):
        select_dataset(folder, tmp_path / "set", Rule(3), judges=judges())
    assert not (tmp_path / "set").exists()
    report = select_dataset(folder, tmp_path / "set", Rule(3, at_least=1), judges=judges())
    assert open_dataset(tmp_path / "set").labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert report.tally is not None
    assert report.tally.lines()[0] == "2 people have fewer images and keep all of them"
    with pytest.raises(DatasetError, match="fewer than 5 images"):
        select_dataset(source(tmp_path / "four", images=4), tmp_path / "no", Rule(5), judges=judges())


def test_what_does_not_pass_names_a_command_that_has_the_option(tmp_path: Path) -> None:
    """`v2f select` has no --resize: pictures of two codecs and of another size are for `v2f convert`."""
    folder = uneven(tmp_path / "folders")
    (folder / "ada/0.png").unlink()
    (folder / "ada/0.jpg").write_bytes(Encoder().encode(picture(1, 0)))
    with pytest.raises(DatasetError, match=r"Give an encoder \(`v2f convert --resize`"):
        select_dataset(folder, tmp_path / "set", Rule(1), judges=judges())
    (folder / "ada/0.jpg").write_bytes(Encoder().encode(picture(1, 0)[:56]))
    with pytest.raises(DatasetError, match=r"1 of 56x112 among 7.* `v2f convert --resize`"):
        select_dataset(folder, tmp_path / "other", Rule(1), judges=judges())


def test_a_source_that_was_mended_says_that_nothing_is_lost(tmp_path: Path) -> None:
    """A broken picture ends a selection before its first shard; mended, the source is another, and so is the run."""
    folder = uneven(tmp_path / "folders")
    whole = (folder / "cyd/1.png").read_bytes()
    (folder / "cyd/1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"cyd/1\.png"):
        select_dataset(folder, tmp_path / "set", Rule(1), judges=judges())
    (folder / "cyd/1.png").write_bytes(whole)
    with pytest.raises(
        OutputFolderError, match="files_sha256.*No shard of that run was finished: its folder can be"
    ):
        select_dataset(folder, tmp_path / "set", Rule(1), judges=judges())


def failed_of(answer: Callable[[np.ndarray], np.ndarray], made: Path, tmp_path: Path) -> str:
    with pytest.raises(VectorError) as caught:
        select_dataset(made, tmp_path / "set", Rule(3), judges=judges(answer))
    assert not (tmp_path / "set" / MANIFEST).exists()
    return str(caught.value)


def test_hostile_recognisers(made: Path, tmp_path: Path) -> None:
    def nan_at(features: np.ndarray) -> np.ndarray:
        features[9] = np.nan
        return features

    assert "expected [64, 48], as it says of itself" in failed_of(lambda f: f[:, :7], made, tmp_path / "a")
    assert "all 25 usable rows are one direction" in failed_of(lambda f: f * 0 + 1, made, tmp_path / "b")
    assert "label 1: features of 1 of 6 images are not finite (image 3)" in failed_of(
        nan_at, made, tmp_path / "c"
    )
    assert "is zero and has no direction" in failed_of(
        lambda f: f * (np.arange(64) != 7)[:, None], made, tmp_path / "d"
    )


def test_own_vectors_need_a_generated_set_and_its_recogniser(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'vector' needs the vectors that its people were made from"):
        select_dataset(made, tmp_path / "set", Rule(3, ("vector",)), judges=judges())


def test_images_that_failed_go_first(tmp_path: Path) -> None:
    """Constant images that `generate` marks: dropped, though they are nearest to everybody."""

    def batches(identities: range):  # type: ignore[no-untyped-def]
        for one in people(4)(identities):
            yield type(one)(
                one.images, one.identity, one.image, {"failed": (one.image == 2).astype(np.float32)}
            )

    write_dataset(tmp_path / "made", {}, Plan.of(2, 4), batches, encoder=Encoder("png"))
    report = select_dataset(tmp_path / "made", tmp_path / "set", Rule(3), judges=judges())
    table = open_dataset(tmp_path / "set").attributes()
    assert table is not None
    assert table["source_image"].tolist() == [0, 1, 3, 0, 1, 3]
    assert report.tally is not None
    assert report.tally.lines() == ["2 images failed"]


def test_only_what_a_rule_needs_is_read(made: Path, tmp_path: Path) -> None:
    looks = Judges(None, brightness, {"name": "brightness"})
    select_dataset(made, tmp_path / "set", Rule(2, ("quality",)), judges=looks)
    marks = {(i, k): float(brightness(picture(i, k)[None])[0]) for i in range(PEOPLE) for k in range(IMAGES)}
    for row in rows_of(tmp_path / "set"):
        assert row["cosine_to_centre"] == ""
        assert float(row["score_quality"]) == marks[int(row["identity"]), int(row["image"])]


def test_memory_is_a_shard_of_features_and_a_call_of_pixels(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are asked for in calls of at most `ROWS`, whatever the set's size."""
    asked: list[int] = []
    original = Dataset.images

    def images(self: Dataset, rows: np.ndarray, threads: int = 1) -> np.ndarray:
        asked.append(len(rows))
        return original(self, rows, threads)

    monkeypatch.setattr(Dataset, "images", images)
    monkeypatch.setattr(selection_job, "ROWS", 5)
    select_dataset(made, tmp_path / "set", Rule(3), judges=judges(), images_per_shard=6)
    assert asked == [5, 5, 2, 5, 5, 2, 5, 1]


def harness(format: str, steps: int) -> dict[str, int]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("crash_select.py"))
    command = [sys.executable, script, format, str(steps), "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, int] = json.loads(done.stdout)
    assert outcome["unequal"] == 0, (outcome, done.stderr)
    assert outcome["kills"] == outcome["points"]
    return outcome


def test_killed_selections_resume_to_the_same_bytes() -> None:
    outcome = harness("webdataset", 12)
    assert outcome["fewer_calls"] > 0, "what was judged before is not judged again"


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_killed_at_every_operation(format: str) -> None:
    outcome = harness(format, 0)
    assert outcome["points"] == outcome["operations"]


def test_what_was_said_before_is_believed_only_whole(made: Path, tmp_path: Path) -> None:
    """A score that changed on the disk is judged again; one that did not is read, and nothing is judged."""

    def choice() -> tuple[bytes, int]:
        looks = judges()
        job, manifest, _ = opened(made, tmp_path / "set", "webdataset", Rule(3), looks)
        job.settle(tmp_path / "set", manifest, None)
        return job.choice(0).tobytes(), looks.recogniser.calls  # type: ignore[union-attr]

    first, calls = choice()
    assert calls > 0
    assert choice() == (first, 0)
    (file,) = (tmp_path / "set").rglob("shard-000000.npy")
    for place in (10, -8 * 5, -1):
        data = bytearray(file.read_bytes())
        data[place] ^= 1
        file.write_bytes(bytes(data))
        assert choice() == (first, calls), place

"""Files of a training: checkpoints that are whole or not there, event files that TensorBoard reads, logs cut clean."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from v2f_engine.errors import CheckpointError, ConfigError
from v2f_engine.train.checkpoint import Checkpoints, read_tensors, restore, training_state
from v2f_engine.train.curves import plot_curves
from v2f_engine.train.events import EventFile, crc32c
from v2f_engine.train.loop import Budget, Loop, cut_log, read_log
from v2f_engine.train.optim import adamw
from v2f_engine.train.picture import write_grid


def test_two_checkpoints_are_kept_and_the_newest_whole_one_is_taken(tmp_path: Path) -> None:
    lines: list[str] = []
    checkpoints = Checkpoints(tmp_path, lines.append)
    assert checkpoints.newest() is None
    weights = torch.zeros(3)
    for step in (1, 2, 3):
        weights += 1
        checkpoints.save(step, {"w": weights}, {"kind": "test"})
        weights += 100  # a snapshot was taken
        weights -= 100
    checkpoints.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000002.json", "00000002.safetensors", "00000003.json", "00000003.safetensors",
    ]  # fmt: skip
    assert checkpoints.newest() == 3
    tensors, head = checkpoints.load(3)
    assert tensors["w"].tolist() == [3.0] * 3
    assert head == {"kind": "test"}

    with open(tmp_path / "00000003.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert checkpoints.newest() == 2
    assert "step 3 is damaged" in lines[0]
    (tmp_path / "00000002.json").unlink()  # killed before the JSON: nothing was promised
    with pytest.raises(CheckpointError, match="none of the checkpoints of steps"):
        checkpoints.newest()


def test_a_background_failure_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, print)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("v2f_engine.train.checkpoint.save_file", full)
    checkpoints.save(1, {"w": torch.zeros(1)}, {})
    with pytest.raises(OSError, match="needs 4 bytes"):
        checkpoints.wait()
    assert list(tmp_path.iterdir()) == []


def test_slots_of_another_model_are_refused() -> None:
    small, large = nn.Linear(2, 2), nn.Linear(2, 3)
    optimizer = adamw([small], 0.1, 0.0)
    small(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = training_state({}, {"optimizer": optimizer})
    with pytest.raises(CheckpointError, match="does not fit optimizer"):
        restore(state, {}, {"optimizer": adamw([large], 0.1, 0.0)})


def test_foreign_tensors_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        read_tensors(tmp_path / "x.safetensors")


def test_crc32c_known_answer() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, appendix B.4 and the usual check value


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_grid(tmp_path / "grid.png", [np.zeros((2, 112, 112, 3), np.uint8)])
    events = EventFile(tmp_path / "events")
    for step in (1, 2, 3, 300):
        events.scalars(step, {"loss/pixel": 1.0 / step, "images_per_second": 7.0})
    picture = (tmp_path / "grid.png").read_bytes()
    events.picture(1, "samples", picture)
    events.picture(300, "samples", picture)
    events.close()
    time.sleep(0.01)  # files are read in the order of the time in their names
    resumed = EventFile(tmp_path / "events", 2)
    resumed.scalars(3, {"loss/pixel": 9.0})
    resumed.close()
    found = reader.EventAccumulator(str(tmp_path / "events"), purge_orphaned_data=True)
    found.Reload()
    assert [(e.step, round(e.value, 4)) for e in found.Scalars("loss/pixel")] == [
        (1, 1.0),
        (2, 0.5),
        (3, 9.0),
    ]
    # Step 300 is after step 2, where the run was resumed: its picture is gone like its numbers.
    assert [(p.step, p.width, p.height, p.encoded_image_string) for p in found.Images("samples")] == [
        (1, 224, 112, picture)
    ]


def test_a_log_is_cut_where_a_run_resumes(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "x": 2.0}\n{"step": 3, "x": 1.0}\n{"step": 4, "x"')
    assert [line["step"] for line in read_log(path)] == [1, 3]
    cut_log(path, 2)
    assert path.read_text() == '{"step": 1, "x": 2.0}\n'
    plot_curves(tmp_path)
    path.write_text("")
    with pytest.raises(ConfigError, match="no lines"):
        plot_curves(tmp_path)


def test_sums_between_two_lines_survive(tmp_path: Path) -> None:
    loop = Loop(Budget(steps=10), tmp_path / "a", 1, every=4, say=lambda line: None)
    for value in (1.0, 2.0):
        loop.record({"x": torch.tensor(value)}, "row 1")
    tensors, head = loop.state("row 1")
    again = Loop(Budget(steps=10), tmp_path / "b", 1, every=4, say=lambda line: None)
    again.resume(tensors, json.loads(json.dumps(head)), "cpu")
    for value in (3.0, 6.0):
        again.record({"x": torch.tensor(value)}, "row 1")
    assert [line["x"] for line in read_log(tmp_path / "b" / "log.jsonl")] == [3.0]
    assert again.step == 4


def test_budgets() -> None:
    assert Budget(epochs=2).on(100, 16) == Budget(steps=12)
    assert Budget(minutes=1).on(100, 16) == Budget(minutes=1)
    with pytest.raises(ConfigError, match="above zero"):
        Budget(steps=0)
    with pytest.raises(ConfigError, match=r"Budget\.on"):
        Loop(Budget(epochs=1), Path("unused"), 1)


def test_what_a_writer_killed_at_work_leaves_is_removed(tmp_path: Path) -> None:
    """safetensors writes into a temporary file of its own beside ours: `.tmpXXXXXX` in 0.6 and later."""
    code = (
        "import sys, pathlib, torch; from v2f_engine.train.checkpoint import Checkpoints\n"
        "made = Checkpoints(pathlib.Path(sys.argv[1]), print)\n"
        "made.save(1, {'w': torch.zeros(50_000_000)}, {}); made.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as writer:
        while writer.poll() is None and not list(tmp_path.iterdir()):
            time.sleep(0.001)
        writer.kill()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")], (
        "killed before or after the write"
    )
    Checkpoints(tmp_path, print).tidy()
    assert list(tmp_path.iterdir()) == []

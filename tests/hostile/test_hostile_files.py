"""Files from outside: an own error with file, reason and hint for each; no crash, no hang, no memory."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from v2f_engine.data.formats import open_dataset
from v2f_engine.data.inspect_file import inspect_file
from v2f_engine.data.verification import open_verification_set
from v2f_engine.errors import CheckpointError, DatasetError, VectorError
from v2f_engine.models.checkpoint_file import read_checkpoint
from v2f_engine.npy import map_file
from v2f_engine.outside import admit
from v2f_engine.vectors.streams import open_vectors

ROOT = Path(__file__).parents[2]


def fuzz(*arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3000, check=False)
    assert done.returncode in (0, 1), f"ended with {done.returncode}: {done.stderr[-2000:]}"
    said: dict[str, Any] = json.loads(done.stdout)
    print(said)
    assert said["faults"] == 0, said["first_faults"]
    assert said["slowest_s"] < 5
    assert said["most_memory_mib"] < 256
    return said


def test_hand_made_malformed_files() -> None:
    said = fuzz("corpus")
    assert said["inputs"] >= 1500
    assert len(said["by_format"]) >= 16


def test_random_damage() -> None:
    said = fuzz("20000", "1")
    assert said["inputs"] == 20_000
    assert sum(said["errors"].values()) > 10_000


@pytest.mark.slow
def test_random_damage_at_length() -> None:
    assert fuzz("100000", "2")["inputs"] == 100_000


def test_pipes_and_devices_are_refused_not_waited_for(tmp_path: Path) -> None:
    for suffix, read, error in (
        (".npy", open_vectors, VectorError),
        (".npy", map_file, VectorError),
        (".safetensors", read_checkpoint, CheckpointError),
        (".bin", open_verification_set, DatasetError),
        (".tar", open_dataset, DatasetError),
    ):
        pipe = tmp_path / f"pipe{suffix}"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        with pytest.raises(error, match=r"pipe\..*found a named pipe"):
            read(pipe)
    with pytest.raises(DatasetError, match="a device"):
        admit("/dev/zero", DatasetError)
    folder = tmp_path / "set" / "images" / "000000"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "000.jpg")
    with pytest.raises(DatasetError, match=r"000\.jpg|no dataset"):
        open_dataset(tmp_path / "set").image(0)


def test_a_file_of_impossible_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse.npy"
    with open(path, "wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(VectorError, match="expected at most"):
        admit(path, VectorError, most=1 << 32)
    with pytest.raises(VectorError):
        map_file(path)


def test_inspect_judges_in_a_child(tmp_path: Path) -> None:
    good = tmp_path / "good.npy"
    np.save(good, np.ones((3, 4), np.float32))
    assert inspect_file(good).summary == "array float32 [3, 4]"
    evil = tmp_path / "evil.bin"

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    evil.write_bytes(pickle.dumps(([b"x"], Evil())))
    found = inspect_file(evil)
    assert not found.sound
    assert "evil.bin" in found.summary
    assert not (tmp_path / "ran").exists()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.jpg", bytes(200 << 20))
    assert not inspect_file(tmp_path / "bomb.zip").sound


@pytest.mark.parametrize("shape", [(5, 512), (512,)])
def test_a_bare_tensor_is_vectors_and_no_broken_weights(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """`--vectors` takes it, so `v2f inspect` must."""
    torch.save(torch.ones(shape), tmp_path / "vectors.pt")
    found = inspect_file(tmp_path / "vectors.pt")
    assert (found.sound, found.summary) == (True, f"array float32 {list(shape)}")
    torch.save({"answers": [1, "two"]}, tmp_path / "vectors.pt")
    assert not inspect_file(tmp_path / "vectors.pt").sound

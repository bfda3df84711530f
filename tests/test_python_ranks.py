"""Two ranks of a real process group, each with a loader's workers, see each image once between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RANK = """
import sys
import torch.distributed as distributed
from torch.utils.data import DataLoader
import v2f_engine as v2f

rank, place = int(sys.argv[1]), sys.argv[2]
engine = v2f.Engine.load("mini", compute_batch=4)
data = engine.dataset(engine.sample_identities(3, seed=1), 3, batch_size=2)  # before there is a group
distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
assert len(data) == (3, 2)[rank], len(data)
for images, labels in DataLoader(data, batch_size=None, num_workers=2):
    for image, label in zip(images, labels):
        print("IMAGE", int(label), hash(image.numpy().tobytes()))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_make_each_image_once(tmp_path: Path) -> None:
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "0"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "group")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=150) for process in started]
    found = [
        [line.split()[1:] for line in out.splitlines() if line.startswith("IMAGE")] for out, error in said
    ]
    assert [process.returncode for process in started] == [0, 0], said
    assert [len(one) for one in found] == [5, 4]
    together = [tuple(image) for one in found for image in one]
    assert len(set(together)) == 9
    assert sorted(label for label, _ in together) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3

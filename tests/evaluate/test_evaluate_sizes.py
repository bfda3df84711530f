"""Pictures of another size in `v2f evaluate` and `v2f inspect`: resized, told once with counts, stored with results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data.inspect_file import inspect_file
from v2f_engine.data.verification import write_bin
from v2f_engine.data.writing.encode import Encoder


def picture(seed: int, side: int) -> bytes:
    return Encoder("png").encode(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def test_a_folder_of_160_pixels_is_measured_and_told(tmp_path: Path) -> None:
    for person in range(3):
        (tmp_path / "set" / f"p{person}").mkdir(parents=True)
        for number in range(4):
            data = picture(10 * person + number, 160 if number else 112)
            (tmp_path / "set" / f"p{person}" / f"{number}.png").write_bytes(data)
    out = tmp_path / "c.json"
    ended = CliRunner().invoke(app, ["evaluate", "consistency", str(tmp_path / "set"), "--out", str(out)])
    assert ended.exception is None
    assert ended.output.count("resized to 112x112: 9 pictures of 160x160") == 1
    assert json.loads(out.read_text())["recogniser"]["resized"] == {"160x160": 9}


def test_inspect_decodes_a_set_to_its_last_picture(tmp_path: Path) -> None:
    data = [picture(n, 160) for n in range(4)]
    write_bin(tmp_path / "a.bin", data, [True, False])
    found = inspect_file(tmp_path / "a.bin")
    assert found.sound
    assert "2 pairs, 1 of one person, all decoded; resized to 112x112: 4 pictures of 160x160" in found.summary
    write_bin(tmp_path / "b.bin", [*data[:3], data[3][:900]], [True, False])
    found = inspect_file(tmp_path / "b.bin")
    assert not found.sound
    assert "b: image 3: damaged PNG" in found.summary

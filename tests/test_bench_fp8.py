"""The experiment's gate: what it lets pass, what it refuses, and that the network really is replaced."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.generation import fp8
from v2f_engine.models.image_decoder import ResidualBlock


def test_the_gate_is_on_mean_and_on_the_worst_faces() -> None:
    assert fp8.gate(np.full(100, 0.995))[0]
    assert not fp8.gate(np.full(100, 0.985))[0]
    assert not fp8.gate(np.r_[np.full(90, 1.0), np.full(10, 0.95)])[
        0
    ]  # mean 0.995, the worst tenth another face


def test_every_block_is_replaced_and_the_face_moves_a_little() -> None:
    loaded = fp8.load_generator("mini")
    exact = fp8.frozen(loaded.model, "cpu", "fp32")[0]
    eight = fp8.eight_bit(fp8.frozen(loaded.model, "cpu", "fp32")[0], "reference")
    assert not any(isinstance(m, ResidualBlock) for m in eight.modules())
    blocks = sum(isinstance(m, ResidualBlock) for m in exact.modules())
    assert sum(isinstance(m, fp8.EightBitBlock) for m in eight.modules()) == blocks > 0
    made, wanted = (
        fp8.faces(m, torch.float32, "cpu", 2, loaded.statistics).astype(int) for m in (eight, exact)
    )
    assert 0.05 < np.abs(made - wanted).mean() < 3.0


def test_no_time_is_taken_of_what_the_gate_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = [("half precision", True, "ok"), ("e4m3", False, "identity cosine mean 0.5")]
    monkeypatch.setattr(fp8, "judged", lambda *_: refused)
    monkeypatch.setattr(fp8.machine, "environment", lambda device: {})
    monkeypatch.setattr(fp8, "timed", lambda *_: pytest.fail("timed what was refused"))
    assert fp8.main(["--device", "cuda"]) == 1
    assert "the gate refused" in capsys.readouterr().out

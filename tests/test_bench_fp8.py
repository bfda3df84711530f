"""The experiment's gate: what it lets pass, what it refuses, and that the network really is replaced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from v2f_kernels.group_norm_silu.reference import group_statistics

from bench import protocol
from bench.candidates.conv3x3_fp8 import quantise_weight
from bench.generation import fp8, fp8_admission, fp8_network
from bench.generation.fp8_network import EightBitBlock
from v2f_engine.backends import choose
from v2f_engine.models.image_decoder import ResidualBlock
from v2f_engine.models.joined import Known
from v2f_engine.models.weights import load_generator


def test_the_gate_is_on_mean_and_on_the_worst_faces() -> None:
    assert fp8.gate(np.full(100, 0.995))[0]
    assert not fp8.gate(np.full(100, 0.985))[0]
    assert not fp8.gate(np.r_[np.full(90, 1.0), np.full(10, 0.95)])[
        0
    ]  # mean 0.995, the worst tenth another face


def test_every_block_is_replaced_and_the_face_moves_a_little() -> None:
    loaded = load_generator("mini")
    exact = fp8.frozen(loaded.model, "cpu", "fp32")[0]
    eight = fp8.eight_bit(fp8.frozen(loaded.model, "cpu", "fp32")[0], "reference")
    assert not any(isinstance(m, ResidualBlock) for m in eight.modules())
    blocks = sum(isinstance(m, ResidualBlock) for m in exact.modules())
    assert sum(isinstance(m, EightBitBlock) for m in eight.modules()) == blocks > 0
    made, wanted = (
        fp8.faces(m, torch.float32, "cpu", 2, loaded.statistics).astype(int) for m in (eight, exact)
    )
    assert 0.05 < np.abs(made - wanted).mean() < 3.0


def test_statistics_that_are_handed_on_are_those_of_the_activation() -> None:
    """A block whose convolutions sum for the next norm makes what one makes whose norms look for themselves."""
    model = fp8.frozen(load_generator("mini").model, "cpu", "fp32")[0]
    block = next(m for m in model.im_decoder.modules() if isinstance(m, ResidualBlock) and m.side == 28)
    eight = EightBitBlock(block, "reference")
    x = torch.randn(2, block.conv1.in_channels, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        made = eight.carry(Known(x), 8)
        h = eight.conv(x, *eight.weights[0], eight.norms[0])
        alone = eight.conv(h, *eight.weights[1], eight.norms[1], residual=x if eight.keeps else None)
        plain = block.carry(Known(x), 8).x
    assert made.statistics is not None
    assert torch.allclose(made.x, alone, atol=1e-5)
    assert torch.allclose(made.statistics, group_statistics(made.x, 8))
    assert 0.001 < (made.x - plain).std() / plain.std() < 0.1
    with pytest.raises(ValueError, match="bias is not added yet"):
        eight.carry(Known(x, None, torch.zeros(x.shape[1])), 8)


def test_no_time_is_taken_of_what_the_gate_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = [("half precision", True, "ok"), ("e4m3", False, "identity cosine mean 0.5")]
    monkeypatch.setattr(fp8, "judged", lambda *_: refused)
    monkeypatch.setattr("bench.machine.environment", lambda device: {})
    monkeypatch.setattr(fp8, "choose", lambda *_: None)
    monkeypatch.setattr("bench.generation.rungs.network", lambda name: None)
    monkeypatch.setattr(fp8_admission, "by_shape", lambda *_: pytest.fail("timed what was refused"))
    assert fp8.main(["--device", "cuda"]) == 1
    assert "REFUSED: identity cosine mean 0.5; nothing was timed" in capsys.readouterr().out


SHAPES = frozenset({(128, 128, 112), (256, 128, 56)})


def row(name: str, seconds: float | None, passed: bool = True) -> protocol.Row:
    timing = None if seconds is None else protocol.Timing.of([seconds], 1, "perf_counter")
    return protocol.Row("s", "c", name, passed, f"check of {name}", timing, items=256)


@pytest.mark.parametrize(
    ("seconds", "admitted"), [(0.0250, True), (0.02499, True), (0.0251, False), (0.04, False)]
)
def test_admission_is_at_a_ratio(seconds: float, admitted: bool) -> None:
    found, words = fp8_admission.verdict(row("a", 0.03), row("b", seconds), SHAPES, "cosine")
    assert found == admitted
    assert words.startswith("ADMITTED: " if admitted else "REFUSED: ")
    assert f"{256 / seconds:,.0f} images/s with e4m3 at 128->128@112, 256->128@56, 8,533 without" in words
    assert words.endswith("(at least 1.2); cosine")


def test_wrong_images_and_shapes_without_a_win_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found, words = fp8_admission.verdict(row("a", None), row("b", None, False), SHAPES, "cosine")
    assert not found
    assert words == "REFUSED: check of a; check of b; nothing was timed"
    monkeypatch.setattr(fp8_admission, "by_shape", lambda *_, **__: ([], frozenset()))
    base = choose("cpu", "fp32")
    model = load_generator("mini").model
    assert fp8_admission.admission(model, base, "reference", 2, (True, "cosine"))[1:] == (
        False,
        "REFUSED: e4m3 is faster at no shape; cosine",
    )


def test_the_whole_admission_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it on a CPU, where the specification runs: as if 28 pixels and above had won, then with channels
    exchanged, which the check beside the specification must see."""
    model, base = load_generator("mini").model, choose("cpu", "fp32")
    rows, shapes = fp8_admission.by_shape(model, base, "reference", 2, rounds=1, budget_s=0.1)
    assert {r.case.split(",")[0] for r in rows} == {"block 64->32@28", "block 32->16@56", "block 16->16@112"}
    assert len(rows) == 6
    assert all(r.passed and r.timing for r in rows)
    won = frozenset({(64, 32, 28), (32, 16, 56), (16, 16, 112)})
    assert shapes <= won
    monkeypatch.setattr(fp8_admission, "by_shape", lambda *_, **__: (rows, won))
    found, admitted, words = fp8_admission.admission(model, base, "reference", 2, (True, "cosine"), rounds=1)
    assert found[:-2] == rows
    assert [r.contender for r in found[-2:]] == [fp8_admission.CHOSEN, fp8_admission.EIGHT]
    assert all(r.passed and r.timing for r in found[-2:]), found[-1].check
    assert words.startswith("ADMITTED" if admitted else "REFUSED")
    assert "16->16@112, 32->16@56, 64->32@28" in words

    wrong = iter([lambda w: quantise_weight(w.roll(1, 0)), *[quantise_weight] * 99])
    monkeypatch.setattr(fp8_network, "quantise_weight", lambda w: next(wrong)(w))
    chosen, eight = fp8_admission.whole_network(model, base, "reference", won, 2, rounds=1)
    assert chosen.passed
    assert not eight.passed
    assert chosen.timing is None
    assert eight.timing is None

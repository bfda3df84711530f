"""The training benchmark's rungs on a CPU: finite, judged, each as it says of itself."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[2]))
from bench.training import recogniser_rungs, rungs, setup, shares
from bench.training.published import PublishedLoop
from bench.training.setup import SIZES, recogniser_of, sized
from v2f_engine.models.iresnet import IResNetConfig

PUBLISHED = tuple(rung.name for rung in rungs.RUNGS if rung.published)
LOOP = rungs.RUNGS[2].name
DEEP = replace(SIZES["tiny"], recogniser=IResNetConfig((3, 13, 30, 3), (64, 128, 256, 128), stem_stride=4))
"""iresnet100's depth, small pictures: random weights leave fp32, as they do at base size."""


@pytest.fixture(scope="module")
def oracle() -> dict[str, float]:
    """The oracle as another process would get it."""
    return dict(json.loads(json.dumps(rungs.oracle("tiny", "cpu"))))


@pytest.mark.parametrize("name", [rung.name for rung in rungs.RUNGS if not rung.gpu])
def test_a_rung_runs_alone_and_computes_what_fp32_computes(name: str, oracle: dict[str, float]) -> None:
    """The published ones under anomaly mode, which stops at the first NaN of a gradient."""
    row = rungs.run_rung(name, "tiny", "cpu", rounds=1, budget_s=0.1, expected=oracle)
    assert row.passed, row.check
    assert (row.case, row.contender, row.items) == ("tiny, batch 2", name, 2)
    assert row.timing is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_rungs_are_finite_at_mini_size(name: str) -> None:
    row = rungs.run_rung(name, "mini", "cpu", batch=2, rounds=1, budget_s=0.1)
    assert row.passed, row.check
    assert row.case == "mini, batch 2"


@pytest.mark.slow
def test_what_a_deep_random_recogniser_does_to_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its norms' statistics the published step dies of NaN, and the corrected one is refused, not timed."""
    monkeypatch.setitem(setup.SIZES, "deep", DEEP)  # type: ignore[index]
    assert rungs.run_rung(PUBLISHED[0], "deep", "cpu", rounds=1, budget_s=0.1).passed
    setup._calibrated.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(setup, "calibrate", lambda recogniser, images: recogniser.eval())
        expected = rungs.oracle("deep", "cpu")
        with pytest.raises(RuntimeError, match="returned nan values"):
            rungs.run_rung(PUBLISHED[0], "deep", "cpu", rounds=1, budget_s=0.1, expected=expected)
        row = rungs.run_rung(rungs.ORACLE, "deep", "cpu", rounds=1, budget_s=0.1, expected=expected)
        assert not row.passed
        assert "not finite" in row.check
    setup._calibrated.cache_clear()


def test_losses_agree_or_are_named() -> None:
    assert rungs.agree({"pixel": 1.02, "gan": 0.5}, {"pixel": 1.0, "gan": 0.5})[0]
    assert rungs.agree({"pixel": 1.04, "gan": 0.5}, {"pixel": 1.0, "gan": 0.5}) == (
        False, "loss terms within 4.00 % of fp32's (pixel)",
    )  # fmt: skip
    for found, wanted in ((math.nan, 1.0), (1.0, math.nan), (math.nan, math.nan), (math.inf, math.inf)):
        passed, words = rungs.agree({"pixel": 1.0, "gan": found}, {"pixel": 1.0, "gan": wanted})
        assert not passed
        assert "not finite: gan" in words


def test_a_calibrated_recogniser_gives_features_of_the_published_size() -> None:
    images = torch.from_numpy(setup.pictures(setup.CALIBRATED_ON).images)
    with torch.no_grad():
        features = recogniser_of(SIZES["mini"], "cpu")(setup.to_network(images))
    assert float(features.norm(dim=1).mean()) == pytest.approx(512**0.5, rel=0.1)
    assert recogniser_of(SIZES["mini"], "cpu") is not recogniser_of(SIZES["mini"], "cpu")


def test_the_published_loop_is_in_its_own_precision() -> None:
    with rungs.opened(rungs.trainer_of(rungs.NAMED[LOOP], sized("tiny"), "cpu")) as trainer:
        assert isinstance(trainer, PublishedLoop)
        seen: dict[str, torch.Tensor] = {}

        def hear(name: str, module: nn.Module) -> None:
            module.register_forward_hook(lambda m, given, made: seen.__setitem__(name, (given[0], made)))

        block, decoder = trainer.model.blocks[0], trainer.model.im_decoder
        for name, module in (
            ("qkv", block.attn.qkv), ("fc2", block.mlp.fc2), ("conv", decoder.conv_in),
            ("critic", trainer.critic.layers[1][0]), ("recogniser", trainer.view.recogniser.recogniser.conv1),
        ):  # fmt: skip
            hear(name, module)
        for number in range(2):
            trainer.step(number, rungs.LATE)
        types = {name: made.dtype for name, (_, made) in seen.items()}
        assert types == {
            "qkv": torch.float32, "fc2": torch.float32,
            "conv": torch.float16, "critic": torch.float16, "recogniser": torch.float16,
        }  # fmt: skip
        for name in ("conv", "critic", "recogniser"):
            assert seen[name][0].is_contiguous(), name  # NCHW
        # No step was skipped: the scale is what it began with, and both optimisers counted two.
        assert trainer.scaler.get_scale() == 65536
        for optimizer in trainer.optimizers().values():
            assert {float(state["step"]) for state in optimizer.state.values()} == {2.0}


def test_a_skipped_step_moves_nothing() -> None:
    """A scale that overflows fp16, outside of anomaly mode: what a gradient scaler is for."""
    with rungs.opened(rungs.trainer_of(rungs.NAMED[LOOP], sized("tiny"), "cpu")) as trainer:
        assert isinstance(trainer, PublishedLoop)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
        before = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.update(trainer.batches(0), *trainer.set_rates(rungs.LATE))
        assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
        assert trainer.scaler.get_scale() == 2.0**39


def test_the_waste_is_there() -> None:
    """Weight gradients of the frozen recogniser, torch's own AdamW; the corrected rung has neither."""
    with rungs.opened(rungs.trainer_of(rungs.NAMED[PUBLISHED[0]], sized("tiny"), "cpu")) as trainer:
        trainer.step(0, rungs.LATE)
        recogniser = trainer.view.recogniser.recogniser
        assert all(p.grad is not None for p in recogniser.parameters())
    with rungs.opened(rungs.trainer_of(rungs.NAMED[rungs.ORACLE], sized("tiny"), "cpu")) as trainer:
        trainer.step(0, rungs.LATE)
        assert all(p.grad is None for p in trainer.view.recogniser.recogniser.parameters())


def test_kernels_and_shares_of_a_step() -> None:
    kernels = shares.step_profile("tiny", "cpu", 1)
    assert sum(kernel.share for kernel in kernels) == pytest.approx(1)
    assert [k.us for k in kernels] == sorted((k.us for k in kernels), reverse=True)
    named = {kernel.name: kernel for kernel in kernels}
    # 3 convolutions of the stem, 3 stages of two and 2 of the head, three times: the critic alone has 33.
    assert named["aten::convolution_backward"].launches > 33
    assert "others" in shares.kernel_table(kernels, 5)
    rows = shares.shares("tiny", "cpu", 1, rounds=1, budget_s=0.4)
    assert {"discriminator", "generator and optimiser"} <= {row.contender for row in rows}
    assert {row.case for row in rows} == {"tiny, batch 1"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError, match="Known: 1 as published"):
        rungs.run_rung("8", "tiny", "cpu")
    with pytest.raises(KeyError, match="Known: tiny, mini, base"):
        rungs.run_rung(rungs.ORACLE, "huge", "cpu")
    assert rungs.baseline("cuda:0") == LOOP
    assert rungs.baseline("cpu") == PUBLISHED[1]


def test_a_recognisers_rungs_run_and_agree() -> None:
    rows, notes = recogniser_rungs.run("tiny", "cpu", rounds=1, budget_s=1.0)
    assert [row.contender for row in rows] == [rung.name for rung in recogniser_rungs.RUNGS if not rung.gpu]
    assert all(row.passed and row.timing for row in rows), [row.check for row in rows]
    assert notes == ["recogniser rung 4 one CUDA graph: needs a GPU"]


def test_a_wrong_rung_of_a_recogniser_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = recogniser_rungs.Rung("3 bf16", {"scale": 60.0})
    monkeypatch.setattr(recogniser_rungs, "RUNGS", (wrong,))
    rows, _ = recogniser_rungs.run("tiny", "cpu", rounds=1, budget_s=1.0)
    assert [row.passed for row in rows] == [False]

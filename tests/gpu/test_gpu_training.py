"""On a GPU: the step as a CUDA graph trains as the eager step does, and neither waits for the device."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "train"))
from graph_replay import FAULTS, PROGRESS, Distances, Run, distances, excess, opened, run, wanted
from test_graphed_recogniser import WAYS
from test_graphed_recogniser import run as recogniser_steps
from test_graphed_recogniser import wanted as graphed_recogniser
from train_harness import people, settings, small_recogniser

from v2f_engine.train.generator import GeneratorTrainer
from v2f_engine.train.graphed import CudaRecorder, GraphedTrainer
from v2f_engine.train.graphed_recogniser import GraphedRecogniserTrainer
from v2f_engine.train.recogniser_step import RecogniserTrainer

pytestmark = pytest.mark.gpu

DEVICE = "cuda:0"


@pytest.fixture(scope="module", autouse=True)
def _exact() -> Iterator[None]:
    """fp32 that is fp32, by the same algorithms every time: what is left is the graph."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before


@pytest.fixture(scope="module")
def eager() -> Run:
    return run(opened(GeneratorTrainer, wanted(DEVICE)))


@pytest.fixture(scope="module")
def twins(eager: Run) -> list[Distances]:
    """How far eager steps are from eager steps: run again, and with every weight's last bit moved before each."""
    seeds = (None, 1, 2)
    return [distances(run(opened(GeneratorTrainer, wanted(DEVICE)), nudged=seed), eager) for seed in seeds]


def test_a_captured_step_trains_as_the_eager_one(eager: Run, twins: list[Distances]) -> None:
    """fp32, one optimiser for both, weights after every step; four graphs, each used twice, a new rate every step."""
    found = run(opened(GraphedTrainer, wanted(DEVICE)))
    for step, (over, name) in enumerate(excess(distances(found, eager), twins)):
        assert over <= 1, f"step {step}, {name}: {over:.2g} times what rounding explains"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_no_rounding(
    fault: str, eager: Run, twins: list[Distances], monkeypatch: pytest.MonkeyPatch
) -> None:
    inject, first = FAULTS[fault]
    inject(monkeypatch)
    found = run(opened(GraphedTrainer, wanted(DEVICE)))
    assert max(excess(distances(found, eager), twins)[first:])[0] > 1


@pytest.mark.parametrize("progress", [PROGRESS[1], PROGRESS[-1]], ids=["without critic", "with critic"])
def test_the_first_captured_step_in_bf16_has_the_eager_ones_terms(progress: float) -> None:
    """Later ones need not: in bf16 the last bit of the weights moves the gradient's norm by tens of percent."""
    terms = []
    for kind in (GeneratorTrainer, GraphedTrainer):
        trainer = opened(kind, wanted(DEVICE, bf16=True))
        terms.append({name: float(value) for name, value in trainer.step(0, progress)[0].items()})
        trainer.batches.close()
    assert terms[1] == pytest.approx(terms[0], rel=2e-3)


def test_a_recognisers_captured_step_trains_as_the_eager_one() -> None:
    """fp32, three recipes, another rate at every step. A capture adds nothing: what is left is the order of sums."""
    for name, way in WAYS.items():
        settings = graphed_recogniser(**{**way, "bf16": False, "device": DEVICE})
        eager, again = (recogniser_steps(RecogniserTrainer(people(), settings)) for _ in range(2))
        found = recogniser_steps(GraphedRecogniserTrainer(people(), settings))
        for number, (one, twin, graphed) in enumerate(zip(eager, again, found, strict=True)):
            for key, value in one.items():
                scale = float(value.double().abs().max()) + 1e-6
                apart, noise = (
                    float((other[key].double() - value.double()).abs().max()) for other in (graphed, twin)
                )
                assert apart <= max(8 * noise, 1e-4 * scale), f"{name}, step {number}, {key}: {apart:.2g}"


def test_memory_may_be_pinned_while_a_graph_is_captured() -> None:
    """As the thread that reads ahead does; in CUDA's default mode it would invalidate the capture."""
    stop, failed = threading.Event(), []

    def pin() -> None:
        size = 1 << 20
        while not stop.is_set():
            try:
                torch.empty(size, dtype=torch.uint8).pin_memory()
            except Exception as error:
                failed.append(error)
                return
            size += 1 << 16  # never one that is cached

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        x = torch.ones(1 << 20, device=DEVICE)
        for _ in range(20):
            replay, terms = CudaRecorder(DEVICE).record(lambda: {"x": (x * 2).sum()})
        replay()
        assert float(terms["x"]) == 2 << 20
    finally:
        stop.set()
        thread.join()
    assert not failed


def test_a_step_does_not_wait_for_the_device() -> None:
    own = dataclasses.replace(settings(Path("unused"), batch=4), device=DEVICE, shift=0)
    trainer = GeneratorTrainer(people(), small_recogniser(), own)
    for number in range(3):
        trainer.step(number, 0.9)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(3, 0.9)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        trainer.batches.close()

"""Choosing without a card: what is decided, kept, refused, left out and written. Times here are made up by the test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from v2f_kernels import _tuned

from bench import protocol
from bench.kernels import choose, tune
from bench.kernels.cases import group_norm_silu
from bench.kernels.choose import verdict
from bench.kernels.contest import DeviceLost
from bench.kernels.device_table import DeviceTable, forget
from bench.kernels.network_calls import Item, items
from v2f_engine.models.vec2face import Vec2FaceConfig

MEASURED = {
    "capability": 90, "ptxas": "12", "triton": "3", "torch": "2", "date": "2027-01-01", "commit": "abc", "source": "s",
}  # fmt: skip


def item(op: str, shape: str, *, gradients: bool = False) -> Item:
    case = group_norm_silu(1, 32, 7)
    return Item(op, shape, "bf16" if gradients else "fp16", gradients, ((case, 2),), (case,), 1.0)


NORM, CONV = item("group_norm_silu", "C=512 HW=7"), item("conv3x3", "C=512 O=512 HW=7")
WORK = [CONV, NORM]


class Bench:
    """Runs `choose.run` with made-up times and keeps what it said."""

    def __init__(
        self, folder: Path, times: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder, self.times, self.now = folder, times, 0.0
        self.cost, self.wrong = 1.0, set[tuple[str, str]]()
        self.rows: list[protocol.Row] = []
        self.notes: list[str] = []
        self.begun: list[str] = []
        monkeypatch.setattr(choose, "contenders", lambda item, device: ({"torch": len, "triton": len}, []))

    def seconds(self, item: Item, functions: Any, device: str) -> dict[str, float]:
        self.now += self.cost
        return {name: self.times[item.op][name] for name in functions}

    def judge(self, item: Item, name: str, function: Any, device: str) -> tuple[bool, str]:
        return ((item.op, name) not in self.wrong, "made up")

    def run(self, budget: float = 100.0, **options: Any) -> dict[str, Any]:
        path = choose.run(
            "cpu", budget, self.rows.append, note=self.notes.append, begin=self.begun.append, folder=self.folder,
            **{"work": WORK, "seconds": self.seconds, "judge": self.judge, "clock": lambda: self.now, **options},
        )  # fmt: skip
        return self.written(path)

    def written(self, path: Path) -> dict[str, Any]:
        root = json.loads(path.read_text())
        return {op: {k: e["use"] for k, e in kinds["backend"].items()} for op, kinds in root["ops"].items()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    shutil.copy(_tuned.TUNED / "default.json", tmp_path)

    def made(**times: dict[str, float]) -> Bench:
        return Bench(tmp_path, times, monkeypatch)

    yield made
    forget()


def test_the_faster_is_written_with_both_numbers(bench: Callable[..., Bench]) -> None:
    b = bench(
        group_norm_silu={"torch": 0.45e-6, "triton": 0.65e-6}, conv3x3={"torch": 0.33e-6, "triton": 0.77e-6}
    )
    assert b.run() == {
        "conv3x3": {"C=512 O=512 HW=7, fp16": "torch"},
        "group_norm_silu": {"C=512 HW=7, fp16": "torch"},
    }
    table = _tuned.tables(b.folder)["rehearsal"]
    why = table.backends["group_norm_silu"]["C=512 HW=7, fp16"].why
    assert why.startswith("torch 0.45 us an image, triton 0.65 [")
    assert table.measured["commit"] in why
    assert any(
        note.startswith("group_norm_silu C=512 HW=7, fp16: torch instead of triton") for note in b.notes
    )
    assert {(row.case, row.contender) for row in b.rows} == {
        (i.label, n) for i in WORK for n in ("torch", "triton")
    }


@pytest.mark.parametrize(
    ("gain", "use"), [(1.02, "triton"), (1.029, "triton"), (1.031, "torch"), (0.5, "triton")]
)
def test_what_ran_before_stays_unless_another_is_three_percent_faster(
    bench: Callable[..., Bench], gain: float, use: str
) -> None:
    b = bench(group_norm_silu={"torch": 1e-6, "triton": gain * 1e-6})  # the default's is triton
    assert b.run(work=[NORM])["group_norm_silu"]["C=512 HW=7, fp16"] == use


def test_the_next_run_starts_from_what_this_one_wrote(bench: Callable[..., Bench]) -> None:
    b = bench(group_norm_silu={"torch": 1e-6, "triton": 2e-6})
    b.run(work=[NORM])
    b.times["group_norm_silu"] = {"torch": 1.02e-6, "triton": 1e-6}
    assert b.run(work=[NORM])["group_norm_silu"]["C=512 HW=7, fp16"] == "torch"  # a hair: it stays
    b.times["group_norm_silu"] = {"torch": 1.05e-6, "triton": 1e-6}
    assert b.run(work=[NORM])["group_norm_silu"]["C=512 HW=7, fp16"] == "triton"


def test_verdict_says_why_nothing_changes() -> None:
    assert verdict({"torch": 1e-6, "triton": 1.02e-6}, "triton") == (
        "triton",
        "triton 1.02 us an image, torch 1.00; under 3 % apart, so nothing changes",
    )
    assert verdict({"torch": 1e-6}, "triton") == ("torch", "torch 1.00 us an image, no other sound")


def test_what_its_reference_refuses_is_neither_timed_nor_chosen(bench: Callable[..., Bench]) -> None:
    b = bench(group_norm_silu={"triton": 1e-6}, conv3x3={})  # a time for a refused one would be a KeyError
    b.wrong = {("group_norm_silu", "torch"), ("conv3x3", "torch"), ("conv3x3", "triton")}
    assert b.run() == {"group_norm_silu": {"C=512 HW=7, fp16": "triton"}}
    assert [row.contender for row in b.rows if not row.passed] == ["torch", "triton", "torch"]
    assert all(row.timing is None for row in b.rows if not row.passed)
    assert "nothing sound: conv3x3 C=512 O=512 HW=7, fp16 stays with torch" in b.notes


def test_time_that_is_up_leaves_the_rest_named_and_as_it_was(bench: Callable[..., Bench]) -> None:
    b = bench(group_norm_silu={"torch": 1e-6, "triton": 2e-6}, conv3x3={"torch": 1e-6, "triton": 2e-6})
    DeviceTable("rehearsal", MEASURED, b.folder).backend(NORM.op, NORM.key, "triton", "earlier")
    b.cost = 10.0
    written = b.run(budget=10.0)
    assert written == {CONV.op: {CONV.key: "torch"}, NORM.op: {NORM.key: "triton"}}
    assert f"out of time: not decided, its entry stays: {NORM.label}" in b.notes
    assert b.begun == [CONV.label]
    why = _tuned.tables(b.folder)["rehearsal"].backends[NORM.op][NORM.key].why
    assert why == "earlier [2027-01-01, abc]"  # it keeps the date and commit of its own measurement


def test_each_decision_is_on_the_disk_before_the_next_begins(bench: Callable[..., Bench]) -> None:
    """The second item kills the process; the first one's entry, and its rows, are there."""
    b = bench(conv3x3={"torch": 2e-6, "triton": 3e-6})

    def dies(item: Item, functions: Any, device: str) -> dict[str, float]:
        if item is NORM:
            raise KeyboardInterrupt
        return b.seconds(item, functions, device)

    with pytest.raises(KeyboardInterrupt):
        b.run(seconds=dies)
    assert b.written(b.folder / "rehearsal.json") == {CONV.op: {CONV.key: "torch"}}
    assert len(b.rows) == 2
    again = bench(group_norm_silu={"torch": 1e-6, "triton": 2e-6}, conv3x3={})
    begun = {CONV.label, NORM.label}
    assert again.run(begun=begun, work=WORK) == {CONV.op: {CONV.key: "torch"}}
    assert f"decided by an earlier process: {CONV.label}" in again.notes
    assert f"left out, it ended an earlier process: {NORM.label}" in again.notes


def test_a_candidate_that_wins_is_named_and_not_chosen(bench: Callable[..., Bench]) -> None:
    b = bench(conv3x3={"torch": 2e-6, "triton": 1e-6})
    assert b.run(work=[CONV]) == {CONV.op: {CONV.key: "torch"}}
    assert any(
        note.startswith(f"{CONV.label}: triton wins and is a candidate: triton 1.00 us an image, torch 2.00")
        and "move bench/candidates/conv3x3/ to kernels/v2f_kernels/" in note
        for note in b.notes
    )


def test_training_and_generation_are_decided_apart(bench: Callable[..., Bench]) -> None:
    b = bench(group_norm_silu={"torch": 1e-6, "triton": 2e-6})
    written = b.run(work=[NORM, item("group_norm_silu", "C=512 HW=7", gradients=True)])
    assert set(written["group_norm_silu"]) == {"C=512 HW=7, fp16", "C=512 HW=7, bf16, gradients"}


def test_launches_are_searched_near_the_best_and_judged_by_both_uses(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far from the best nothing is searched; what is found is written and the backends are timed again with it."""
    b = bench(group_norm_silu={"torch": 1e-6, "triton": 1.2e-6}, conv3x3={"torch": 1e-6, "triton": 1.6e-6})
    found = {"num_warps": 8, "num_stages": 1, "CHANNELS": 32}
    asked: list[str] = []

    def tuned(work: tune.Work, *rest: Any, budget_s: float) -> tune.Tuned:
        asked.append(f"{work.op}/{work.key}")
        b.times["group_norm_silu"]["triton"] = 0.9e-6
        return tune.Tuned(work.op, work.key, found, work.start, 1.3, ["log"])

    key = "single_pass/P=64"
    start = {"num_warps": 2, "num_stages": 1, "CHANNELS": 32}
    monkeypatch.setattr(tune, "compile_gate", lambda capability: lambda *_: [])
    monkeypatch.setattr(tune, "tune", tuned)
    monkeypatch.setattr(choose, "works_of", lambda *_: [tune.Work("group_norm_silu", key, dict(start))])
    state = choose.Choosing(
        "cpu", DeviceTable("rehearsal", MEASURED, b.folder), 100.0, b.rows.append, b.notes.append,
        b.begun.append, (), b.seconds, b.judge, lambda: b.now,
    )  # fmt: skip
    for one in WORK:
        choose.decide(state, one)
    assert _tuned.tables(b.folder)["rehearsal"].backends[NORM.op][NORM.key].use == "torch"
    choose._search(state, WORK)
    assert asked == [f"group_norm_silu/{key}"]  # conv3x3 is 1.6 times the best: left alone
    table = _tuned.tables(b.folder)["rehearsal"]
    assert table.launch["group_norm_silu"][key] == found
    assert table.backends[NORM.op][NORM.key].use == "triton"


def test_a_key_is_timed_on_its_use_and_judged_on_the_other_too(monkeypatch: pytest.MonkeyPatch) -> None:
    training = item("group_norm_silu", "C=512 HW=7", gradients=True)

    def works(folder: str, cases: Any, device: str, dtypes: Any, form: str) -> list[tune.Work]:
        runs = [(case, tune.ops.run_forward, dtypes[0]) for case in cases]
        return [tune.Work(folder, "apply", {}, runs, form=form)]

    monkeypatch.setattr(tune, "work_of", works)
    (work,) = choose.works_of(NORM, [CONV, NORM, training], "cpu")
    assert (work.op, work.key) == ("group_norm_silu", "apply")
    assert [str(dtype) for _, _, dtype in work.runs] == ["torch.float16"]
    assert [str(dtype) for _, _, dtype in work.also] == ["torch.bfloat16"]
    (flat,) = choose.works_of(CONV, [CONV, NORM], "cpu", "triton_flat")
    assert (flat.op, flat.form) == (
        "conv3x3_flat",
        "triton_flat",
    )  # its launches stand under its folder's name


def test_the_work_is_the_networks_own_most_valuable_first() -> None:
    base = items(Vec2FaceConfig.base(), dtype="fp16", gradients=False)
    assert [i.seconds for i in base] == sorted((i.seconds for i in base), reverse=True)
    by_label = {i.label: i for i in base}
    norm = by_label["group_norm_silu C=512 HW=7, fp16"]
    assert norm.calls == 8  # middle and level 4: four blocks of two norms
    conv = by_label["conv3x3 C=512 O=256 HW=14, fp16"]
    assert [case.name for case, _ in conv.cases] == ["B64 C512 to 256 14x14"]
    assert by_label["layer_norm D=768, fp16"].calls == 42  # as the H200's profile counted
    assert by_label["attention N<=64 d=64, fp16"].calls + by_label["attention N<=64 d=48, fp16"].calls == 20
    assert not any(case.gradients for i in base for case, _ in i.cases)
    training = items(Vec2FaceConfig.base(), dtype="bf16", gradients=True)
    assert all(case.gradients for i in training for case, _ in i.cases)
    assert {i.op for i in training} == {i.op for i in base} - {"to_uint8", "upsample_conv3x3_folded"} | {
        "upsample_conv3x3",
        "group_norm_leaky",  # the discriminator's
        "multi_scale_stem",
        "batch_norm_prelu",  # of a recogniser in training
        "bias_prelu",  # the frozen recogniser's
        "bias_residual",
        "unit_distance",
    }
    ends = {i.label: i for i in training}["bias_residual C=256 HW=14, bf16, gradients"]
    assert ends.calls == 60  # thirty blocks, of generated and of real images
    norms = {i.label: i for i in training}["group_norm_leaky C=256 HW=28, bf16, gradients"]
    assert [case.gradients[3:] for case, _ in norms.cases] == [("shift",), ()]  # a stage's and a block's


def test_rehearsal_really_judges_and_times(tmp_path: Path) -> None:
    """The whole way on a CPU, without anything made up, for one op of the small network."""
    shutil.copy(_tuned.TUNED / "default.json", tmp_path)
    rows: list[protocol.Row] = []
    try:
        path = choose.run(
            "cpu", 60.0, rows.append, note=lambda _: None, folder=tmp_path, only=("attention", "layer_norm")
        )
        root = json.loads(path.read_text())
    finally:
        forget()
    assert set(root["ops"]) == {"attention", "layer_norm"}
    assert "NOT a measurement" in root["measured"]["source"]
    assert all(row.passed and row.timing is not None for row in rows), [row.check for row in rows]
    assert {row.contender for row in rows} == {"torch", "reference", "torch_products"}


def test_a_wrong_backend_is_refused_by_the_real_judge() -> None:
    (norm, *_) = (i for i in choose.work_of(rehearsal=True) if i.op == "layer_norm" and not i.gradients)
    good = _tuned.op_named("layer_norm").backend("torch")
    assert choose.judged(norm, "torch", good, "cpu")[0]

    def off(*args: Any, **named: Any) -> Any:
        made, total = good(*args, **named)
        return made * 1.001, total

    passed, words = choose.judged(norm, "off", off, "cpu")
    assert not passed
    assert "rms error" in words


def test_without_a_gpu_nothing_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("about machines without a GPU")
    assert choose.main([]) == 2
    assert "nothing was timed" in capsys.readouterr().out


def test_a_contender_that_cannot_be_timed_costs_the_others_nothing(bench: Callable[..., Bench]) -> None:
    """Right when judged, it may still be refused where it is timed: by memory, or by a launch between its norms."""
    b = bench(conv3x3={"torch": 2e-6, "triton": 1e-6}, group_norm_silu={"torch": 2e-6, "triton": 1e-6})
    seconds = b.seconds

    def refused(item: Item, functions: Any, device: str) -> dict[str, float]:
        if item.op == "conv3x3" and "triton" in functions:
            raise RuntimeError("CUDA out of memory, made up")
        return seconds(item, functions, device)

    decided = b.run(seconds=refused)
    assert decided["conv3x3"] == {"C=512 O=512 HW=7, fp16": "torch"}
    assert decided["group_norm_silu"] == {"C=512 HW=7, fp16": "triton"}
    told = [(row.case, row.contender) for row in b.rows if not row.passed]
    assert told == [(f"{CONV.label}, timing", "triton")]


def test_a_lost_device_ends_the_contest_where_it_is_timed(bench: Callable[..., Bench]) -> None:
    def lost(item: Item, functions: Any, device: str) -> dict[str, float]:
        raise DeviceLost("made up")

    with pytest.raises(DeviceLost):
        bench(conv3x3={"torch": 1e-6}).run(seconds=lost)

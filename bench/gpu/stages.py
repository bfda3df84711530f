"""The jobs: which a run has, and what each should take.

Seconds were predicted from the first run on a card (H200, 16 cores, 2026-11-27: one process a test file 27 to 124 s, a
ladder rung about as long as its imports), less the imports that forked jobs do not repeat. Each run records what its
jobs took beside what was predicted, so the next table can be better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.generation import ladder, rungs
from bench.gpu import inference
from bench.gpu.job import Job
from bench.kernels.cases import cases

TEST_SECONDS = {
    "test_gpu_decoder.py": 124.0,
    "test_gpu_transformer.py": 200.0,
    "test_gpu_reject.py": 57.0,
    "test_gpu_fp8.py": 36.0,
    "test_gpu_training.py": 38.0,
    "test_cuda_graph.py": 27.0,
    "test_gpu_steering.py": 20.0,
    "test_gpu_launches.py": 900.0,  # not measured on a card: 636 configurations at 1.2 s of a CPU core, 24 processes
}
"""Seconds of a file in one process."""
OTHER_TEST_SECONDS, SHARD_S = 60.0, 36.0
"""Of a file that the table does not know; and of a shard."""
SWEEP = "test_gpu_launches.py"
"""Every launch in reach: a stage of its own behind what a run is made for, since a contest judges what it times."""
CHOICE_S, LAUNCHES_S = 110.0, 20.0
"""Of the backends by shape, at most; and what the search for launches, which takes what is left, is begun with."""


@dataclass(frozen=True)
class Stage:
    """A part of the plan.

    Args:
        name: for `--only`.
        answers: the question it answers.
        jobs: what it consists of, for a rehearsal or not; and notes on what needs a GPU.
    """

    name: str
    answers: str
    jobs: Callable[[bool], tuple[list[Job], list[str]]]


def _job(stage: str, what: str, work: str, predicted_s: float, **more: Any) -> Job:
    timeout = more.pop("timeout_s", max(40.0, 3 * predicted_s))
    return Job(f"{stage}/{what}", stage, work, predicted_s=predicted_s, timeout_s=timeout, **more)


def test_jobs(paths: Iterable[Path], stage: str) -> list[Job]:
    """Each file in shards of about `SHARD_S`, if pytest is there."""
    found = []
    for path in paths:
        seconds = TEST_SECONDS.get(path.name, OTHER_TEST_SECONDS)
        shards = max(1, round(seconds / SHARD_S))
        found += [
            _job(
                stage, f"{path.stem} {shard + 1}/{shards}", "correctness:tests", seconds / shards + 6,
                arguments={"path": str(path.relative_to(ROOT)), "shard": shard, "of": shards},
                timeout_s=150.0, alone=False, attempts=4, threads=8 if "reject" in path.name else 0,
            )
            for shard in range(shards)
        ]  # fmt: skip
    return found


def correct(rehearsal: bool) -> tuple[list[Job], list[str]]:
    stage = "correctness"
    warmed = [inference.chosen_rung(rehearsal).name]
    if not rehearsal:
        warmed += [r.name for r in rungs.RUNGS if r.name.startswith(("9 ", "10 ", "15 ", "17 "))]
    found = [_job(stage, "oracle of the ladder", "inference:oracle", 15.0, alone=False)]
    found += [
        _job(stage, f"compile rung {name}", "inference:warm", 45.0, arguments={"rung": name}, alone=False)
        for name in warmed
    ]
    found.append(_job(stage, "compile 8-bit convolutions", "others:eight_bit", 45.0, arguments={"warm": True},
                      alone=False))  # fmt: skip
    found.append(_job(stage, "compile a training step", "training:warm", 45.0, alone=False))
    names = dict.fromkeys(case.op for case in cases("tiny" if rehearsal else "real"))
    found += [
        _job(stage, op, "correctness:op", 20.0, arguments={"name": op}, timeout_s=150.0, alone=False, attempts=4)
        for op in names
    ]  # fmt: skip
    files = sorted(f for f in (ROOT / "tests" / "gpu").glob("test_*.py") if f.name != SWEEP)
    notes = []
    if not find_spec("pytest"):
        notes.append("tests/gpu: pytest is not installed here; every op is judged without it")
    elif rehearsal:  # skipped there, but by the same way
        found += test_jobs([f for f in files if f.name == "test_gpu_steering.py"], stage)
    else:
        found += sorted(test_jobs(files, stage), key=lambda job: -job.predicted_s)
    return found, notes


def sweep(rehearsal: bool) -> tuple[list[Job], list[str]]:
    if rehearsal or not find_spec("pytest"):
        return [], [f"{SWEEP}: {'needs a GPU' if rehearsal else 'pytest is not installed here'}"]
    return test_jobs([ROOT / "tests" / "gpu" / SWEEP], "launches"), []


def ceilings(rehearsal: bool) -> tuple[list[Job], list[str]]:
    return [_job("ceilings", "copy and product", "inference:ceilings", 6.0)], []


LADDER_ORDER = ("8 ", "1 ", "7 ", "15 ", "16 ", "17 ", "2 ", "3 ", "4 ", "5 ", "6 ", "10 ", "9 ", "4b")
"""The most telling rungs first."""
ENDS = 6
"""So many of them are measured before the choice; the steps between them when the rest is done."""


def climb(rehearsal: bool) -> tuple[list[Job], list[str]]:
    names = _ordered()
    able, notes = _able(names if rehearsal else names[:ENDS], rehearsal)
    return [_rung_job("ladder", name, rehearsal) for name in able], notes


def steps_between(rehearsal: bool) -> tuple[list[Job], list[str]]:
    able, notes = _able([] if rehearsal else _ordered()[ENDS:], rehearsal)
    return [_rung_job("steps", name, rehearsal) for name in able], notes


def _ordered() -> list[str]:
    names = [rungs.BASELINE, *(rung.name for rung in rungs.RUNGS)]
    return sorted(
        names, key=lambda name: next(i for i, start in enumerate(LADDER_ORDER) if name.startswith(start))
    )


def _rung_job(stage: str, name: str, rehearsal: bool, remark: str = "") -> Job:
    case = f"batch {2 if rehearsal else inference.ROWS}{remark}"
    return _job(
        stage, f"{name}{remark}", "inference:rung", 11.0 if name == rungs.BASELINE else 6.0,
        arguments={"name": name, "remark": remark}, blame=(ladder.SECTION, case, name),
    )  # fmt: skip


def engines(rehearsal: bool) -> tuple[list[Job], list[str]]:
    from v2f_engine.runtime.tensorrt import FLAVOURS

    libraries = [flavour.module for flavour in FLAVOURS.values()]
    if rehearsal or not any(find_spec(module) for module in libraries):
        why = "needs a GPU" if rehearsal else "not installed here"
        return [], [f"rungs 11 and 12, {' and '.join(libraries)}: {why}"]
    return [_job("engines", "TensorRT", "inference:engines", 60.0, timeout_s=120.0)], []


def _able(names: Iterable[str], rehearsal: bool) -> tuple[list[str], list[str]]:
    needing = {rung.name for rung in (*rungs.RUNGS, *rungs.COMPILED) if rehearsal and rung.needs_gpu}
    return [n for n in names if n not in needing], [f"rung {n}: needs a GPU" for n in names if n in needing]


def profile(rehearsal: bool) -> tuple[list[Job], list[str]]:
    return [_job("profile", "generation", "inference:kernels", 10.0)], []


TRAINED = (
    ("6 ", 128), ("2b", 128), ("6 ", 32), ("2b", 32), ("5 ", 128),
)  # fmt: skip
"""(rung, batch), the most telling first."""


def training(rehearsal: bool) -> tuple[list[Job], list[str]]:
    from bench.training.rungs import RUNGS

    stage, size = "training", "tiny" if rehearsal else "base"
    wanted = (("2 ", 2), ("4 ", 2), ("5 ", 2)) if rehearsal else TRAINED
    seconds = 12.0
    found, seen = [], set[int]()
    for start, batch in wanted:
        name = next(rung.name for rung in RUNGS if rung.name.startswith(start))
        if batch not in seen:
            seen.add(batch)
            found.append(_job(stage, f"fp32 losses, batch {batch}", "training:oracle", 9.0,
                              arguments={"batch": batch}))  # fmt: skip
        found.append(
            _job(stage, f"{name}, batch {batch}", "training:rung", seconds, arguments={"name": name, "batch": batch},
                 blame=("training step", f"{size}, batch {batch}", name), timeout_s=60.0)
        )  # fmt: skip
    largest = max(seen)
    # First the quickest rung beside the published one at the largest batch, then what its time goes into.
    found[3:3] = [
        _job(stage, "kernels of a step", "training:kernels", 18.0, arguments={"batch": largest}),
        _job(stage, "a recogniser's step", "training:recogniser", 25.0, timeout_s=60.0),
    ]
    found.append(_job(stage, "shares of a step", "training:shares", 32.0, arguments={"batch": largest}))
    notes = [f"training rung {r.name}: needs a GPU" for r in RUNGS if r.gpu and rehearsal]
    return found, notes


def rejection(rehearsal: bool) -> tuple[list[Job], list[str]]:
    stage = "rejection"
    return [
        _job(stage, "equal to the CPU", "others:rejection_check", 8.0, timeout_s=60.0),
        _job(stage, "1 M", "others:rejection", 8.0, arguments={"n": 1_000_000, "rounds": 3}),
    ], []


def sizes(rehearsal: bool) -> tuple[list[Job], list[str]]:
    images = 4 if rehearsal else 51_200
    return [
        _job("sizes", "host and null writer", "inference:host", 20.0, arguments={"images": images}),
    ], []


def other_sizes(rehearsal: bool) -> tuple[list[Job], list[str]]:
    batches = [1, 2] if rehearsal else [512, 64, 128, 384, 256]
    return [_job("batches", "batch sizes", "inference:sizes", 18.0, arguments={"batches": batches})], []


def choice(rehearsal: bool) -> tuple[list[Job], list[str]]:
    stage, after = "choice", ", after the choice"
    chosen = inference.chosen_rung(rehearsal).name
    return [
        _job(stage, "backends by shape", "others:choice", CHOICE_S, timeout_s=CHOICE_S + 60.0, attempts=4,
             arguments={"seconds": CHOICE_S, "search": False}),
        _rung_job(stage, chosen, rehearsal, after),
        _job(stage, "upper levels in chunks", "inference:chunks", 20.0, timeout_s=60.0),
        _job(stage, "8-bit convolutions", "others:eight_bit", 25.0, timeout_s=75.0),
    ], []  # fmt: skip


def launch_search(rehearsal: bool) -> tuple[list[Job], list[str]]:
    if rehearsal:
        return [], []
    return [
        _job("search", "launches by shape", "others:choice", LAUNCHES_S, timeout_s=900.0, attempts=4,
             arguments={"seconds": 900.0, "search": True, "after": "choice/backends by shape"})
    ], []  # fmt: skip


def op_times(rehearsal: bool) -> tuple[list[Job], list[str]]:
    names = dict.fromkeys(case.op for case in cases("tiny" if rehearsal else "real"))
    return [
        _job("kernels", op, "others:op_times", 15.0, arguments={"name": op}, timeout_s=60.0) for op in names
    ], []


def steady_state(rehearsal: bool) -> tuple[list[Job], list[str]]:
    seconds = 0.1 if rehearsal else 60.0
    return [
        _job("steady", "a minute", "inference:steady_state", 100.0, arguments={"seconds": seconds})
    ], []  # fmt: skip


def compiled(rehearsal: bool) -> tuple[list[Job], list[str]]:
    case = f"batch {2 if rehearsal else inference.ROWS}"
    able, notes = _able(inference.COMPILED, rehearsal)
    return [
        _job("compiled", name, "inference:rung", 200.0, arguments={"name": name}, timeout_s=400.0,
             blame=(ladder.SECTION, case, name))
        for name in able
    ], notes  # fmt: skip


STAGES = (
    Stage("correctness", "are the kernels right on this card", correct),
    Stage("ceilings", "what does the card do at best", ceilings),
    Stage("ladder", "from the published way to what the table chooses, end to end", climb),
    Stage("choice", "which backend suits each shape, and what that brings end to end", choice),
    Stage("profile", "where does an image's device time go", profile),
    Stage("sizes", "bytes on the host, and encoded into nowhere", sizes),
    Stage("rejection", "how long does keeping a million apart take", rejection),
    Stage("training", "the training step by rungs, parts and kernels", training),
    Stage("batches", "other batch sizes", other_sizes),
    Stage("launches", "is every kernel right under every launch in reach", sweep),
    Stage("steps", "what does each change bring, end to end", steps_between),
    Stage("engines", "the generator as a TensorRT engine", engines),
    Stage("search", "which launch suits each shape", launch_search),
)
LONGER = (
    Stage("kernels", "each op beside torch's alternatives", op_times),
    Stage("steady", "the rate held for a minute, energy of an image", steady_state),
    Stage("compiled", "the whole network under torch.compile", compiled),
)
"""Only when `--only` names them."""
NAMED = {stage.name: stage for stage in (*STAGES, *LONGER)}

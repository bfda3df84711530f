"""Which backend runs each op at each shape of the network, and how it is launched: measured, and written as a table.

    python -m bench.kernels.choose                on a GPU; writes v2f_kernels/tuned/<device>.json
    python -m bench.kernels.choose --budget 60 --op attention
    python -m bench.kernels.choose --rehearse     the same code on a CPU, a small network; writes to a scratch folder

The work is every (op, shape class, dtype) that base size calls (`network_calls.py`), in generation (fp16) and in
training (bf16, forward and backward), most valuable first. Twice through: first every admissible backend as it is
launched now, then, while seconds are left, Triton's launch configurations where Triton is within `REACH` of the best
(`tune.py`: compile gate, oracle, clock), and the backends again. A contender is judged against the op's reference
before it is timed, and rounds are interleaved. Convolutions of generation are timed with what each contender leaves to
the norms around it and another does itself (`around.py`). What ran before stays unless another is `GAIN` faster. Every
decision is on the disk before the next one; what time did not reach is named and keeps its entry.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from v2f_kernels import _tuned
from v2f_kernels._shapes import shape_class

from bench import protocol
from bench.kernels import tune
from bench.kernels.contest import DeviceLost, Functions, contenders, judged, still_there, timed
from bench.kernels.device_table import DeviceTable, measurement
from bench.kernels.network_calls import DTYPES, Item, items
from v2f_engine.backends import choose
from v2f_engine.machine import Machine
from v2f_engine.models.vec2face import Vec2FaceConfig

GAIN = tune.GAIN
REACH = 1.5
"""Launches are searched where Triton needs at most so many times the best: a search found 1.3x at most anywhere."""
FORMS = ("triton", "triton_flat")
"""Backends whose launches are searched."""
SECTION = "choice of backends"
Seconds = Callable[[Item, Functions, str], dict[str, float]]
"""(item, backend -> function, device) -> backend -> seconds an image of one call, the mean over the network's calls."""
Judge = Callable[[Item, str, Callable[..., Any], str], tuple[bool, str]]
"""(item, backend, function, device) -> (passed, in words)."""


@dataclass
class Choosing:
    """One run over the work; the parts that need a card can be given by a test."""

    device: str
    table: DeviceTable
    end: float
    tell: Callable[[protocol.Row], None]
    note: Callable[[str], None]
    begin: Callable[[str], None]
    begun: Container[str]
    seconds: Seconds | None
    judge: Judge
    clock: Callable[[], float]
    found: dict[str, dict[str, float]] = field(default_factory=dict)

    def times(self, item: Item, functions: Functions) -> dict[str, float]:
        """Backend -> seconds an image of one call, of functions that were judged sound."""
        if not functions:
            return {}
        if self.seconds is not None:
            return self.seconds(item, functions, self.device)
        return timed(item, functions, self.device, partial(self.norm, item))

    def late(self, what: str) -> bool:
        """Whether time is up; says what is left out."""
        if self.clock() < self.end:
            return False
        self.note(f"out of time: not decided, its entry stays: {what}")
        return True

    def current(self, item: Item) -> str:
        """What the tables on the disk choose for an item."""
        return self.chosen(item, item.op, item.shape)

    def norm(self, item: Item, channels: int, side: int) -> Callable[..., Any]:
        """What they choose for a norm beside an item; plain torch in a rehearsal."""
        shape = shape_class("group_norm_silu", C=channels, HW=side)
        use = "torch" if self.device == "cpu" else self.chosen(item, "group_norm_silu", shape)
        return _tuned.op_named("group_norm_silu").backend(use)

    def chosen(self, item: Item, op: str, shape: str) -> str:
        """What they choose for an op at a shape, in an item's dtype and use."""
        name = self.table.device
        machine = Machine(1, frozenset(), has_triton=True, gpus=(name,))
        known = _tuned.tables(self.table.folder)
        picked = choose("cuda:0", item.dtype, gradients=item.gradients, machine=machine, known=known)
        return picked.backend_of(op, shape)


def run(
    device: str,
    budget_s: float,
    tell: Callable[[protocol.Row], None],
    *,
    note: Callable[[str], None] = print,
    begin: Callable[[str], None] = lambda label: None,
    begun: Container[str] = (),
    folder: Path | None = None,
    only: Container[str] | None = None,
    work: Iterable[Item] | None = None,
    seconds: Seconds | None = None,
    judge: Judge | None = None,
    clock: Callable[[], float] = time.perf_counter,
    search: bool = True,
) -> Path:
    """Measures, decides and writes; the file of the device's table.

    Args:
        device: a CUDA device; `cpu` rehearses on a small network.
        budget_s: seconds for all of it; the step that is running when they end is finished.
        tell: hears a row for every contender, as soon as it is known.
        note: hears every decision and whatever was left out.
        begin, begun: labels that a process began before it died are not tried again.
        folder: of the tables; the package's own by default, a scratch copy in a rehearsal.
        only: ops; all by default.
        work: items in order; those of base size by default.
        seconds, judge, clock: by default the clock of `bench.protocol` and the judge of `bench.kernels.ops`.
        search: whether launch configurations are searched.

    Raises:
        DeviceLost: the CUDA context is lost. All decisions made are written.
        TunedTableError: a table on the disk cannot be used.
    """
    rehearsal = device == "cpu"
    if folder is None:
        folder = _scratch() if rehearsal else _tuned.TUNED
    name = "rehearsal" if rehearsal else torch.cuda.get_device_name(torch.device(device))
    source = "bench/kernels/choose.py" + (" on a CPU: NOT a measurement" if rehearsal else "")
    table = DeviceTable(name, measurement(device, source), folder)
    todo = [i for i in (work_of(rehearsal) if work is None else work) if only is None or i.op in only]
    state = Choosing(
        device, table, clock() + budget_s, tell, note, begin, begun, seconds, judge or judged, clock
    )
    for item in todo:
        if not state.late(item.label):
            decide(state, item)
    if search and not rehearsal:
        _search(state, todo)
    return table.path


def work_of(rehearsal: bool) -> list[Item]:
    """Generation in fp16, then training in bf16, of base size; a small network in fp32 in a rehearsal."""
    if not rehearsal:
        base = Vec2FaceConfig.base()
        return [*items(base, dtype="fp16", gradients=False), *items(base, dtype="bf16", gradients=True)]
    small = Vec2FaceConfig(
        width=64, encoder_blocks=1, encoder_heads=1, decoder_blocks=1, decoder_heads=2, z_channels=16,
        base_channels=16, multipliers=(1, 1, 1, 1, 2), residual_blocks=1, norm_groups=4,
    )  # fmt: skip
    return [
        item
        for gradients in (False, True)
        for item in items(small, dtype="fp32", gradients=gradients, image_rows=1, token_rows=2)
    ]


def decide(state: Choosing, item: Item, remark: str = "") -> None:
    """Judges and times every backend of an item and writes which one runs it."""
    label = f"{item.label}, {remark}" if remark else item.label
    if label in state.begun:
        decided = state.table.decided_now(item.op, item.key)
        state.note(f"{'decided by' if decided else 'left out, it ended'} an earlier process: {label}")
        if decided == "triton":  # its numbers went with that process: its launches may be searched
            state.found[item.label] = {"triton": 1.0}
        return
    state.begin(label)
    functions, missing = contenders(item, state.device)
    for words in missing:
        state.note(words)
    verdicts = {name: state.judge(item, name, f, state.device) for name, f in functions.items()}
    sound = {name: functions[name] for name, (passed, _) in verdicts.items() if passed}
    times = _times(state, item, label, sound)
    before = state.current(item)
    for name, (passed, words) in verdicts.items():
        timing = protocol.Timing.of([times[name] * item.calls], 1, "a call's mean") if name in times else None
        state.tell(
            protocol.Row(
                SECTION,
                label,
                name,
                passed,
                words,
                timing,
                items=1,
                baseline=before if name != before else "",
            )
        )
    if not times:
        state.note(f"nothing sound: {label} stays with {before}")
        return
    state.found[item.label] = times
    use, why = verdict(times, before)
    shipped = _tuned.op_named(item.op).backends
    if use not in shipped:
        state.note(
            f"{label}: {use} wins and is a candidate: {why}. A table cannot choose it: move"
            f" bench/candidates/{item.op}/ to kernels/v2f_kernels/, list it in its __init__.py, and choose again"
        )
        times = {name: seconds for name, seconds in times.items() if name in shipped}
        if not times:
            return
        use, why = verdict(times, before)
    state.table.backend(item.op, item.key, use, why)
    state.note(f"{label}: {use}{'' if use == before else f' instead of {before}'}: {why}")


def _times(state: Choosing, item: Item, label: str, sound: Functions) -> dict[str, float]:
    """Times of an item's sound contenders; one that cannot be timed (too little memory, a launch that is refused where
    it is joined) is told and left out, and the others are timed together without it.

    Raises:
        DeviceLost: the device does not answer after a failure.
    """
    able: dict[str, Callable[..., Any]] = {}
    try:
        return state.times(item, sound)
    except DeviceLost:
        raise
    except Exception as error:
        still_there(state.device, label)
        state.note(f"{label}: timed one by one, since together: {type(error).__name__}: {str(error)[:200]}")
    for name, function in sound.items():
        try:
            state.times(item, {name: function})
            able[name] = function
        except DeviceLost:
            raise
        except Exception as error:
            still_there(state.device, f"{label}, {name}")
            words = f"cannot be timed: {type(error).__name__}: {str(error)[:200]}"
            state.tell(protocol.Row(SECTION, f"{label}, timing", name, False, words))
    return state.times(item, able)


def verdict(times: Mapping[str, float], before: str) -> tuple[str, str]:
    """(what runs, the numbers): the fastest, or what ran before where that is not `GAIN` times slower.

    Args:
        times: backend -> seconds an image; those that were judged sound.
        before: what the table chose; if it is not sound here, the fastest runs.
    """
    ranked = sorted(times, key=lambda name: times[name])
    best = ranked[0]
    use = before if before in times and times[before] < GAIN * times[best] else best
    rest = [f"{name} {times[name] * 1e6:.2f}" for name in ranked if name != use]
    why = f"{use} {times[use] * 1e6:.2f} us an image" + (
        f", {', '.join(rest)}" if rest else ", no other sound"
    )
    return use, why + ("" if use == best else f"; under {100 * (GAIN - 1):.0f} % apart, so nothing changes")


def _search(state: Choosing, todo: list[Item]) -> None:
    """Launch configurations, most valuable item first, for ops whose Triton form is near the best."""
    gate = tune.compile_gate(state.table.measured["capability"])
    done: set[tuple[str, str]] = set()
    for item in todo:
        times = state.found.get(item.label, {})
        near = [name for name in times if name in FORMS and times[name] <= REACH * min(times.values())]
        if not near or state.late(f"launch configurations of {item.label}"):
            continue
        changed = False
        for work in (work for form in near for work in works_of(item, todo, state.device, form)):
            label = f"{work.op}/{work.key}"
            if (work.op, work.key) in done or label in state.begun or state.late(label):
                continue
            done.add((work.op, work.key))
            state.begin(label)
            left = state.end - state.clock()
            result = tune.tune(work, gate, state.device, budget_s=max(1.0, left / 3))
            still_there(state.device, label)
            for words in result.log:
                state.note(f"{label}: {words}")
            if result.entry != result.before:
                state.table.launch(work.op, work.key, result.entry)
                state.note(f"{label}: {result.gain:.2f}x: {result.before} -> {result.entry}")
                changed = True
        if changed and not state.late(f"{item.label} with its new launches"):
            decide(state, item, "again, launched anew")


def works_of(item: Item, todo: list[Item], device: str, form: str = "triton") -> list[tune.Work]:
    """The launches that an item's Triton form reads: timed on all shapes of its op and use that read them, and judged
    on those of the other use as well, since a key does not say which use it is read by."""
    folder = _tuned.op_named(item.op).contenders[form].split(".")[-2]
    mine = [i for i in todo if i.op == item.op and i.gradients == item.gradients]
    others = [i for i in todo if i.op == item.op and i.gradients != item.gradients]
    timed_on = tune.work_of(
        folder, [case for i in mine for case, _ in i.cases], device, (DTYPES[item.dtype],), form
    )
    judged_on = [
        work for i in others for work in tune.work_of(folder, i.checks, device, (DTYPES[i.dtype],), form)
    ]
    names = {case.name for case, _ in item.cases}
    found = []
    for work in timed_on:
        if any(case.name in names for case, _, _ in work.runs):
            work.also = [run for other in judged_on if other.key == work.key for run in other.runs]
            found.append(work)
    return found


def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="v2f-tuned-"))
    shutil.copy(_tuned.TUNED / _tuned.file_of(_tuned.DEFAULT), folder)
    return folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--budget", type=float, default=240.0, help="seconds for all of it")
    parser.add_argument(
        "--op", action="append", choices=sorted(_tuned.SHAPES), help="may be repeated; all else"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="on a CPU: proves the plumbing, measures nothing"
    )
    options = parser.parse_args(arguments)
    device = "cpu" if options.rehearse else options.device
    if device != "cpu" and not torch.cuda.is_available():
        print("No GPU that torch can see: nothing was timed. `--rehearse` runs the same code on a CPU.")
        return 2
    failed: list[str] = []

    def tell(row: protocol.Row) -> None:
        if not row.passed:
            failed.append(row.case)
            print(f"FAILED {row.case} {row.contender}: {row.check}", flush=True)

    written = run(device, options.budget, tell, only=options.op)
    print(f"written: {written}; now `python -m bench.kernels.aot`, read its diff, and commit both")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

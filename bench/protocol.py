"""The one timing protocol: how contenders are timed, and how a result may be reported.

- Random data, never zeros (zeros run faster on a GPU); every row carries a hash of its inputs.
- A contender is called with a number that says which of several sets of buffers to use.
- Warm-up calls, then interleaved rounds A B C, A B C, ...: drift of clocks and of other load hits all alike.
  Reported: median, 20th and 80th percentile of the rounds.
- CPU: `time.perf_counter` around enough calls to fill `MIN_ROUND_S`.
- GPU: the calls of a round captured in one CUDA graph over rotating buffers, timed by CUDA events; where a call
  cannot be captured, events around each call after a write of `FLUSH_BYTES`. Both find a cold L2 cache: the
  former if the buffers together exceed it, which the caller arranges with `sets_for`.
- A row whose check failed is reported as such: no time ratio is printed for it, nor against it.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

FLUSH_BYTES = 256 << 20
"""More than any L2 cache (60 MB on an H200); the same as triton.testing.do_bench."""
MIN_ROUND_S = 2e-3
MAX_SETS = 16
Call = Callable[[int], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call.

    Args:
        p50, p20, p80: quantiles over rounds.
        rounds, calls: how many rounds, and calls in each.
        method: `perf_counter`, `graph` or `events`.
    """

    p50: float
    p20: float
    p80: float
    rounds: int
    calls: int
    method: str

    @classmethod
    def of(cls, seconds: Sequence[float], calls: int, method: str) -> Timing:
        """From the seconds per call of each round."""
        if not seconds or not all(math.isfinite(s) and s > 0 for s in seconds):
            raise ValueError(f"expected positive finite seconds, found {list(seconds)}")
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(
            statistics.median(ordered),
            ordered[round(0.2 * last)],
            ordered[round(0.8 * last)],
            len(ordered),
            calls,
            method,
        )


@dataclass(frozen=True)
class Row:
    """One line of a result: a contender on a case, its check, its time and its work.

    Args:
        section, case, contender: what it is.
        passed: whether this row's correctness check passed, in this run.
        check: the check in words.
        timing: None where nothing was timed.
        flop, bytes: of one call, by the arithmetic of `bench.kernels.cases`.
        items: images of one call, for images/s; 0 where that has no meaning.
        inputs: first digits of the sha256 of the inputs.
        baseline: contender of the same section and case that a speed-up is quoted against.
        joules: energy of one call; 0 where it was not measured.
    """

    section: str
    case: str
    contender: str
    passed: bool
    check: str
    timing: Timing | None = None
    flop: float = 0.0
    bytes: float = 0.0
    items: int = 0
    inputs: str = ""
    baseline: str = ""
    joules: float = 0.0


@dataclass
class Report:
    """Everything of one run, writable as JSON and Markdown."""

    title: str
    environment: Mapping[str, Any]
    ceilings: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def speed_up(self, row: Row) -> float | None:
        """Times faster than its baseline; None unless both were timed and both checks passed."""
        base = next(
            (
                r
                for r in self.rows
                if (r.section, r.case, r.contender) == (row.section, row.case, row.baseline)
            ),
            None,
        )
        if base is None or base is row or not (row.passed and base.passed):
            return None
        if row.timing is None or base.timing is None:
            return None
        return base.timing.p50 / row.timing.p50

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if not row.passed]

    def as_json(self) -> str:
        rows = [{**asdict(row), "speed_up": self.speed_up(row)} for row in self.rows]
        table = {
            "title": self.title,
            "environment": dict(self.environment),
            "ceilings": self.ceilings,
            "notes": self.notes,
            "rows": rows,
        }
        return json.dumps(table, indent=1) + "\n"

    def as_markdown(self) -> str:
        lines = [f"# {self.title}", ""]
        lines += [f"- {key}: {value}" for key, value in self.environment.items()]
        lines += [f"- measured ceiling, {key}: {value:.4g}" for key, value in self.ceilings.items()]
        lines += [f"- {note}" for note in self.notes]
        for section in dict.fromkeys(row.section for row in self.rows):
            lines += ["", f"## {section}", "", HEADER, RULE]
            lines += [self._line(row) for row in self.rows if row.section == section]
        return "\n".join(lines) + "\n"

    def _line(self, row: Row) -> str:
        cells = [row.case, row.contender, ("ok: " if row.passed else "FAILED: ") + row.check]
        timing = row.timing
        if timing is None or not row.passed:
            return "| " + " | ".join([*cells, *[""] * 6]) + " |"
        s, up = timing.p50, self.speed_up(row)
        cells += [
            f"{s * 1e6:.1f} ({timing.p20 * 1e6:.1f} to {timing.p80 * 1e6:.1f})",
            f"{row.bytes / s / 1e9:.1f}{self._share(row.bytes / s, 'copy bytes/s')}" if row.bytes else "",
            f"{row.flop / s / 1e9:.1f}{self._share(row.flop / s, 'matmul FLOP/s')}" if row.flop else "",
            f"{row.items / s:.1f}" if row.items else "",
            f"{row.joules / row.items:.4g}" if row.items and row.joules else "",
            "" if up is None else f"{up:.2f}x {row.baseline}",
        ]
        return "| " + " | ".join(cells) + " |"

    def _share(self, rate: float, ceiling: str) -> str:
        top = self.ceilings.get(ceiling)
        return f" ({100 * rate / top:.0f} %)" if top else ""

    def write(self, folder: Path, name: str) -> None:
        """`folder/name.json` and `folder/name.md`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(self.as_json())
        (folder / f"{name}.md").write_text(self.as_markdown())


HEADER = "| case | contender | check | us (p20 to p80) | GB/s | GFLOP/s | images/s | J/image | speed-up |"
RULE = "|---|---|---|---:|---:|---:|---:|---:|---:|"


def time_calls(
    contenders: Mapping[str, Call], *, device: str, rounds: int = 7, budget_s: float = 10.0, sets: int = 1
) -> dict[str, Timing]:
    """Times contenders in interleaved rounds.

    Args:
        contenders: name -> call; `call(i)` works on buffers `i % sets`.
        device: `cpu` or a CUDA device.
        rounds: at most so many; fewer, but at least one, when `budget_s` is used up.
        budget_s: seconds for all of this.
        sets: sets of buffers; see `sets_for`.
    """
    if not contenders or rounds < 1 or sets < 1:
        raise ValueError(f"expected contenders, rounds and sets, found {len(contenders)}, {rounds}, {sets}")
    start = time.perf_counter()
    rigs = {name: _rig(call, torch.device(device), sets) for name, call in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in rigs}
    for _ in range(rounds):
        for name, (once, _, _) in rigs.items():
            seconds[name].append(once())
        if time.perf_counter() - start > budget_s:
            break
    return {name: Timing.of(seconds[name], rigs[name][1], rigs[name][2]) for name in rigs}


def _rig(call: Call, device: torch.device, sets: int) -> tuple[Callable[[], float], int, str]:
    """(one round -> seconds per call, calls of a round, method), warmed up."""
    if device.type == "cpu":
        start = time.perf_counter()
        call(0)
        first = time.perf_counter() - start
        calls = max(1, min(1000, round(MIN_ROUND_S / max(first, 1e-9))))
        return (lambda: _clocked(call, calls)), calls, "perf_counter"
    with torch.cuda.device(device):
        for i in range(max(3, sets)):
            call(i)
        torch.cuda.synchronize()
        try:
            replay, calls = _graphed(call, sets)
        except RuntimeError:
            torch.cuda.synchronize()
            flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)
            return (lambda: _flushed(call, flush)), 1, "events"
        return (lambda: _elapsed(replay) / calls), calls, "graph"


def _clocked(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for i in range(calls):
        call(i)
    return (time.perf_counter() - start) / calls


def _graphed(call: Call, sets: int) -> tuple[Callable[[], None], int]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call(0)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    single = _elapsed(lambda: call(0))
    calls = sets * max(1, min(16, round(1e-3 / max(single * sets, 1e-9))))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(calls):
            call(i)
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay, calls


def _elapsed(work: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _flushed(call: Call, flush: torch.Tensor) -> float:
    flush.random_(0, 255)
    return _elapsed(lambda: call(0))


def sets_for(set_bytes: float, device: str) -> int:
    """How many sets of buffers make the cache cold: together at least 2x the L2 cache, at most `MAX_SETS`."""
    if torch.device(device).type == "cpu":
        return 1
    cache = torch.cuda.get_device_properties(torch.device(device)).L2_cache_size
    return max(1, min(MAX_SETS, math.ceil(2 * cache / max(set_bytes, 1.0))))


def hash_of(tensors: Iterable[torch.Tensor]) -> str:
    """12 hexadecimal digits of the sha256 over shapes, dtypes and bytes (of the first 2**20 elements)."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(
            tensor.detach().reshape(-1)[: 1 << 20].cpu().contiguous().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:12]

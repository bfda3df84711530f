"""Which jobs fit into the minutes given, and in which order; predicted by the table in `stages.py`."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.gpu.job import Job
from bench.gpu.stages import NAMED, STAGES

REPORT_S = 12.0
"""Seconds kept for this process's imports, the probe of the card, the report and its pictures."""
WAVE_SHARE = 0.45
"""Of all seconds, what jobs side by side may take together; what they compile is what the rest would compile."""
REHEARSED_S = 2.0
"""Of any job of a rehearsal, as a prediction."""


def width(cores: int) -> int:
    """Processes side by side: compiling takes one core each, and the card's memory bounds their number."""
    return max(2, min(12, cores * 3 // 4))


def wall(jobs: Sequence[Job], wide: int) -> float:
    """Predicted seconds of jobs in order, neighbours that need not be alone side by side."""
    total, lanes = 0.0, [0.0] * wide
    for job in jobs:
        if job.alone:
            total, lanes = total + max(lanes) + job.predicted_s, [0.0] * wide
        else:
            heapq.heapreplace(lanes, lanes[0] + job.predicted_s)
    return total + max(lanes)


def fit(jobs: Sequence[Job], seconds: float, wide: int) -> tuple[list[Job], list[Job]]:
    """(the jobs that fit in order, those that do not): these are for the end, if time is left."""
    kept: list[Job] = []
    spare: list[Job] = []
    for job in jobs:
        (kept if wall([*kept, job], wide) <= seconds else spare).append(job)
    return kept, spare


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Args:
        jobs: in order, which are predicted to fit.
        spare: after those, if time is left.
        notes: what cannot run here and why.
        wide: processes side by side.
    """

    jobs: list[Job]
    spare: list[Job]
    notes: list[str]
    wide: int

    def __str__(self) -> str:
        """Every job with its predicted seconds, summed by stage."""
        lines = []
        for name in dict.fromkeys(job.stage for job in self.jobs):
            mine = [job for job in self.jobs if job.stage == name]
            lines.append(f"{wall(mine, self.wide):6.0f} s  {name}: {NAMED[name].answers}")
            lines += [
                f"{job.predicted_s:13.0f} s  {job.name.partition('/')[2]}{'' if job.alone else ' (side by side)'}"
                for job in mine
            ]
        lines.append(f"{wall(self.jobs, self.wide):6.0f} s  in all")
        lines += [f"if time is left: {job.name}, {job.predicted_s:.0f} s" for job in self.spare]
        return "\n".join([*lines, *self.notes])


def planned(
    only: Sequence[str], rehearsal: bool, seconds: float, wide: int, most_s: float = math.inf
) -> Plan:
    """The stages asked for, all but the longer ones by default, cut to the seconds.

    Args:
        only: names of stages.
        rehearsal: tiny shapes; nothing is predicted to take more than two seconds.
        seconds: for all of it.
        wide: processes side by side.
        most_s: no job may take longer.
    """
    jobs: list[Job] = []
    notes = []
    for stage in [NAMED[name] for name in only] or STAGES:
        try:
            mine, missing = stage.jobs(rehearsal)
        except ImportError as error:
            mine, missing = [], [f"stage {stage.name}: not run: {error}"]
        jobs += mine
        notes += missing
    tiny = REHEARSED_S if rehearsal else math.inf
    jobs = [
        replace(j, predicted_s=min(j.predicted_s, tiny, most_s), timeout_s=min(j.timeout_s, most_s))
        for j in jobs
    ]
    return Plan(*fit(jobs, seconds - REPORT_S, wide), notes, wide)

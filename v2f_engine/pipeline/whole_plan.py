"""All of the work on identities, part by part, before it begins: seconds, memory and disk, measured on this machine.

    sample   candidates until so many are apart (`vectors.planner`, `mix_plan`, `growth_plan`)
    pack     moved further apart (`vectors.packing_plan`)
    nearest  the nearest other of each, for the guard of a cone (`vectors.nearest_plan`)
    images   made, chosen, encoded: the probe of `generate --dry-run`

Parts run one after the other: their seconds add up, of their memory the largest counts, and what they leave on the disk
stays. No file is written, and no rate is one of another machine.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_engine import disk
from v2f_engine.data.writing.room import span
from v2f_engine.threads import Cores
from v2f_engine.vectors.identities import BYTES_PER_IDENTITY, Identities
from v2f_engine.vectors.nearest_plan import plan_nearest, rows_for
from v2f_engine.vectors.packing import STEPS
from v2f_engine.vectors.packing_plan import ROWS, likely_worst, plan_packing
from v2f_engine.vectors.perturbation_contract import Around
from v2f_engine.vectors.planner import IdentityPlan
from v2f_engine.vectors.sampling import IdentityStream
from v2f_engine.vectors.sources import VectorSource

if TYPE_CHECKING:
    from v2f_engine.pipeline.selected import ChoiceOptions


@dataclass(frozen=True)
class Part:
    """What one part costs.

    Args:
        name: sample, pack, nearest or images.
        seconds: expected; infinite where it cannot be done.
        memory: bytes at its height, beyond the process itself.
        disk: bytes that it leaves.
        measured: what the numbers come from.
        refused: why it would end with an error; None where it would not.
    """

    name: str
    seconds: float
    memory: int
    disk: int
    measured: str
    refused: str | None = None


@dataclass(frozen=True)
class WholePlan:
    """Every part, in the order in which they run.

    Args:
        parts: at least one.
        free: bytes that are free where the command runs.
        load, cores: processes that wanted a core in the last minute, and how many there are.
    """

    parts: tuple[Part, ...]
    free: int
    load: float
    cores: int

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.parts)

    @property
    def memory(self) -> int:
        return max(one.memory for one in self.parts)

    @property
    def disk(self) -> int:
        return sum(one.disk for one in self.parts)

    @property
    def possible(self) -> bool:
        """Whether every part would come to its end; a disk that is too small is not looked at."""
        return not any(one.refused for one in self.parts)

    def to_json(self) -> dict[str, Any]:
        """For scripts; seconds of what cannot be done are None."""
        told = [{**asdict(one), "seconds": _finite(one.seconds)} for one in self.parts]
        whole = {
            "seconds": _finite(self.seconds),
            "memory": self.memory,
            "disk": self.disk,
            "free": self.free,
        }
        busy = {"load": self.load, "cores": self.cores, "possible": self.possible}
        return {"parts": told, "whole": {**whole, **busy}}

    def lines(self) -> list[str]:
        """A table for people, and below it what stands in the way."""
        rows = [("part", "time", "memory", "disk", "measured here")]
        rows += [
            (one.name, _said(one.seconds), disk.in_words(one.memory), disk.in_words(one.disk), one.measured)
            for one in self.parts
        ]
        room = f"{disk.in_words(self.free)} free here"
        if self.disk > self.free:
            room += f", {disk.in_words(self.disk - self.free)} too few"
        rows.append(
            ("whole", _said(self.seconds), disk.in_words(self.memory), disk.in_words(self.disk), room)
        )
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in (1, 2, 3)), row[4]])
            for row in rows
        ]
        if self.load > self.cores:
            lines.append(f"rates are those of a busy machine: load {self.load:.1f} on {self.cores} cores")
        return [*lines, *(f"{one.name} would be refused: {one.refused}" for one in self.parts if one.refused)]


@dataclass(frozen=True)
class Work:
    """What is to be done with the identities.

    Args:
        pack: whether they are moved apart, in `steps` at most.
        around: form of perturbation; a guarded cone has to know each identity's nearest other.
        keep: images of each identity that are written; None makes none.
        choice: of as many made; None keeps all.
        format: of the set.
        model: generator.
        rescale: brings vectors to its length.
    """

    pack: bool = False
    steps: int = STEPS
    around: Around | None = None
    keep: int | None = None
    choice: ChoiceOptions | None = None
    format: str = "imagefolder"
    model: str = "mini"
    rescale: bool = False


def plan_work(
    sampling: IdentityPlan,
    source: VectorSource,
    work: Work,
    held: Identities | None = None,
    files_s: float = 0.0,
    notify: Callable[[str], None] | None = None,
) -> WholePlan:
    """Foretells every part.

    Args:
        sampling: the plan of the vectors.
        source: what they are sampled from.
        work: what comes after.
        held: the table that goes on, if one does: the other parts are timed on its vectors.
        files_s: seconds of reading that table and writing the larger one.
        notify: told what takes long once.

    Raises:
        ConfigError: a packing of a source with groups, which has no measure.
        ModelNotFound, CheckpointError, BackendUnavailable, VectorError: of the generator and the judges.
    """
    n = sampling.identities
    table = BYTES_PER_IDENTITY * n
    never = None if sampling.feasible else f"about {sampling.kept_at_budget:,.0f} can be had"
    how = f"{sampling.pilot.rows:,} candidates"
    seconds = math.inf if never else sampling.seconds + files_s
    parts = [Part("sample", seconds, sampling.memory, table, how, never)]
    first = _first(sampling, source, held) if work.pack or work.keep is not None else None
    if work.pack and first is not None:
        worst = likely_worst(n, sampling.pilot, sampling.max_cosine)
        packing = plan_packing(n, first.vectors, source, worst, steps=work.steps)
        how = f"{min(ROWS, len(first)):,} identities, {work.steps} steps at most"
        parts.append(Part("pack", packing.seconds, packing.memory + table, table, how, packing.refused))
    if work.around is not None and work.around.needs_table:
        rows = rows_for(n, source, sampling.seed) if held is None else held.vectors
        nearest = plan_nearest(n, rows)
        mean = nearest.products / max(1e-9, nearest.seconds)
        how = f"{nearest.products / 1e6:,.0f} M products, {mean / 1e6:,.1f} M/s in the mean"
        parts.append(Part("nearest", nearest.seconds, nearest.memory + table, nearest.disk, how))
    if work.keep is not None and first is not None:
        parts.append(_images(n, work.keep, first, work, notify))
    return WholePlan(tuple(parts), disk.free_bytes(Path.cwd()), os.getloadavg()[0], Cores.look().usable)


def _first(plan: IdentityPlan, source: VectorSource, held: Identities | None) -> Identities:
    """The first identities of the table, as many as the pilot found."""
    if held is not None:
        return held.part(slice(0, ROWS))
    stream = IdentityStream(
        source=source, seed=plan.seed, max_cosine=plan.max_cosine, backend=plan.pilot.backend
    )
    return stream.take(min(plan.identities, ROWS, plan.pilot.kept), max_candidates=max(100_000, 20 * ROWS))


def _images(n: int, keep: int, first: Identities, work: Work, notify: Callable[[str], None] | None) -> Part:
    """Of all images, from some of the first people; the rooms that make them are loaded here, at 5 s and more."""
    from v2f_engine.data.formats import get_format
    from v2f_engine.data.records.plan import Plan
    from v2f_engine.data.writing.forecast import set_bytes
    from v2f_engine.options import EngineOptions, IdentityOptions, ImageOptions, OutputOptions
    from v2f_engine.pipeline.foreseen import FIRST, probe_of
    from v2f_engine.pipeline.generation import Request, prepare

    asked = Request(
        EngineOptions(work.model),
        IdentityOptions(identities=first.part(slice(0, FIRST)), rescale=work.rescale),
        ImageOptions(keep) if work.around is None else ImageOptions(keep, perturbation=work.around),
        OutputOptions(format=work.format),  # a probe writes nothing
        choice=work.choice,
    )
    if work.choice is not None:
        work.choice.rule(keep)
    ready = prepare(asked, notify, exporting=False)
    probe = probe_of(ready, asked.output.encoder)
    plan, count = Plan.of(n, keep, None), n * keep
    beside = (BYTES_PER_IDENTITY + 24 * (work.around is not None and work.around.needs_table)) * n
    size = set_bytes(work.format, plan, probe.sizes, count, probe.columns, probe.faces)
    made = "" if work.choice is None else f", the best of {work.choice.make:,} each"
    how = f"{count:,} images at {probe.per_second:,.1f} images/s{made}; {probe.how}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + BYTES_PER_IDENTITY * n
    stored = get_format(work.format).stores
    return Part("images", count / probe.per_second, memory, size + beside * stored, how)


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _said(seconds: float) -> str:
    return span(seconds) if math.isfinite(seconds) else "never"

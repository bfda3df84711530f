"""`generate` up to its first byte, and what it would then do: the run's own checks, engine, people and folder."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from v2f_engine import disk
from v2f_engine.data.formats import get_format
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.forecast import Forecast, Probe, forecast, is_begun, probed
from v2f_engine.options import IdentityOptions
from v2f_engine.pipeline.generation import (
    Prepared,
    Request,
    identity_table,
    origin,
    prepare,
    refuse_impossible,
)
from v2f_engine.pipeline.selected import chosen_of
from v2f_engine.scale.executors import check_options
from v2f_engine.vectors.calibration import limit_of
from v2f_engine.vectors.identities import BYTES_PER_IDENTITY, Identities
from v2f_engine.vectors.planner import IdentityPlan, plan_identities
from v2f_engine.vectors.sampling import PLANNED_FROM
from v2f_engine.vectors.sources import find_source

SAMPLED_S = 20.0
"""People are sampled whole where the planner expects less than this; else the first of them, and its word is taken."""
FIRST = 64
"""People that stand for all where they are not sampled whole: the first rows of the table are the same."""


@dataclass(frozen=True)
class Foreseen:
    """What a call of `generate` would do.

    Args:
        written: folder, images, bytes, time.
        people: where the identities come from.
        verdict: of the planner, or that they were sampled.
        device, precision, runner, backends: what computes.
        executor: who works.
        memory: bytes that this process used at most until now, network and probe included.
        script, departures: the published script that does the same, and how this run differs.
        manifest: what the run would begin with.
    """

    written: Forecast
    people: str
    verdict: str
    device: str
    precision: str
    runner: str
    backends: str
    executor: str
    memory: int
    script: str
    departures: tuple[str, ...]
    manifest: Manifest

    def lines(self) -> list[tuple[str, str]]:
        """(name, words) for people."""
        return [
            *self.written.lines(),
            ("memory", f"{disk.in_words(self.memory)} until now, the network and the probe included"),
            ("engine", f"{self.device}, {self.precision}, runner {self.runner}; {self.executor}"),
            ("backends", self.backends),
            ("identities", self.people),
            ("saturation", self.verdict),
        ]


def foresee(
    asked: Request,
    notify: Callable[[str], None] | None = None,
    before: Callable[[Manifest], None] = lambda manifest: None,
) -> Foreseen:
    """Everything that `generation.run` does before it writes, and a probe of some images in memory.

    Raises:
        Whatever the run itself would end with before its first byte.
    """
    executor, images, output = asked.executor, asked.images, asked.output
    check_options(executor, asked.workers.options)
    refuse_impossible(asked)
    plans: list[IdentityPlan] = []

    def people(settled: IdentityOptions, seed: int) -> Identities:
        plan = planned(settled, seed)
        if plan is not None:
            plan.refuse_if_saturated()
            plans.append(plan)
        if plan is None or plan.seconds < SAMPLED_S or is_begun(Path(output.out)):
            return identity_table(settled, seed)
        return identity_table(replace(settled, n_ids=FIRST), seed)

    ready = prepare(asked, notify, people, exporting=False)
    count = asked.identities.n_ids or len(ready.table)
    manifest = ready.manifest
    if len(ready.table) != count:
        from v2f_engine.data.records.plan import Plan

        manifest = replace(manifest, plan=Plan.of(count, images.images_per_id, output.images_per_shard))
    before(manifest)
    engine = ready.engine
    written = forecast(
        Path(output.out),
        manifest,
        lambda: probe_of(ready, output.encoder),
        attached=BYTES_PER_IDENTITY * count + len(ready.images.perturbation.attachment() or b""),
    )
    workers = asked.workers.workers or 1
    if executor != "inline" and workers > 1 and written.images_per_second:
        how = f"{written.measured} by one process; so many at a time: {workers}"
        faster = written.images_per_second * workers
        written = replace(written, images_per_second=faster, seconds=written.seconds / workers, measured=how)
    told = engine.runner.describe()
    first = [words] if (words := getattr(engine.runner, "first", "")) else []
    if not get_format(output.format).stores:
        written = replace(written, state="nothing stored")
    return Foreseen(
        written=written,
        people=origin(ready.table, engine.people),
        verdict=_verdict(plans[0] if plans else None, len(ready.table), count),
        device=str(told.get("device", told.get("provider", "unknown"))),
        precision=str(told["precision"]),
        runner=", ".join([told["runner"], f"{told['batch_size']} images a call", *first]),
        backends=_backends(told.get("backends")),
        executor="one process" if executor == "inline" else f"executor {executor}",
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        script=asked.script.name,
        departures=ready.departures,
        manifest=manifest,
    )


def probe_of(ready: Prepared, encoder: Encoder) -> Probe:
    """Some images of the first people, made, chosen and encoded as the run does it."""
    some = range(min(len(ready.table), FIRST))
    made = ready.engine.batches(ready.table, ready.images, some, ready.control)
    return probed(chosen_of(ready.choosing, made, ready.table), encoder)


def planned(settled: IdentityOptions, seed: int) -> IdentityPlan | None:
    """The planner's word on identities that are to be sampled, where they are many enough for it."""
    if settled.identities is not None or (settled.n_ids or 0) < PLANNED_FROM:
        return None
    cosine, _ = limit_of(settled.max_cosine, settled.fmr, settled.calibration)
    return (
        None
        if cosine is None
        else plan_identities(settled.n_ids or 0, find_source(settled.source), cosine, seed=seed)
    )


def _verdict(plan: IdentityPlan | None, sampled: int, count: int) -> str:
    if plan is None:
        return f"{sampled:,} were sampled or given: they are apart"
    whole = "; sampled whole just now" if sampled == count else ", not sampled yet"
    return (
        f"feasible: about {plan.candidates:,.0f} candidates of {plan.max_candidates:,} allowed, "
        f"{plan.seconds:,.1f} s{whole}"
    )


def _backends(told: object) -> str:
    if not isinstance(told, dict):
        return "its own"
    return ", ".join(f"{op} {backend}" for op, backend in sorted(told.items()))

"""Work of the stages that measure generation: ceilings, the ladder, where device time goes, batch sizes, the host."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from bench import machine, protocol
from bench.generation import chunks as chunked
from bench.generation import ladder, rungs, steady
from bench.generation.with_host import with_host
from bench.gpu.job import Context
from bench.kernels import kernel_parts
from bench.kernels.step_profile import kernels_of
from v2f_engine.backends import Choice, choose
from v2f_engine.errors import BackendUnavailable
from v2f_engine.models.vec2face import Vec2Face

ROWS = 256
WARM_ROWS = 64
"""Of the calls that only compile: Triton's kernels do not depend on the batch, and several run side by side."""
COMPILED = tuple(rung.name for rung in rungs.COMPILED)
NAMED = {rung.name: rung for rung in (*rungs.RUNGS, *rungs.COMPILED)}


@cache
def network(rehearsal: bool) -> Vec2Face:
    """Base size with random weights; `mini` in a rehearsal. The process that starts jobs makes it once for all."""
    return rungs.network("mini" if rehearsal else "base")


def chosen_rung(rehearsal: bool) -> rungs.Rung:
    """What `backends.choose` takes, as a graph; on a CPU the folds."""
    return next(r for r in rungs.RUNGS if (r.folded and not r.needs_gpu if rehearsal else r.chosen))


def base_choice(context: Context) -> Choice:
    return choose(context.device, "fp32" if context.rehearsal else "auto")


def rows_of(context: Context) -> int:
    return 2 if context.rehearsal else ROWS


def expected(context: Context, rows: int, batch: rungs.Batch) -> torch.Tensor:
    """The oracle's images on the device: from the scratch folder, where the first process to need them puts them."""
    path = context.folder / f"oracle-{rows}.npy"
    if not path.exists():
        made = rungs.oracle(network(context.rehearsal).to(context.device), batch).to(torch.uint8)
        temporary = path.with_suffix(f".{os.getpid()}")
        with temporary.open("wb") as file:
            np.save(file, made.cpu().numpy())
        temporary.rename(path)
    return torch.from_numpy(np.load(path)).to(context.device, torch.int16)


def oracle(context: Context) -> None:
    """Makes the oracle's images for the rungs."""
    rows = rows_of(context)
    expected(context, rows, rungs.Batch.draw(rows, base_choice(context).device))


def warm(context: Context, rung: str) -> None:
    """Compiles what a rung needs; writes nothing."""
    rows = 1 if context.rehearsal else WARM_ROWS
    base = base_choice(context)
    runner, _ = rungs.build(NAMED[rung], network(context.rehearsal), base, rows)
    runner(*rungs.Batch.draw(rows, base.device).host)


def ceilings(context: Context) -> None:
    """What this card does at best, in this run: a large copy and a large bf16 product, on random data."""
    elements, side = (1 << 12, 64) if context.rehearsal else (1 << 28, 8192)
    source = torch.randn(elements, device=context.device)
    target = torch.empty_like(source)
    a, b = (torch.randn(side, side, device=context.device, dtype=torch.bfloat16) for _ in range(2))
    timed = protocol.time_calls(
        {"copy": lambda i: target.copy_(source), "matmul": lambda i: a @ b}, device=context.device, rounds=5
    )
    context.ceiling("copy bytes/s", 2.0 * source.numel() * source.element_size() / timed["copy"].p50)
    context.ceiling("matmul FLOP/s", 2.0 * side**3 / timed["matmul"].p50)
    context.note(f"clocks after the ceilings: {machine.clocks() or 'unknown'}")


def rung(context: Context, name: str, remark: str = "") -> None:
    """One rung of the ladder, judged and timed; `remark` tells it from the same rung at another time."""
    rows, base = rows_of(context), base_choice(context)
    batch = rungs.Batch.draw(rows, base.device)
    try:
        row, _ = ladder.run_rung(
            NAMED.get(name),
            network(context.rehearsal),
            base,
            batch,
            expected(context, rows, batch),
            rounds=1 if context.rehearsal else 10,
            budget_s=min(4.0, context.left_s / 2) if name not in COMPILED else context.left_s / 2,
        )
    except BackendUnavailable as error:
        if not (name in NAMED and NAMED[name].others):
            raise
        context.note(f"rung {name}: {error}")  # asks for an optional package, or for a newer card
        return
    context.row(replace(row, case=f"{row.case}{remark}", baseline="" if remark else row.baseline))


def chunks(context: Context) -> None:
    """The chosen path with its upper levels in chunks; the fastest goes into the device's table."""
    base, rows = base_choice(context), 9 if context.rehearsal else ROWS
    found, seconds = chunked.measure(
        network(context.rehearsal), base, rows, rounds=1 if context.rehearsal else 10, budget_s=1.5
    )
    for row in found:
        context.row(row)
    if seconds:
        chunk, why = chunked.decide(seconds, rows)
        context.note(f"upper levels: {f'{chunk} images at a time' if chunk else 'all at once'}: {why}")
        if base.device != "cpu":
            chunked.write(base, seconds, rows)


def engines(context: Context) -> None:
    """Rungs 11 and 12: the generator as a TensorRT engine, where either library is installed."""
    from bench.generation import export

    rows, notes = export.engine_rungs(
        network(context.rehearsal), device=context.device, rows=rows_of(context), rounds=10,
        deadline=time.perf_counter() + context.left_s / 2,
    )  # fmt: skip
    for row in rows:
        context.row(row)
    for note in notes:
        context.note(note)


def kernels(context: Context) -> None:
    """Device time of one call of what `choose` takes: by part, then kernel by kernel."""
    rows, base = rows_of(context), base_choice(context)
    model = network(context.rehearsal)
    _, call = rungs.build(chosen_rung(context.rehearsal), model, base, rows)
    found = kernels_of(call, context.device)
    work = kernel_parts.work_of_generation(model, base, rows)
    for row in kernel_parts.rows("generation", f"batch {rows}", found, rows, work):
        context.row(row)


def sizes(context: Context, batches: list[int]) -> None:
    """The chosen path at other batch sizes, each judged."""
    base, model = base_choice(context), network(context.rehearsal)
    chosen = chosen_rung(context.rehearsal)
    for rows in batches:
        label = f"batch {rows}"
        context.begin(label)
        batch = rungs.Batch.draw(rows, base.device)
        runner, call = rungs.build(chosen, model, base, rows)
        made = torch.from_numpy(runner(*batch.host)).to(base.device)
        passed, words = rungs.grey_check(made, rungs.oracle(model.to(base.device), batch))
        timing = ladder.wall(call, base.device, 1 if context.rehearsal else 10, 1.5) if passed else None
        context.row(
            protocol.Row(
                "batch sizes", label, chosen.name, passed, words, timing,
                items=rows, inputs=protocol.hash_of(batch.device),
            )
        )  # fmt: skip
        del runner, call, made, batch
        if base.device != "cpu":
            torch.cuda.empty_cache()


def host(context: Context, images: int) -> None:
    """The chosen path with bytes on the host, and through the null writer."""
    rows, base = rows_of(context), base_choice(context)
    chosen, batch = chosen_rung(context.rehearsal), rungs.Batch.draw(rows, base.device)
    runner, _ = rungs.build(chosen, network(context.rehearsal), base, rows)
    made = torch.from_numpy(runner(*batch.host)).to(base.device)
    passed, words = rungs.grey_check(made, expected(context, rows, batch))
    if not passed:
        raise RuntimeError(f"the check failed, so nothing was timed: {words}")
    found, notes = with_host(chosen, runner, images, words, protocol.hash_of(batch.device))
    for row in found:
        context.row(row)
    for note in notes:
        context.note(note)


def steady_state(context: Context, seconds: float) -> None:
    """A minute of what `choose` takes, then a sixth of the published way: rates held, energy of an image."""
    rows, base, model = rows_of(context), base_choice(context), network(context.rehearsal)
    batch = rungs.Batch.draw(rows, base.device)
    images = expected(context, rows, batch)
    baseline = model.to(base.device).requires_grad_(True)
    chosen = chosen_rung(context.rehearsal)
    runner, call = rungs.build(chosen, model, base, rows)
    made = torch.from_numpy(runner(*batch.host)).to(base.device)
    for name, function, length, (passed, words) in (
        (chosen.name, call, seconds, rungs.grey_check(made, images)),
        (
            rungs.BASELINE,
            lambda: rungs.published(baseline, batch),
            seconds / 6,
            (True, "the published way"),
        ),
    ):
        if not passed:
            context.row(protocol.Row("steady state", f"batch {rows}", name, False, words))
            continue
        row, notes = steady.run(name, function, device=base.device, rows=rows, seconds=length, check=words)
        context.row(row)
        for note in notes:
            context.note(note)

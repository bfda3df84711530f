"""Exported generators against the eager runner, on a CPU; and the engine rungs of the GPU ladder.

    python -m bench.generation.export --model mini --batch 16 --rounds 7 --json bench/results/cpu/export.json
    python -m bench.generation.export --model base --batch 4 --rounds 3

Protocol: `bench/protocol.py`: random vectors, one warm-up each, interleaved rounds, medians. All contenders end in
uint8 on the host. A row's check is against the fp32 eager runner: fp32 within one grey level, other precisions
99.9 % of values within one for fp16 and a mean of one for bf16. onnxruntime and torch get the same threads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import machine, protocol
from bench.generation import ladder, rungs
from v2f_engine import backends
from v2f_engine.export.onnx import export_onnx
from v2f_engine.export.tensorrt import BuildSettings, export_engine
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import LoadedModel, load_generator
from v2f_engine.runtime.eager import EagerRunner, frozen_model
from v2f_engine.runtime.onnx import OnnxRunner, OnnxSession
from v2f_engine.runtime.tensorrt import FLAVOURS, TensorRTRunner

BASELINE = "eager fp32"


def loaded_model(name: str) -> LoadedModel:
    """A named model, or a published size with random weights, whose layers cost the same."""
    if name not in ("base", "large", "huge"):
        return load_generator(name)
    return as_loaded(rungs.network(name), name)


def as_loaded(network: Vec2Face, name: str) -> LoadedModel:
    """A network without a file, as if loaded; named as random."""
    return LoadedModel(
        network, network.config, f"{name}-random", Path(name), "0" * 64, "none", "gaussian", None, {}, 0.3
    )


def close(made: np.ndarray, expected: np.ndarray, precision: str) -> tuple[bool, str]:
    """Whether images are close enough for their precision, and in words how close."""
    off = np.abs(made.astype(np.int16) - expected)
    share, mean = float(np.mean(off <= 1)), float(off.mean())
    passed = {"fp32": share == 1.0, "fp16": share >= 0.999}.get(precision, mean <= rungs.GREY)
    words = f"max {off.max()}, mean {mean:.3f} grey levels off, {100 * share:.2f} % within one"
    return passed and float(expected.std()) > 2, words


def runners(loaded: LoadedModel, folder: Path, rows: int, threads: int) -> Iterator[tuple[str, str, Any]]:
    """(name, precision, runner) of every way to generate on this CPU."""
    for precision in dict.fromkeys(("fp32", backends.choose("cpu").precision)):
        choice = backends.choose("cpu", precision)
        runner = EagerRunner(frozen_model(loaded, choice), choice, n_dropped=rungs.N_DROPPED, batch_size=rows)
        yield f"eager {precision}", precision, runner
    for precision, opset in (("fp32", 20), ("fp32", 21), ("fp16", 20)):
        made = export_onnx(
            loaded, folder / f"{precision}-{opset}.onnx", precision=precision, opset=opset, check_images=0
        )
        session = OnnxSession(made.path, threads=threads)
        yield (
            f"onnxruntime {precision}, opset {opset}",
            precision,
            OnnxRunner(session, n_dropped=rungs.N_DROPPED, batch_size=rows),
        )


def measure(
    loaded: LoadedModel, *, rows: int, rounds: int, budget_s: float, threads: int
) -> list[protocol.Row]:
    """Rows of all contenders."""
    batch = rungs.Batch.draw(rows, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        found = list(runners(loaded, Path(folder), rows, threads))
    expected = found[0][2](*batch.host)
    checks = {name: close(runner(*batch.host), expected, precision) for name, precision, runner in found}
    calls: dict[str, Callable[[int], Any]] = {
        name: (lambda i, r=runner: r(*batch.host)) for name, _, runner in found if checks[name][0]
    }
    timed = protocol.time_calls(calls, device="cpu", rounds=rounds, budget_s=budget_s)
    return [
        protocol.Row(
            "generation, exported", f"{loaded.name} batch {rows}", name, *checks[name], timed.get(name),
            items=rows, inputs=protocol.hash_of(batch.device), baseline=BASELINE,
        )
        for name in checks
    ]  # fmt: skip


def engine_rungs(
    network: Vec2Face, *, device: str, rows: int, rounds: int, deadline: float
) -> tuple[list[protocol.Row], list[str]]:
    """Rungs 11 and 12 of the ladder: the whole generator as an engine, one static profile of `rows`, in fp16.

    A library that is missing, or a card it does not know, is a note with the reason.
    """
    found: list[protocol.Row] = []
    notes: list[str] = []
    batch = rungs.Batch.draw(rows, device)
    for number, flavour in enumerate(FLAVOURS.values(), 11):
        name = f"{number} {flavour.kind} fp16, CUDA graph"
        if not device.startswith("cuda"):
            notes.append(f"rung {name}: needs a GPU")
            continue
        try:
            library = flavour.library()
        except ImportError as error:
            notes.append(f"rung {name}: {error}")
            continue
        if time.perf_counter() > deadline:
            notes.append(f"rung {name}: out of time; python -m bench.gpu --only engines")
            continue
        capability = "".join(map(str, torch.cuda.get_device_capability(device)))
        settings = BuildSettings(((rows, rows, rows),), (f"sm{capability}",))
        try:
            with tempfile.TemporaryDirectory() as folder:
                made = export_engine(
                    flavour.kind, as_loaded(network, "ladder"), Path(folder) / "e.plan", settings=settings,
                    check_images=0, library=library,
                )  # fmt: skip
                choice = backends.choose(device)
                runner = TensorRTRunner(made.path, choice, n_dropped=rungs.N_DROPPED, batch_size=rows)
            expected = rungs.oracle(network.to(device), batch)
            passed, words = rungs.grey_check(torch.from_numpy(runner(*batch.host)).to(device), expected)
            timing = ladder.wall(runner.replay, device, rounds, 20.0) if passed else None
        except ImportError as error:
            notes.append(f"rung {name}: {error}")
            continue
        except Exception as error:  # a rung that breaks must not end the climb
            passed, words, timing = False, f"{type(error).__name__}: {str(error)[:200]}", None
        found.append(
            protocol.Row(
                "ladder, device only", f"batch {rows}", name, passed, words, timing,
                items=rows, inputs=protocol.hash_of(batch.device), baseline=rungs.BASELINE,
            )
        )  # fmt: skip
    return found, notes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini", help="mini, base, large, huge (random weights), or a path")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of timing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write export.json and export.md into its folder")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    report = protocol.Report(f"Exported generators, {options.model}", machine.environment("cpu"))
    report.rows = measure(
        loaded_model(options.model),
        rows=options.batch,
        rounds=options.rounds,
        budget_s=options.budget,
        threads=options.threads,
    )
    print(report.as_markdown())
    if options.json:
        report.write(options.json.parent, options.json.stem)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

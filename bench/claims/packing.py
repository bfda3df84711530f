"""What packing brings after rejection: how far apart identities get, and whether they stay the sampler's people.

    python -m bench.claims.packing
    python -m bench.claims.packing --ids 1000 --steps 40 --table packed.safetensors

Protocol. `--ids` identities are sampled as `v2f ids sample` samples them (the model's own statistics and limit), and
packed as `v2f ids pack` packs them. Worst and mean: cosine of each identity to its nearest other, exact in float64.
Drift: change of the mean Mahalanobis' distance to the sampler's mean, in standard deviations of one candidate's own.
Bounds: of as many directions in 512 dimensions (holds), and in the source's effective dimension (a guide). Vectors
only: whether faces stay faces, and people apart on them, `bench.claims.judge --ids-table` says of what `--table` keeps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import RESULTS
from bench.machine import environment
from v2f_engine.errors import V2FError
from v2f_engine.vectors.packing import DRIFT, PULL, STEPS, Packing, packing
from v2f_engine.vectors.plots import plot_packing
from v2f_engine.vectors.sampling import sample_identities

WORST_DROP, MOST_DRIFT = 0.05, 1.0
"""Goals: the worst cosine at least so much lower; the mean distance no further off than one candidate's spread."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], Packing]:
    """The record, and the packing for the picture."""
    started, work = time.perf_counter(), time.process_time()
    table = sample_identities(options.ids, model=options.model, seed=options.seed)
    sampled = time.process_time()
    found = packing(
        table,
        target=options.target,
        steps=options.steps,
        pull=options.pull,
        max_drift=options.max_drift,
        device=options.device,
        progress=lambda step, steps: print(f"step {step} of {steps}", file=sys.stderr),
    )
    told = found.to_json()
    before, after = told["worst_cosine"]
    drift = (found.typicality[1] - found.typicality[0]) / found.spread
    record = {
        "protocol": __doc__,
        "settings": {
            "ids": options.ids, "model": options.model, "seed": options.seed, "steps": options.steps,
            "pull": options.pull, "max_drift": options.max_drift, "device": options.device,
            "identities": found.table.describe(),
        },
        "results": {"worst_drop": before - after, "drift": drift},
        "goals": {
            "worst_drop": {"goal": f">= {WORST_DROP}", "met": before - after >= WORST_DROP},
            "drift": {"goal": f"<= {MOST_DRIFT} either way", "met": abs(drift) <= MOST_DRIFT},
        },
        **told,
        "machine": environment("cpu"),
        "processor_seconds": {
            "sampling": round(sampled - work, 1), "packing": round(time.process_time() - sampled, 1),
        },
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    return record, found


def print_report(record: dict[str, Any]) -> None:
    print(record["protocol"].strip())
    print(
        f"\n{record['settings']['ids']:,} identities, kept: step {record['step']}, {record['seconds']:.0f} s"
    )
    for name in ("worst_cosine", "mean_nearest_cosine", "mean_mahalanobis"):
        before, after = record[name]
        print(f"  {name:20} {before:8.4f} -> {after:.4f}")
    print(
        f"  bound                {record['bound']:8.4f}, at effective dimension {record['effective_dimension']:.1f} "
        f"{record['bound_at_effective_dimension']:.4f}"
    )
    for name, goal in record["goals"].items():
        verdict = "met" if goal["met"] else "NOT met"
        print(f"  {name:20} {record['results'][name]:8.4f}  goal {goal['goal']} {verdict}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=int, default=10_000)
    parser.add_argument("--model", default="mini", help="whose statistics and limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, help="0.07 below the table's worst cosine by default")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pull", type=float, default=PULL)
    parser.add_argument("--max-drift", type=float, default=DRIFT)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", type=Path, help="keeps the packed table, .safetensors")
    parser.add_argument("--out", type=Path, default=RESULTS / "cpu/packing.json", help="beside it .png")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        record, found = measure(options)
        if options.table is not None:
            found.table.save(options.table)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")
        plot_packing(found, options.out.with_suffix(".png"))
    except V2FError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print_report(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())

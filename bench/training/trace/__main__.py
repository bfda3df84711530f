"""Traces one training step with fake CUDA tensors; no GPU is needed, and nothing is measured.

    python -m bench.training.trace                                     generator, base, batch 128, one CUDA graph
    python -m bench.training.trace --trainer recogniser --longest 40   with the operators that take longest
    python -m bench.training.trace --json FILE --label WHICH           the figures, beside those of other labels

Kernels are those of torch's CUDA code and of our launchers; predicted milliseconds are sums over kernels of the slower
of bytes and FLOP at the rates of an H200 (`kernels.RATES`), 2.5 us a launch at least.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from bench.training.setup import SIZES
from bench.training.trace import table
from bench.training.trace.steps import GENERATOR_RUNGS, TRAINERS, traced


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainer", choices=tuple(TRAINERS), default="generator")
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rung", choices=GENERATOR_RUNGS, default="6 one CUDA graph")
    parser.add_argument("--longest", type=int, default=0, help="print so many operators, the longest first")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--label", default="now", help="of these figures in the file, such as a commit")
    o = parser.parse_args(arguments)
    recorder = traced(o.trainer, o.size, o.batch, o.rung)
    rows = table.by_part(recorder)
    print(f"{o.trainer}, {o.size}, batch {o.batch}, rung {o.rung}; predicted, not measured\n")
    print(table.markdown(rows))
    held = table.memory(recorder)
    print("GB held at the peak: " + ", ".join(f"{kind} {count:.2f}" for kind, count in held.items()))
    if o.longest:
        print("\n" + table.longest(recorder, o.longest))
    if o.json:
        o.json.parent.mkdir(parents=True, exist_ok=True)
        told = json.loads(o.json.read_text()) if o.json.exists() else {}
        told[o.label] = {
            "trainer": o.trainer, "size": o.size, "batch": o.batch, "rung": o.rung,
            "parts": table.rounded(rows), "GB at peak": {k: round(v, 3) for k, v in held.items()},
        }  # fmt: skip
        o.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # torch 2.13 of a build without CUDA breaks its heap while it takes down what ran on a device that is not there.
    os._exit(code)

"""Compiles every Triton kernel for sm_80, sm_90 and sm_120 without a GPU and writes the committed table.

    python -m bench.aot            # rewrites bench/results/aot.json and aot.md
    python -m bench.aot --check    # compares with the committed table and writes nothing
    python -m bench.aot attention  # compiles only these ops and prints their rows

Exit status 1 when a kernel spills, exceeds its target's shared memory, or lacks the tensor-core instruction
its products call for; with `--check` also when the table differs. Register counts belong to one Triton
version, so tables of different versions are not compared, only judged.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from v2f_kernels._triton.aot import SHARED_LIMIT, Row, compile_cases, ops_under_gate, targets_of

RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "aot.json"
TARGETS = (90, 80, 120)


def build(only: Iterable[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """The table of all ops (or of `only`) and what is unfit in it. Ops are compiled in parallel processes."""
    import triton

    known = sorted(ops_under_gate())
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise SystemExit(f"no such op under the gate: {', '.join(unknown)}; known: {', '.join(known)}")
    rows: list[Row] = []
    found: list[str] = []
    # spawn: a forked child would share locks of the compiler's threads
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for more, wrong in pool.map(build_op, only or known):
            rows += more
            found += wrong
    return {
        "triton": triton.__version__,
        "shared_limit": {f"sm_{target}": SHARED_LIMIT[target] for target in TARGETS},
        "rows": [asdict(row) for row in rows],
    }, found


def build_op(op: str) -> tuple[list[Row], list[str]]:
    """Rows and complaints of one op."""
    return compile_cases(op, ops_under_gate()[op], targets_of(op, TARGETS))


def differences(table: dict[str, Any], committed: dict[str, Any]) -> list[str]:
    """Rows that are new, gone or changed; empty for tables of different Triton versions."""
    if table["triton"] != committed["triton"]:
        return []
    new, old = ({Row(**row).key: row for row in t["rows"]} for t in (table, committed))
    lines = [f"new: {key}" for key in sorted(new.keys() - old.keys())]
    lines += [f"gone: {key}" for key in sorted(old.keys() - new.keys())]
    for key in sorted(new.keys() & old.keys()):
        changed = [f"{k} {old[key][k]} -> {v}" for k, v in new[key].items() if v != old[key][k]]
        lines += [f"changed: {key}: {', '.join(changed)}"] if changed else []
    return lines


def markdown(table: dict[str, Any]) -> str:
    """The table for people."""
    limits = ", ".join(f"{name} {limit:,}" for name, limit in table["shared_limit"].items())
    lines = [
        f"# Ahead-of-time compilation, Triton {table['triton']}",
        "",
        "Static facts of compiled kernels, read on a machine without a GPU; no timing. Written",
        f"by `python -m bench.aot`. Shared-memory limits in bytes: {limits}. The stack (spilled registers) must be 0.",
        "",
        "| op | case | kernel | target | warps | stages | registers | stack B | shared B | matrix op | wide loads |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    lines += [
        "| {op} | {case} | {kernel} | sm_{target} | {num_warps} | {num_stages} | {registers} | {stack} | "
        "{shared} | {tensor_core} | {wide_loads} |".format(**row)
        for row in table["rows"]
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    only = [a for a in arguments if not a.startswith("-")]
    table, found = build(only)
    if only:
        print(markdown(table))
    elif "--check" in arguments:
        found += differences(table, json.loads(TABLE.read_text()))
    else:
        RESULTS.mkdir(exist_ok=True)
        body = ",\n".join(f"  {json.dumps(row)}" for row in table.pop("rows"))
        head = json.dumps(table, indent=1)[:-2]
        TABLE.write_text(f'{head},\n "rows": [\n{body}\n ]\n}}\n')
        (RESULTS / "aot.md").write_text(markdown(json.loads(TABLE.read_text())))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

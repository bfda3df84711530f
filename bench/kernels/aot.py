"""Compiles every Triton kernel for sm_80, sm_90 and sm_120 without a GPU and writes the committed table.

    python -m bench.kernels.aot            # rewrites bench/results/aot.json and aot.md
    python -m bench.kernels.aot --check    # compares with the committed table and writes nothing
    python -m bench.kernels.aot attention  # compiles only these ops and prints their rows

Every kernel is assembled twice, by the ptxas that Triton uses for the target and by the newest one beside it, and both
machine codes are linted (`_triton.machine_code`). Exit status 1 when a kernel spills, reads registers that nothing
wrote, exceeds its target's shared memory, or lacks the tensor-core instruction its products call for; with `--check`
also when the table differs. Register counts belong to one version of Triton and ptxas, so tables of different versions
are not compared, only judged.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from typing import Any

from v2f_kernels._triton.aot import compile_cases, ops_under_gate, targets_of
from v2f_kernels._triton.inspection import MISCOMPILED, SHARED_LIMIT, Row
from v2f_kernels._triton.ptxas import newer_version, ptxas_version

from bench import RESULTS
from bench.candidates import enlist

enlist()  # here and in every process of the pool, which imports this module
TABLE = RESULTS / "aot.json"
TARGETS = (90, 80, 120)


def build(
    only: Iterable[str] = (), targets: Iterable[int] = TARGETS, *, newer: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """The table of all ops (or of `only`) and what is unfit in it; a pool compiles by op and target.

    Args:
        targets: compute capabilities.
        newer: whether each kernel is assembled by the newest ptxas as well; without it the table lacks that column.
    """
    import triton

    known = sorted(ops_under_gate())
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise SystemExit(f"no such op under the gate: {', '.join(unknown)}; known: {', '.join(known)}")
    rows: list[Row] = []
    found: list[str] = []
    # spawn: a forked child would share locks of the compiler's threads
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        tasks = [(op, target, newer) for op in only or known for target in targets_of(op, targets)]
        for more, wrong in pool.map(build_op, *zip(*tasks, strict=True)):
            rows += more
            found += wrong
    return {
        "triton": triton.__version__,
        "ptxas": {f"sm_{target}": ptxas_version(target) for target in TARGETS},
        "newer_ptxas": newer_version(),
        "shared_limit": {f"sm_{target}": SHARED_LIMIT[target] for target in TARGETS},
        "flagged": [line for line in found if MISCOMPILED in line],
        "rows": [asdict(row) for row in rows],
    }, found


def build_op(op: str, target: int, newer: bool = True) -> tuple[list[Row], list[str]]:
    """Rows and complaints of one op for one target."""
    return compile_cases(op, ops_under_gate()[op], (target,), newer=newer)


def differences(
    table: dict[str, Any], committed: dict[str, Any], targets: Iterable[int] = TARGETS, *, newer: bool = True
) -> list[str]:
    """Rows that are new, gone or changed; empty for tables of different versions of Triton or ptxas.

    Args:
        targets, newer: as the table was built: the committed one has all of them.
    """
    if any(table[name] != committed.get(name) for name in ("triton", "ptxas", "newer_ptxas")):
        return []
    left_out = set() if newer else {"registers_newer"}
    new, old = (
        {
            Row(**row).key: {name: value for name, value in row.items() if name not in left_out}
            for row in t["rows"]
            if row["target"] in tuple(targets)
        }
        for t in (table, committed)
    )
    lines = [f"new: {key}" for key in sorted(new.keys() - old.keys())]
    lines += [f"gone: {key}" for key in sorted(old.keys() - new.keys())]
    for key in sorted(new.keys() & old.keys()):
        changed = [f"{k} {old[key][k]} -> {v}" for k, v in new[key].items() if v != old[key][k]]
        lines += [f"changed: {key}: {', '.join(changed)}"] if changed else []
    return lines


def markdown(table: dict[str, Any]) -> str:
    """The table for people."""
    limits = ", ".join(f"{name} {limit:,}" for name, limit in table["shared_limit"].items())
    assemblers = ", ".join(f"{name} {version}" for name, version in table["ptxas"].items())
    newer, rows = table["newer_ptxas"], table["rows"]
    asked = [row for row in rows if row["registers_newer"] is not None]
    more = sum(row["registers_newer"] > row["registers"] for row in asked)
    fewer = sum(row["registers_newer"] < row["registers"] for row in asked)
    lines = [
        f"# Ahead-of-time compilation, Triton {table['triton']}",
        "",
        "Static facts of compiled kernels, read on a machine without a GPU; no timing. Written",
        f"by `python -m bench.kernels.aot`. Shared-memory limits in bytes: {limits}. The stack (spilled"
        " registers) must be 0.",
        "",
        f"Assembled by ptxas: {assemblers}. The newest that Triton brings along, {newer}, takes more registers",
        f"for {more} and fewer for {fewer} of {len(asked)} kernels; its column says how many where they differ.",
        f"The lint for registers read before anything wrote them flags {len(table['flagged'])} of "
        f"{len(rows) + len(asked)} machine codes.",
        "",
        f"| op | case | kernel | target | warps | stages | registers | by {newer} | stack B | shared B | matrix op "
        "| wide loads |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for row in rows:
        other = "" if row["registers_newer"] in (None, row["registers"]) else row["registers_newer"]
        lines.append(
            "| {op} | {case} | {kernel} | sm_{target} | {num_warps} | {num_stages} | {registers} | {other} | {stack} | "
            "{shared} | {tensor_core} | {wide_loads} |".format(other=other, **row)
        )
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

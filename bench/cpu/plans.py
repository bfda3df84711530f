"""Whether `v2f ids plan` is true: each part foretold, then done, in one process; both are written down.

    python -m bench.cpu.plans sampling      # 20,000 of mini and 60,000 of the Gaussian
    python -m bench.cpu.plans extension     # 980,000 identities, 20,000 more
    python -m bench.cpu.plans packing       # 5,000 of mini, 20 steps at most
    python -m bench.cpu.plans nearest       # the nearest other of 100,000, as a guarded cone asks for it

Protocol. A plan is made before anything runs, once by the wall clock and once by the processor's, and set beside what
the same work then took by either: the processor's seconds are what a machine that does other things leaves comparable.
One thread (OMP_NUM_THREADS=1). Ratio: foretold by taken. Met: the processor's ratio within 1 / 1.3 to 1.3.

Extension: the Gaussian in 512 dimensions at a threshold of 0.35, where two of a million candidates are similar with a
probability of 1e-4 or less, so the first candidates are the table of as many and need no rejection to be made.
Its rows are hashed before and after. New against all, `--checked` of the new identities drawn at random: the largest
cosine of unit rows by NumPy's float32 products, which share no code with the rejection.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import RESULTS
from bench.machine import environment

WITHIN = 1.3
LIMIT = 0.35
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}
OUT = RESULTS / "cpu/plans.json"


def taken(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work gave, and seconds by each clock."""
    before = {name: clock() for name, clock in CLOCKS.items()}
    made = work()
    return made, {name: clock() - before[name] for name, clock in CLOCKS.items()}


def beside(foretold: dict[str, float], seconds: dict[str, float]) -> dict[str, Any]:
    """Foretold and taken, and whether the processor's agree."""
    ratio = {name: foretold[name] / seconds[name] for name in CLOCKS}
    return {
        "foretold_s": foretold,
        "taken_s": seconds,
        "ratio": ratio,
        "met": 1 / WITHIN <= ratio["processor"] <= WITHIN,
    }


def largest_cosine(rows: NDArray[np.float32], others: NDArray[np.float32], own: NDArray[np.int64]) -> float:
    """Of any of `rows` to any of `others` but its own place there, in float32."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    worst = -1.0
    for start in range(0, len(others), 8192):
        block = others[start : start + 8192]
        cosines = units @ (block / np.linalg.norm(block, axis=1, keepdims=True)).T
        here = np.flatnonzero((own >= start) & (own < start + len(block)))
        cosines[here, own[here] - start] = -1
        worst = max(worst, float(cosines.max()))
    return worst


def extension(options: argparse.Namespace, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A large table foretold to go on, and gone on with."""
    from v2f_engine.vectors.acceptance import isotropic_violation
    from v2f_engine.vectors.growth import extend_identities
    from v2f_engine.vectors.growth_plan import plan_extension
    from v2f_engine.vectors.sampling import sample_identities
    from v2f_engine.vectors.sources import GaussianSource

    source, held, n = GaussianSource(512), options.held, options.n
    loose = sample_identities(held, max_cosine=None, source=source)
    table = replace(loose, provenance={**loose.provenance, "max_cosine": LIMIT})
    before = hashlib.sha256(table.vectors).hexdigest()
    plans = {name: plan_extension(table, n, source, clock=clock) for name, clock in CLOCKS.items()}
    told = {
        "held": held, "n": n, "max_cosine": LIMIT, "chance_of_a_similar_pair_in_the_table":
        isotropic_violation(512, LIMIT) * held * held / 2, "new_candidates_foretold": plans["wall"].new_candidates,
        "memory_foretold": plans["wall"].memory, "foretold_s": {name: one.seconds for name, one in plans.items()},
        "pairs_per_second": {name: one.pilot.pairs_per_second for name, one in plans.items()},
        "load": os.getloadavg()[0],
    }  # fmt: skip
    say(told)
    larger, seconds = taken(lambda given=table: extend_identities(given, n, source=source))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told |= beside(told["foretold_s"], seconds)
    told |= {
        "new_candidates_drawn": larger.provenance["candidates_drawn"] - table.provenance["candidates_drawn"],
        "process_at_most": peak,
        "old_rows_equal": hashlib.sha256(larger.vectors[:held]).hexdigest() == before,
        "old_rows_sha256": before,
        "table_hash": larger.table_hash,
    }
    say(told)
    some = np.sort(np.random.default_rng(1).choice(np.arange(held, n), options.checked, replace=False))
    worst = largest_cosine(larger.vectors[some], larger.vectors, some)
    return {
        **told,
        "checked_new": options.checked,
        "checked_against": n,
        "largest_cosine": worst,
        "apart": worst < LIMIT,
    }


def sampling(options: argparse.Namespace, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Tables foretold by a pilot, and sampled: of `mini`, which saturates, and of the Gaussian, which does not."""
    from v2f_engine.vectors.planner import plan_identities
    from v2f_engine.vectors.sampling import IdentityStream
    from v2f_engine.vectors.sources import find_source

    found: dict[str, Any] = {}
    for name, n, limit in (("mini", 20_000, 0.491), ("gaussian", options.ids or 60_000, 0.3)):
        source = find_source(name)
        plans = {word: plan_identities(n, source, limit, clock=clock) for word, clock in CLOCKS.items()}
        foretold = {word: one.seconds for word, one in plans.items()}
        found[name] = {
            "identities": n,
            "foretold_s": foretold,
            "candidates_foretold": plans["wall"].candidates,
        }
        say(found)
        stream = IdentityStream(source=source, max_cosine=limit)
        table, seconds = taken(lambda made=stream, many=n: made.take(many, max_candidates=10**7))
        found[name] |= beside(foretold, seconds)
        found[name]["candidates"] = table.provenance["candidates_drawn"]
    return found


def packing(options: argparse.Namespace, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A table of `mini` foretold to be packed as `v2f ids plan` does, before it is sampled whole, and packed."""
    from v2f_engine.vectors.packing import packing as pack
    from v2f_engine.vectors.packing_plan import likely_worst, plan_packing
    from v2f_engine.vectors.pilot import run_pilot
    from v2f_engine.vectors.sampling import sample_identities
    from v2f_engine.vectors.sources import find_source

    source, table = find_source("mini"), sample_identities(options.ids or 5000, model="mini")
    limit = table.provenance["max_cosine"]
    worst = likely_worst(len(table), run_pilot(source, limit), limit)
    plans = {
        name: plan_packing(len(table), table.vectors[:4096], source, worst, clock=clock)
        for name, clock in CLOCKS.items()
    }
    foretold = {name: one.seconds for name, one in plans.items()}
    told: dict[str, Any] = {
        "identities": len(table), "source": "mini", "foretold_s": foretold,
        "neighbours_foretold": plans["wall"].neighbours, "target_foretold": plans["wall"].target,
        "looks_foretold": plans["wall"].looks,
    }  # fmt: skip
    say(told)
    packed, seconds = taken(lambda: pack(table))
    return {
        **told, **beside(foretold, seconds), "looks": len(packed.curve), "target": packed.target,
        "worst_cosine": [float(packed.before.max()), float(packed.after.max())],
    }  # fmt: skip


def nearest(options: argparse.Namespace, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The search of a guarded cone, foretold from candidates and done: of the Gaussian, and of 20,000 of `mini`."""
    from v2f_engine.vectors.nearest import nearest_other
    from v2f_engine.vectors.nearest_plan import plan_nearest, rows_for
    from v2f_engine.vectors.sampling import sample_identities
    from v2f_engine.vectors.sources import find_source

    found: dict[str, Any] = {}
    for name, n in (("mini", 20_000), ("gaussian", options.ids or 100_000)):
        source = find_source(name)
        plans = {word: plan_nearest(n, rows_for(n, source, 0), clock=clock) for word, clock in CLOCKS.items()}
        foretold = {word: one.seconds for word, one in plans.items()}
        found[name] = {"identities": n, "foretold_s": foretold}
        say(found)
        limit = 0.491 if name == "mini" else None
        table = sample_identities(n, source=source, max_cosine=limit)
        cosine, seconds = taken(lambda vectors=table.vectors: nearest_other(vectors))
        found[name] |= beside(foretold, seconds)
        found[name]["largest_cosine"] = float(cosine.max())
    return found


PARTS: dict[str, Callable[[argparse.Namespace, Callable[[dict[str, Any]], None]], dict[str, Any]]] = {
    "sampling": sampling,
    "extension": extension,
    "packing": packing,
    "nearest": nearest,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--held", type=int, default=980_000)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--ids", type=int, help="of packing and nearest")
    parser.add_argument("--checked", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)

    def written(found: dict[str, Any]) -> None:
        record = json.loads(options.out.read_text()) if options.out.is_file() else {}
        record = {"protocol": __doc__, **{k: v for k, v in record.items() if k != "protocol"}}
        record[options.part] = {**found, "machine": environment("cpu")}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")
        print(json.dumps(found, indent=1), flush=True)

    written(PARTS[options.part](options, written))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How many people can be kept apart? A plan says it before the work; then 20,000 are drawn, and looked at again.

The plan draws a pilot and predicts candidates, time and memory. What a source cannot give is refused at once, with the
number that it can give, where the published loop runs for ever.
"""

import argparse
import time
from pathlib import Path

import v2f_engine as v2f
from v2f_engine.errors import SaturationError
from v2f_engine.models.registry import locate
from v2f_engine.vectors.planner import plan_identities
from v2f_engine.vectors.sources import find_source


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    plan = plan_identities(1_000_000, find_source("gaussian"), 0.3)
    print("a million of a Gaussian, no two above cosine 0.3:", *plan.lines(), sep="\n  ")

    began = time.perf_counter()
    people = v2f.sample_identities(20_000, source="gaussian", max_cosine=0.3, seed=0)
    took = time.perf_counter() - began
    people.save(out / "people.safetensors")
    print(
        f"{len(people):,} drawn in {took:.1f} s: {out / 'people.safetensors'}, hash {people.table_hash[:12]}"
    )

    few = plan_identities(
        1_000_000, find_source("mini"), locate("mini", "generator").max_cosine, pilot_rows=4096
    )
    print("1,000,000 of mini:", "can be had" if few.feasible else "cannot be had")
    try:
        few.refuse_if_saturated()
    except SaturationError as error:
        print(" ", str(error).partition(": two")[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("identities_at_scale"))
    main(parser.parse_args().out)

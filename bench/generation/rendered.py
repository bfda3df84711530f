"""Rendered people drawn by torch beside the numba kernels: milliseconds an image, and how far the pictures differ.

    python -m bench.generation.rendered --device cuda
    python -m bench.generation.rendered --device cpu --rounds 1       works everywhere, and is slow

Protocol. 16 scenes of world 2, one person's, are assembled; each renderer draws them all, once to warm up and then
in turns, by the clock, pictures on the host at the end. `assembled` and `person` are what a core does for a
renderer on a GPU. `command` is `render_people` by torch with as many processes, second half of its batches. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from v2f_engine.rendered import make_person, render_people
from v2f_engine.rendered.renderers import drawing
from v2f_engine.rendered.scene import SCENES_AT_ONCE, assemble


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def command(device: str, processes: int, people: int) -> float:
    """Images/s of `render_people` while all processes are at work."""
    batches = render_people(1, range(people), SCENES_AT_ONCE, processes, renderer="torch", device=device)
    for _ in range(people // 2):
        next(batches)
    return (people - people // 2) * SCENES_AT_ONCE / seconds(lambda: list(batches))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1, help="of `command`; a GPU's context each")
    parser.add_argument("--people", type=int, default=0, help="of `command`; 0 leaves it out")
    o = parser.parse_args()
    person = make_person(31, 6)
    scenes = [assemble(person, image) for image in range(SCENES_AT_ONCE)]
    usual, batched = drawing("numba", "cpu"), drawing("torch", o.device)
    images, expected = np.stack(batched(scenes)).astype(int), np.stack(usual(scenes))
    difference = np.abs(images - expected)
    if (difference <= 1).mean() < 0.995:
        raise SystemExit(f"not timed: {(difference > 1).mean():.2%} of values differ by more than a level")
    calls: dict[str, Callable[[], Any]] = {
        "person": lambda: make_person(31, 6),
        "assembled": lambda: [assemble(person, image) for image in range(SCENES_AT_ONCE)],
        "numba": lambda: usual(scenes),
        "torch": lambda: batched(scenes),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(o.rounds):
        for name, call in calls.items():
            taken[name].append(seconds(call))
    for name, values in taken.items():
        print(f"  {name:10} {1e3 * statistics.median(values) / SCENES_AT_ONCE:.2f} ms an image")
    print(
        f"  differing values {(difference > 0).mean():.4%}, by more than a level {(difference > 1).mean():.4%}"
    )
    if o.people:
        print(
            f"  command    {command(o.device, o.processes, o.people):.0f} images/s, {o.processes} processes"
        )


if __name__ == "__main__":
    main()

"""Rendered people: processor milliseconds of a person and of an image, and the whole command's images/s.

    python -m bench.cpu.rendering                         40 people, 16 images each, 3 rounds, world 2 and 1
    python -m bench.cpu.rendering --people 8 --rounds 1 --json results.json

Protocol. `person` is `make_person`, `image` one image of `render_person`, both in this process, one thread, after
one person has been rendered (kernels loaded, the shared head derived). `command` is `v2f render` in its default form
with two processes on as many people, imports and start of the processes included, once per world. Rates are from
processor seconds (`time.process_time`, and `resource` for the command's processes), which other work on the machine
disturbs little, though it does empty shared caches; the command's seconds by the clock and the load stand beside.
Median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import environment
from v2f_engine.rendered import make_person, render_person
from v2f_engine.rendered.worlds import WORLDS

IMAGES = 16


def parts(world: int, people: int) -> tuple[float, float]:
    """(milliseconds of a person, of an image), processor time."""
    start = time.process_time()
    made = [make_person(0, identity, world=world) for identity in range(people)]
    middle = time.process_time()
    for person in made:
        render_person(person, range(IMAGES))
    end = time.process_time()
    return 1e3 * (middle - start) / people, 1e3 * (end - middle) / (people * IMAGES)


def command(world: int, people: int) -> tuple[float, float]:
    """(processor seconds of all its processes, seconds by the clock) of `v2f render`."""
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, "-c", "from v2f_engine.cli import main; main()", "render"]
        run += ["--ids", str(people), "--images", str(IMAGES), "--processes", "2", "--world", str(world)]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*run, "--out", f"{folder}/people"], check=True, capture_output=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    rows = []
    for world in sorted(WORLDS, reverse=True):
        render_person(make_person(0, 0, world=world), [0])
        taken = [parts(world, options.people) for _ in range(options.rounds)]
        person, image = (statistics.median(column) for column in zip(*taken, strict=True))
        processor, clock = command(world, options.people)
        count = options.people * IMAGES
        rows.append(
            {
                "world": world,
                "person_cpu_ms": round(person, 1),
                "image_cpu_ms": round(image, 2),
                "command_images_per_cpu_s": round(count / processor, 1),
                "command_images_per_s": round(count / clock, 1),
            }
        )
        print(f"  world {world}: a person {person:.1f} ms, an image {image:.2f} ms of processor time;")
        print(
            f"    the command {count / processor:.1f} images per processor second, {count / clock:.1f} by the clock"
        )
    record = {
        "people": options.people,
        "images": IMAGES,
        "rounds": options.rounds,
        "machine": environment("cpu"),
    }
    if options.json is not None:
        options.json.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

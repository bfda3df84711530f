"""Damages valid files in every way and reads them: an own error each, no crash, no hang, no memory.

    python fuzz.py INPUTS SEED     random mutations, INPUTS in all
    python fuzz.py corpus          the hand-made malformed files of corpus.py

Run by test_hostile_files.py in a process of its own; prints one line of JSON. Anything but a named error that says
file, reason and what to do is listed in `faults`. The longest time and the memory are the process's own.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

from corpus import malformed  # noqa: E402
from seeds import Seed, make_seeds  # noqa: E402

from v2f_engine.errors import V2FError  # noqa: E402

LIMIT_S = 5
LIMIT_WAIT_S = 60
MEMORY = 256 << 20
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` swallows it."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise Hang


def mutated(data: bytes, dice: random.Random) -> bytes:
    """`data` after one to four random changes."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        # Headers decide what is allocated: half of all changes hit the first or last 300 bytes.
        size = len(out)
        if not size:
            break
        place = dice.choice(
            (dice.randrange(size), dice.randrange(min(size, 300)), size - 1 - dice.randrange(min(size, 300)))
        )
        way = dice.randrange(8)
        if way == 0:
            out[place] ^= 1 << dice.randrange(8)
        elif way == 1:
            out[place] = dice.randrange(256)
        elif way == 2:
            del out[place:]
        elif way == 3:
            width = dice.choice((2, 4, 8))
            value = dice.choice(NUMBERS) % (1 << 8 * width)
            out[place : place + width] = value.to_bytes(width, dice.choice(("little", "big")))
        elif way == 4:
            out[place:place] = dice.randbytes(dice.randrange(1, 20))
        elif way == 5:
            del out[place : place + dice.randrange(1, 50)]
        elif way == 6:
            other = dice.randrange(size)
            out[place : place + 32] = out[other : other + 32]
        else:
            out += dice.randbytes(dice.choice((1, 8, 512)))
    return bytes(out)


class Judge:
    """Reads damaged files and keeps count."""

    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.read = 0
        self.faults: list[str] = []
        self.slowest = (0.0, "")
        self.most_memory = 0
        self.most_memory_by = ""

    def look(self, name: str, seed: Seed, what: str) -> None:
        self.inputs[name] += 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # of work
        signal.alarm(LIMIT_WAIT_S)  # of waiting, on a machine that may be busy with other things
        try:
            seed.read(seed.opened)
            self.read += 1
        except V2FError as error:
            self.errors[type(error).__name__] += 1
            text = str(error)
            if seed.path.name not in text and seed.opened.name not in text:
                self.faults.append(f"{what}: the message names no file: {text[:200]}")
            if len(text) < 25 or not (error.hint or "xpected" in text):
                self.faults.append(f"{what}: no reason or no hint: {text[:200]}")
        except Hang:
            self.faults.append(f"{what}: more than {LIMIT_S} s")
        except BaseException as error:
            self.faults.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        seconds = time.process_time() - started
        self.slowest = max(self.slowest, (seconds, what))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if grown > self.most_memory:
            self.most_memory, self.most_memory_by = grown, what
        if grown > MEMORY + 2 * seed.path.stat().st_size:
            self.faults.append(f"{what}: took {grown >> 20} MiB")

    def said(self) -> dict[str, Any]:
        return {
            "inputs": sum(self.inputs.values()),
            "by_format": self.inputs,
            "errors": self.errors,
            "still_readable": self.read,
            "faults": len(self.faults),
            "first_faults": self.faults[:12],
            "slowest_s": round(self.slowest[0], 2),
            "slowest": self.slowest[1],
            "most_memory_mib": self.most_memory >> 20,
            "most_memory_by": self.most_memory_by,
        }


def random_inputs(seeds: list[Seed], inputs: int, dice: random.Random, judge: Judge) -> None:
    originals = {seed.name: seed.path.read_bytes() for seed in seeds}
    for number in range(inputs):
        seed = seeds[number % len(seeds)]
        state = dice.getrandbits(64)
        seed.path.write_bytes(mutated(originals[seed.name], random.Random(state)))
        judge.look(seed.name, seed, f"{seed.name} (state {state})")
        if number % len(seeds) == len(seeds) - 1:
            for each in seeds:
                each.path.write_bytes(originals[each.name])


def hand_made(seeds: list[Seed], judge: Judge) -> None:
    for seed in seeds:
        original = seed.path.read_bytes()
        for name, content in malformed(seed.name, original):
            seed.path.write_bytes(content)
            judge.look(seed.name, seed, f"{seed.name}: {name}")
        seed.path.write_bytes(original)


def main(arguments: list[str]) -> int:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGPROF, _alarm)
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    judge = Judge()
    try:
        seeds = make_seeds(base)
        for seed in seeds:  # each must be fine undamaged, which also imports everything
            seed.read(seed.opened)
        # A library that believes a lying header then fails to allocate instead of taking the machine's memory.
        limit = _address_space() + (4 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if arguments[0] == "corpus":
            hand_made(seeds, judge)
        else:
            random_inputs(seeds, int(arguments[0]), random.Random(int(arguments[1])), judge)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(json.dumps(judge.said()))
    return int(bool(judge.faults))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

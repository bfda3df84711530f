"""Trains tiny generators in forked ranks that talk over gloo, kills them with SIGKILL, and compares loss curves.

    python train_harness.py kill WORLD KILLS SEED STEPS   one line of JSON: is the curve the undisturbed one's?
    python train_harness.py ranks                     1 rank x 16, 2 ranks x 8, 1 rank x 2 parts of 8: the curves
    python train_harness.py ranks sharp               the same; the discriminator sees vectors and windows
    torchrun ... train_harness.py train OUT           one training, for torchrun

Run by test_generator_crash.py in a process of its own: it forks after importing torch, so nothing here may run
a backward pass before the fork.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.vec2face import Vec2FaceConfig
from v2f_engine.train.distributed import joined
from v2f_engine.train.emulated import bf16_here
from v2f_engine.train.generator import GeneratorTrainer, GeneratorTraining, train_generator
from v2f_engine.train.loop import Budget, read_log
from v2f_engine.train.losses import LossWeights

EYE = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 16), stem_stride=4)
TINY = Vec2FaceConfig(32, 1, 2, 1, 2, 8, 4, (1, 1, 1, 2, 2), 1, 4, 0.0)
ALL = LossWeights(absolute=0.5, perceptual=0.1, identity=0.2, token=0.01, gan=0.05, gan_from=0.4)
SLOWEST_S = 1800.0


def people(count: int = 4, each: int = 6) -> MemorySet:
    """Each 'person' a pattern of coarse blocks, and noise."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (count, 1, 7, 7, 3)).astype(np.float32).repeat(16, 2).repeat(16, 3)
    images = np.clip(base + rng.normal(0, 15, (count, each, 112, 112, 3)), 0, 255).astype(np.uint8)
    labels = np.repeat(np.arange(count), each)
    features = rng.normal(size=(count, 512)).astype(np.float32)[labels]
    return MemorySet(images.reshape(-1, 112, 112, 3), labels, features)


def small_recogniser() -> IResNet:
    torch.manual_seed(0)
    return IResNet(EYE).eval()


BF16 = bf16_here("cpu")


def settings(
    out: Path, *, steps: int = 8, batch: int = 2, accumulate: int = 1, bf16: bool = BF16
) -> GeneratorTraining:
    # bf16 where it is in hardware: oneDNN takes 0.3 s for the fp32 weight gradient of the discriminator's 15x15
    # convolution, else 3 ms; emulated, bf16 takes four times as long as fp32.
    return GeneratorTraining(
        out, TINY, weights=ALL, budget=Budget(steps=steps), batch=batch, accumulate=accumulate, bf16=bf16,
        critic_width=8, checkpoint_every=3, log_every=4, picture_every=0, base_lr=0.02,
    )  # fmt: skip


def train(wanted: GeneratorTraining, reached: Callable[[int], None] = lambda step: None) -> None:
    """One rank's whole training; `reached` hears every step before it is taken."""
    torch.set_num_threads(1)
    step = GeneratorTrainer.step

    def heard(self: GeneratorTrainer, number: int, progress: float):  # type: ignore[no-untyped-def]
        reached(number)
        return step(self, number, progress)

    GeneratorTrainer.step = heard  # type: ignore[method-assign]
    with joined("cpu") as group:
        train_generator(people(), small_recogniser(), wanted, group=group, say=lambda line: None)


def start(wanted: GeneratorTraining, world: int, reached: Callable[[int], None]) -> list[int]:
    """Process ids of the ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            if world > 1:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                }  # fmt: skip
            try:
                train(wanted, reached if rank == 0 else lambda step: None)
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"rank {rank}: {type(error).__name__}: {str(error)[:200]}\n")
                os._exit(1)
        children.append(child)
    return children


def finish(children: list[int]) -> list[int]:
    """Exit codes; a rank that outlives a dead one by too long is an error."""
    codes: dict[int, int] = {}
    end = time.monotonic() + SLOWEST_S
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    codes[child] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGKILL)
            raise TimeoutError(f"ranks {children} did not end; exit codes so far {codes}")
        time.sleep(0.002)
    return [codes[child] for child in children]


def kill(world: int, kills: int, seed: int, steps: int) -> dict[str, object]:
    """An undisturbed training and one that is killed `kills` times, at ascending random steps."""
    draw = random.Random(seed)
    counter = mmap.mmap(-1, 8)

    def reached(step: int) -> None:
        counter[:8] = struct.pack("q", step)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = time.monotonic()
        assert finish(start(settings(folder / "whole", steps=steps), world, reached)) == [0] * world
        a_step = (time.monotonic() - started) / steps
        wanted = settings(folder / "killed", steps=steps)
        at = sorted(draw.sample(range(1, steps), kills))
        alone = 0
        for step in at:
            reached(-1)
            children = start(wanted, world, reached)
            end = time.monotonic() + SLOWEST_S
            while struct.unpack("q", counter[:8])[0] < step and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, a_step))
            victims = children if draw.random() < 0.5 else [draw.choice(children)]
            alone += len(victims) < world
            for child in victims:
                os.kill(child, signal.SIGKILL)
            finish(children)  # the others fail by themselves, or had done their last step
        assert finish(start(wanted, world, reached)) == [0] * world
        curves = [curve(folder / name) for name in ("whole", "killed")]
        weights = [(folder / name / "generator.safetensors").read_bytes() for name in ("whole", "killed")]
        checkpoints = sorted(path.name for path in (folder / "killed" / "checkpoints").iterdir())
    return {
        "at": at, "one_rank_only": alone, "lines": len(curves[0]), "curve": curves[0] == curves[1],
        "weights": weights[0] == weights[1], "checkpoints": checkpoints,
    }  # fmt: skip


def curve(folder: Path) -> list[dict[str, float]]:
    """The log without what the clock decides."""
    return [
        {k: v for k, v in line.items() if k != "images_per_second"} for line in read_log(folder / "log.jsonl")
    ]


SHARP: dict[str, Any] = {
    "critic_vector": True, "critic_side": 80, "subpixel": True, "background": 0.2,
    "weights": replace(ALL, gan_from=0.0),
}  # fmt: skip


def ranks(**changes: Any) -> dict[str, object]:
    """The same batch of 16, divided in three ways."""
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, world, accumulate in (("1x16", 1, 1), ("2x8", 2, 1), ("1x8x2", 1, 2)):
            wanted = settings(Path(temporary) / name, steps=3, batch=16, accumulate=accumulate, bf16=False)
            wanted = replace(wanted, **changes)
            assert finish(start(wanted, world, lambda step: None)) == [0] * world
            found[name] = curve(wanted.out)
    return {"curves": found}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["kill", world, kills, seed, steps]:
            print(json.dumps(kill(int(world), int(kills), int(seed), int(steps))))
        case ["ranks"]:
            print(json.dumps(ranks()))
        case ["ranks", "sharp"]:
            print(json.dumps(ranks(**SHARP)))
        case ["train", out]:
            train(settings(Path(out), steps=3, batch=16, bf16=False))

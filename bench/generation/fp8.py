"""The 8-bit residual convolutions: do faces stay the same person, and only then, is the network 1.2 times as fast?

    python -m bench.generation.fp8 --device cuda --out FOLDER   Triton kernels: ADMITTED or REFUSED, with the numbers
    python -m bench.generation.fp8 --device cpu --images 64     the specification in fp32 arithmetic; no times

The first gate. Faces of `mini` made with e4m3 in all residual blocks and in fp32, from the same inputs, through its
recogniser: the mean cosine between a face's two features must be at least `MEAN`, and the 5th percentile `FIFTH`. The
same for the half-precision decoder is printed beside it. The second, `bench.generation.fp8_admission`: base size, e4m3
at the shapes where it wins, against what `choose` takes. Nothing is timed that the first gate refuses; base weights are
random here, so a passed gate speaks for `mini` alone: run it on weights of your own with --model and --recogniser.

In fp32 arithmetic on rounded values (CPU, 128 faces of `mini`): blocks of 56 and 112 pixels mean 0.9992, 5th percentile
0.9986; of 28 and above 0.9988, 0.9979; all 0.9981, 0.9969, 0.63 grey levels off.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import machine, protocol
from bench.generation import rungs
from bench.generation.fp8_admission import admission, bound
from bench.generation.fp8_network import eight_bit
from v2f_engine.backends import choose
from v2f_engine.models.features import extract_features
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import load_generator, load_recogniser
from v2f_engine.vectors.sampling import sample_identities

MEAN, FIFTH = 0.99, 0.97
"""Cosines of a face with itself. Two faces of one person differ far more; the wish is that nobody could tell."""


def faces(model: Vec2Face, dtype: torch.dtype, device: str, images: int, source: Any) -> np.ndarray:
    """uint8 faces of sampled identities, one each."""
    table = sample_identities(images, max_cosine=0.5, seed=5, source=source)
    rows = np.arange(images, dtype=np.int64)
    noise, n_masked = MASK_SCHEDULES["generate"].draw(5, rows, rows * 0)
    made = []
    with torch.inference_mode():
        for first in range(0, images, 16):
            part = [
                torch.from_numpy(a[first : first + 16]).to(device) for a in (table.vectors, noise, n_masked)
            ]
            made.append(model.decode(part[0].to(dtype), part[1], part[2], rungs.N_DROPPED).cpu().numpy())
    return np.concatenate(made)


def frozen(model: Vec2Face, device: str, precision: str) -> tuple[Vec2Face, torch.dtype]:
    choice = choose(device, precision)
    return bound(model, choice), choice.dtype


def cosines(images: np.ndarray, exact: np.ndarray, recogniser: Any) -> np.ndarray:
    """Cosine of each face's features with those of its exact version, float `[B]`."""
    a, b = (extract_features(recogniser, x).astype(np.float64) for x in (images, exact))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def gate(values: np.ndarray) -> tuple[bool, str]:
    """Whether faces stay who they are, and in words."""
    mean, fifth = float(values.mean()), float(np.quantile(values, 0.05))
    words = (
        f"identity cosine mean {mean:.4f} (at least {MEAN}), 5th percentile {fifth:.4f} (at least {FIFTH})"
    )
    return mean >= MEAN and fifth >= FIFTH, words


def judged(model: str, recogniser: str, device: str, images: int) -> list[tuple[str, bool, str]]:
    """(contender, passed, words) of the half-precision decoder and of the 8-bit one."""
    loaded, judge = load_generator(model), load_recogniser(recogniser).model
    exact, dtype = frozen(loaded.model, device, "fp32")
    expected = faces(exact, dtype, device, images, loaded.statistics)
    rows = []
    precision = "fp16" if device != "cpu" else "fp32"
    for name, eight in (("half precision", False), ("e4m3 residual convolutions", True)):
        network, dtype = frozen(loaded.model, device, precision if eight else "auto")
        if eight:
            network = eight_bit(network, "reference" if device == "cpu" else "triton")
        made = faces(network, dtype, device, images, loaded.statistics)
        grey = float(np.abs(made.astype(int) - expected).mean())
        passed, words = gate(cosines(made, expected, judge))
        rows.append(
            (f"{name} ({str(dtype).removeprefix('torch.')})", passed, f"{words}; {grey:.2f} grey levels off")
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--recogniser", default="mini")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--out", type=Path, help="folder for fp8.json and fp8.md")
    options = parser.parse_args(arguments)
    report = protocol.Report("8-bit convolutions", machine.environment(options.device))
    found = judged(options.model, options.recogniser, options.device, options.images)
    report.rows = identity_rows(found, options.model, options.images)
    admitted = identity = found[1][1]
    if options.device == "cpu":
        report.notes.append("no times: on a CPU the specification runs, in fp32 arithmetic")
    else:
        base = choose(options.device, "fp16")
        rows, admitted, words = admission(
            rungs.network("base"), base, "triton", options.batch, (identity, found[1][2])
        )
        report.rows += rows
        report.notes.append(words)
    print(report.as_markdown())
    if options.out:
        report.write(options.out, "fp8")
    return 0 if admitted else 1


def identity_rows(found: list[tuple[str, bool, str]], model: str, images: int) -> list[protocol.Row]:
    """Of what `judged` found."""
    return [
        protocol.Row("identity", f"{model}, {images} faces", name, ok, words) for name, ok, words in found
    ]


if __name__ == "__main__":
    sys.exit(main())

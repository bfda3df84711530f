"""The 8-bit residual convolutions, an experiment: do faces stay the same person, and only then, what is gained?

    python -m bench.generation.fp8 --device cuda              Triton kernels, mini by its recogniser; times at base size
    python -m bench.generation.fp8 --device cpu --images 64   the specification in fp32 arithmetic; no times

The gate. Faces of `mini` made with e4m3 convolutions and in fp32, from the same inputs, through `mini`'s recogniser:
the mean cosine between a face's two features must be at least `MEAN`, and the 5th percentile `FIFTH`. The same for
the half-precision decoder is printed beside it. No time is printed for what the gate refuses; and base weights are
random here, so a passed gate speaks for `mini` alone: run it on weights of your own with --model and --recogniser.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import machine, protocol
from bench.candidates.conv3x3_fp8 import OP, quantise_weight
from bench.generation import rungs
from v2f_engine.backends import choose
from v2f_engine.models import bind_ops
from v2f_engine.models.features import extract_features
from v2f_engine.models.fold import freeze
from v2f_engine.models.image_decoder import NORM_EPS, ResidualBlock
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import load_generator, load_recogniser
from v2f_engine.vectors.sampling import sample_identities

MEAN, FIFTH = 0.99, 0.97
"""Cosines of a face with itself. Two faces of one person differ far more; the wish is that nobody could tell."""


class EightBitBlock(nn.Module):
    """A frozen `ResidualBlock` with both products in e4m3."""

    def __init__(self, block: ResidualBlock, backend: str) -> None:
        super().__init__()
        self.conv = OP.backend(backend)
        self.shortcut, self.keeps = block.nin_shortcut, block.keeps_channels
        self.norms = [(norm.weight, norm.bias, block.groups, NORM_EPS) for norm in (block.norm1, block.norm2)]
        self.weights = [quantise_weight(conv.weight) for conv in (block.conv1, block.conv2)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv(x, *self.weights[0], self.norms[0])
        out: torch.Tensor = self.conv(h, *self.weights[1], self.norms[1], x if self.keeps else None)
        return out if self.shortcut is None else out + self.shortcut(out)


def eight_bit(model: Vec2Face, backend: str) -> Vec2Face:
    """The frozen model, its residual blocks replaced; the first and last convolution stay as they are, and on a
    GPU blocks of fewer channels than an 8-bit matrix instruction reads."""
    for parent in list(model.im_decoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ResidualBlock) and (backend == "reference" or fits(child)):
                setattr(parent, name, EightBitBlock(child, backend))
    return model


def fits(block: ResidualBlock) -> bool:
    """Whether the Triton kernel takes this block's channels."""
    return block.conv1.in_channels % 32 == 0 and block.conv2.in_channels % 32 == 0


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
    made = freeze(model, device=choice.device, dtype=choice.dtype)
    bind_ops(made, choice)
    return made, choice.dtype


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


def timed(device: str, rows: int, rounds: int) -> list[protocol.Row]:
    """Base size, device only: what `choose` takes, and the same with 8-bit blocks, interleaved."""
    batch, calls = rungs.Batch.draw(rows, device), {}
    for name, eight in (("half precision", False), ("e4m3 residual convolutions", True)):
        network, dtype = frozen(rungs.network("base"), device, "fp16")
        network = eight_bit(network, "triton") if eight else network
        vectors = batch.device[0].to(dtype)

        def call(_: int, n: Vec2Face = network, v: torch.Tensor = vectors) -> object:
            with torch.inference_mode():
                return n.decode(v, batch.device[1], batch.device[2], rungs.N_DROPPED)

        calls[name] = call
    found = protocol.time_calls(calls, device=device, rounds=rounds, budget_s=60.0)
    return [
        protocol.Row(
            "8-bit convolutions, device only", f"base, batch {rows}", name, True, "gate of mini passed", timing,
            items=rows, baseline="half precision",
        )
        for name, timing in found.items()
    ]  # fmt: skip


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
    report = protocol.Report("8-bit convolutions, an experiment", machine.environment(options.device))
    case = f"{options.model}, {options.images} faces"
    found = judged(options.model, options.recogniser, options.device, options.images)
    report.rows = [protocol.Row("identity", case, name, passed, words) for name, passed, words in found]
    if options.device == "cpu":
        report.notes.append("no times: on a CPU the specification runs, in fp32 arithmetic")
    elif not found[1][1]:
        report.notes.append("no times: the gate refused the 8-bit convolutions")
    else:
        report.rows += timed(options.device, options.batch, 10)
    print(report.as_markdown())
    if options.out:
        report.write(options.out, "fp8")
    return 0 if found[1][1] else 1


if __name__ == "__main__":
    sys.exit(main())

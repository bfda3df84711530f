"""Launches under the compile gate: noise drawn in the kernel, and noise given."""

from __future__ import annotations

import torch

from bench.candidates.perturb import triton_op as gpu


def _perturb(drawn: bool) -> None:
    vectors, sigma = torch.empty((8, 512), device="meta"), torch.empty(8, device="meta")
    place = torch.empty(8, dtype=torch.uint32, device="meta")
    noise = None if drawn else torch.empty_like(vectors)
    gpu.launch_perturb(vectors, sigma, noise, (2**63 + 1, 3, place, place) if drawn else None, vectors)


CASES = {"512 drawn": lambda: _perturb(True), "512 given": lambda: _perturb(False)}
BY_SHAPE: dict[str, object] = {}  # no table chooses a backend for it

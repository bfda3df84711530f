"""Which part of a training step takes how much: by leaving terms out, and kernel by kernel.

Shares come from leaving terms out, one after the other: what a step gets cheaper by is what the part costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench import protocol
from bench.kernels.step_profile import Kernel, kernels_of
from bench.training.rungs import NAMED, Rung, opened, rung_named, stepper, timed, trainer_of
from bench.training.setup import sized
from v2f_engine.train.losses import PRESETS

SHARES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("discriminator", {"gan": 0.0}),
    ("perceptual and recogniser", {"gan": 0.0, "perceptual": 0.0, "identity": 0.0}),
    ("ssim", {"gan": 0.0, "perceptual": 0.0, "identity": 0.0, "ssim": 0.0}),
)
"""Part -> weights without it, from the whole step down; what is left is the generator and its optimiser."""


def quickest(device: str) -> Rung:
    """The rung whose parts are worth knowing: the graph where there is a GPU, our kernels elsewhere."""
    return NAMED["5 our kernels" if device == "cpu" else "6 one CUDA graph"]


def shares(
    name: str, device: str, batch: int | None = None, *, rounds: int = 5, budget_s: float = 60.0
) -> list[protocol.Row]:
    """Seconds of each part of the quickest rung's step."""
    size, rung = sized(name, batch), quickest(device)
    weights = PRESETS["published-2025"]
    steps = [("the whole step", weights), *((part, replace(weights, **w)) for part, w in SHARES)]
    timings: list[protocol.Timing] = []
    for _, remaining in steps:
        with opened(trainer_of(rung, size, device, weights=remaining)) as trainer:
            timings.append(timed(stepper(trainer), device, rounds, budget_s / len(steps)))
    whole = timings[0].p50
    parts = [(part, timings[i].p50 - timings[i + 1].p50) for i, (part, _) in enumerate(SHARES)]
    parts.append(("generator and optimiser", timings[-1].p50))
    return [
        protocol.Row(
            "shares of a step", f"{name}, batch {size.batch}", part, True,
            f"{100 * seconds / whole:.0f} % of the step, by leaving it out",
            protocol.Timing(seconds, seconds, seconds, timings[0].rounds, timings[0].calls, "difference"),
        )
        for part, seconds in parts
        if seconds > 0
    ]  # fmt: skip


def step_profile(name: str, device: str, batch: int | None = None, rung: str | None = None) -> list[Kernel]:
    """The kernels of one step of a rung (the quickest where None), the longest first."""
    chosen = quickest(device) if rung is None else rung_named(rung)
    with opened(trainer_of(chosen, sized(name, batch), device)) as trainer:
        return kernels_of(stepper(trainer), device)


def kernel_table(kernels: list[Kernel], top: int = 30) -> str:
    """Markdown of the longest kernels, and of the rest together."""
    lines = ["| kernel | launches a step | us a step | share |", "|---|---:|---:|---:|"]
    lines += [
        f"| {k.name[:90]} | {k.launches:g} | {k.us:.1f} | {100 * k.share:.1f} % |" for k in kernels[:top]
    ]
    rest = kernels[top:]
    lines.append(
        f"| {len(rest)} others | {sum(k.launches for k in rest):g} | {sum(k.us for k in rest):.1f} |"
        f" {100 * sum(k.share for k in rest):.1f} % |"
    )
    return "\n".join(lines) + "\n"

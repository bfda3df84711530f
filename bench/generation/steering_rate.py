"""Steering iterations per second: our loop against a loop as the published scripts run it.

    python -m bench.generation.steering_rate --device cpu --batch 4

Both sides do one full iteration on the same vectors, masks and targets at base size: generator, ArcFace R100,
MagFace R100 and 6DRepNet forward, the loss (100 x identity + quality + pose), backward to the vectors, Adam step.

- published style: eager fp32, NCHW, every weight of all four networks requires and accumulates a gradient,
  the graph is retained, one loss and one stop for the whole batch, which the host reads.
- ours: frozen and folded networks, channels-last, input gradients only, each sample's own state; `fp32` for the
  same arithmetic, and the precision `backends.choose` picks for the device.

Weights are random (no released weights are needed; the arithmetic is the same), residual branches scaled by 0.1
so that 49 blocks do not overflow. Before a time is printed, our gradient on the vectors must agree with the
published-style one (both through images rounded to bytes): cosine over 0.999 in fp32, over 0.9 in half precision.
Contenders are interleaved. On a CPU with one thread the clock is the process's own CPU time, which other
processes on the machine do not stretch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from bench import RESULTS
from bench.generation.published import published_forward
from bench.machine import environment
from bench.protocol import Report, Row, Timing, hash_of, time_calls
from v2f_engine import backends
from v2f_engine.attributes.sixd import OUTPUTS, SixDRepNet
from v2f_engine.attributes.steering import Steerer, SteeringSettings, to_bytes_through
from v2f_engine.attributes.targets import Objective, feature_norm, identity_cosine, pose
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.iresnet import Block, IResNet, IResNetConfig
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

MASKS = MASK_SCHEDULES["generate"]
N_MASKED = 16
YAW, QUALITY = 45.0, 1e9
"""An unreachable quality keeps both loops going."""
GFLOP = {"published style": 293.0, "frozen": 195.0}
"""Of one image and iteration, without the pose network (reference/kernels.md)."""
BOUNDS = {torch.float32: 0.999, torch.bfloat16: 0.9, torch.float16: 0.9}


@dataclass(frozen=True)
class Networks:
    """All four, trainable and unfolded."""

    generator: Vec2Face
    arcface: IResNet
    magface: IResNet
    pose: SixDRepNet


def recogniser(layers: str, seed: int) -> IResNet:
    torch.manual_seed(seed)
    model = IResNet(IResNetConfig.named(layers))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, Block):
                module.bn3.weight.fill_(0.1)
    return model.eval()


def networks(size: str, layers: str) -> Networks:
    generator = Vec2Face(getattr(Vec2FaceConfig, size)())
    generator.initialise(torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    sixd = SixDRepNet().eval()
    return Networks(generator.eval(), recogniser(layers, 1), recogniser(layers, 2), sixd)


class PublishedStyle:
    """One batch steered as the published scripts do."""

    def __init__(self, nets: Networks, vectors: torch.Tensor, noise: torch.Tensor) -> None:
        self.nets, self.noise = nets, noise
        self.identity = vectors.clone()
        self.vectors = vectors.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.vectors], lr=0.1)

    def loss(self, *, rounded: bool = False) -> tuple[torch.Tensor, ...]:
        nets = self.nets
        images = published_forward(nets.generator, self.vectors, self.noise, N_MASKED, MASKS.n_dropped)
        images = to_bytes_through(images)[1] if rounded else images.clamp(-1, 1)
        distance = (1 - F.cosine_similarity(nets.arcface(images), self.identity)).mean()
        missing = F.relu(QUALITY - nets.magface(images).norm(dim=1)).mean()
        turned = (YAW - nets.pose(images)[:, 0].abs()).abs().mean()
        return 100 * distance + missing + turned, distance, missing, turned

    def gradient(self) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(self.loss(rounded=True)[0], self.vectors)
        return gradient * len(self.vectors)  # of the sum, as every sample's own

    def __call__(self, _: int) -> None:
        loss, distance, missing, turned = self.loss()
        self.optimizer.zero_grad()
        loss.backward(retain_graph=True)
        self.optimizer.step()
        if distance.item() < 0.3 and missing.item() < 1 and turned.item() < 5:
            raise RuntimeError("the targets were meant to be out of reach")


def ours(nets: Networks, choice: backends.Choice, vectors: torch.Tensor, noise: torch.Tensor) -> Steerer:
    where = {"device": choice.device, "dtype": choice.dtype}
    generator = freeze(nets.generator, **where)
    bind_ops(generator, choice)
    arcface, magface, sixd = (freeze(m, **where) for m in (nets.arcface, nets.magface, nets.pose))
    objective = Objective(
        [
            identity_cosine(arcface),
            feature_norm(magface, QUALITY),
            pose(sixd, OUTPUTS, "yaw", YAW, compare="magnitude"),
        ]
    )
    settings = SteeringSettings(iterations=10**9, slots=len(vectors))
    graph = choice.device.startswith("cuda")
    loop = Steerer(generator, objective, settings, n_dropped=MASKS.n_dropped, graph=graph)
    state = loop.slots
    rows = {
        "vectors": vectors,
        "identity": vectors,
        "noise": noise,
        "n_masked": torch.full((len(vectors),), N_MASKED, device=vectors.device),
        "goals": torch.tensor([[1.0, QUALITY, YAW]], device=vectors.device).expand(len(vectors), -1),
    }
    state.put(torch.arange(len(vectors), device=vectors.device), rows)
    return loop


def cpu_seconds(
    contenders: Mapping[str, Callable[[int], object]], rounds: int, budget: float
) -> dict[str, Timing]:
    """One warm-up and up to `rounds` calls of each, in turn, by the CPU time of this process."""
    for call in contenders.values():
        call(0)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.process_time()
            call(0)
            seconds[name].append(time.process_time() - start)
        if time.perf_counter() - begin > budget:
            break
    return {name: Timing.of(values, 1, "process_time") for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="base", choices=["mini", "base"])
    parser.add_argument("--recogniser", default="iresnet100")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds of measuring")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="attributes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    auto = backends.choose(options.device, gradients=True)
    choices = {"fp32": backends.choose(auto.device, "fp32", gradients=True)} | {auto.precision: auto}
    nets = networks(options.size, options.recogniser)
    for network in (nets.generator, nets.arcface, nets.magface, nets.pose):
        network.to(auto.device)
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(options.batch, 512, generator=generator).to(auto.device)
    noise = torch.rand(options.batch, 49, generator=generator).to(auto.device)

    published = PublishedStyle(nets, vectors, noise)
    expected = published.gradient()
    contenders: dict[str, Callable[[int], object]] = {"published style": published}
    checks = {"published style": (True, "baseline")}
    for name, choice in choices.items():
        loop = ours(nets, choice, vectors, noise)
        cosine = float(F.cosine_similarity(loop.gradient()[1].float(), expected, dim=1).min())
        bound = BOUNDS[choice.dtype]
        checks[f"ours {name}"] = (cosine > bound, f"gradient cosine {cosine:.5f} > {bound}")
        if cosine > bound:
            contenders[f"ours {name}"] = lambda _, loop=loop: loop.advance()  # type: ignore[misc]
    if auto.device == "cpu" and options.threads == 1:
        timings = cpu_seconds(contenders, options.rounds, options.budget)
    else:
        timings = time_calls(contenders, device=auto.device, rounds=options.rounds, budget_s=options.budget)
    report = Report(f"Steering iterations, {options.size} size", environment(auto.device))
    for name, (passed, check) in checks.items():
        flop = GFLOP["published style" if name == "published style" else "frozen"] * 1e9 * options.batch
        report.rows.append(
            Row(
                "one iteration of the batch",
                f"batch {options.batch}, {options.recogniser}",
                name,
                passed,
                check,
                timings.get(name),
                flop=flop if options.size == "base" else 0.0,
                items=options.batch,
                inputs=hash_of([vectors, noise]),
                baseline="published style",
            )
        )
    report.write(RESULTS, options.name)
    print(report.as_markdown())


if __name__ == "__main__":
    main()

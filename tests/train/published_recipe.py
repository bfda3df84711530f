"""The published training of a generator, computed again: plain torch, formulas written out, no loss of ours.

What is shared with the engine is the networks' forward pass (held by tests/golden) and the batches. Written from what
HaiyuWu/Vec2Face e0b439c and 9d9fa8c and HaiyuWu/Vec2Face_plus 7aea100 do, in words of its own.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Facts:
    """What a release does.

    Args:
        lpips, ssim: factors of LPIPS, which stands in the loss twice, and of 1 - SSIM.
        maps: of VGG16 that LPIPS compares.
        critic_from: the epoch from which the discriminator counts, as a share; None where there is none.
        adaptive: factor of the adaptive weight; None for weight 1.
        clip: of both gradients; None for none.
    """

    lpips: float
    ssim: float
    maps: int
    critic_from: float | None
    adaptive: float | None
    clip: float | None


FACTS = {
    "published-2024": Facts(2.0, 1.0, 4, 0.5, 0.8, None),
    "published-2025": Facts(0.2, 0.1, 5, 0.8, None, 2.0),
    "plus": Facts(0.4, 1.0, 5, None, None, 1.0),
}


def gaussian_window() -> torch.Tensor:
    """`[3, 1, 11, 11]`: sigma 1.5, sum 1."""
    ticks = torch.arange(-5.0, 6.0, dtype=torch.float64)
    row = torch.exp(-(ticks**2) / 4.5)
    square = torch.outer(row, row)
    return (square / square.sum()).expand(3, 1, 11, 11).contiguous()


def structural_distance(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """1 - SSIM of images in [-1, 1], on [0, 1], by a two-dimensional window over whole positions."""
    window = gaussian_window()
    a, b = (fake + 1) / 2, (real + 1) / 2

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, window, groups=3)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    value = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return 1 - value.mean()


def lpips(
    fake: torch.Tensor, real: torch.Tensor, weights: dict[str, torch.Tensor], maps: int
) -> torch.Tensor:
    """`[B]` by VGG16 under torchvision's names and the linear layers of LPIPS, in the widths the weights have."""
    shift = torch.tensor([-0.030, -0.088, -0.188]).double().view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).double().view(1, 3, 1, 1)

    def through(x: torch.Tensor) -> list[torch.Tensor]:
        x, found, place = (x - shift) / scale, [], 0
        for stage, convolutions in enumerate((2, 2, 3, 3, 3)[:maps]):
            if stage:
                x, place = F.max_pool2d(x, 2), place + 1
            for _ in range(convolutions):
                x = F.conv2d(x, weights[f"{place}.weight"], weights[f"{place}.bias"], padding=1).relu()
                place += 2
            found.append(x)
        return found

    total = torch.zeros(len(fake), dtype=torch.float64)
    for level, (a, b) in enumerate(zip(through(fake), through(real), strict=True)):
        unit_a, unit_b = (x / x.pow(2).sum(1, keepdim=True).sqrt().clamp(min=1e-4) for x in (a, b))
        head = weights[f"lin{level}.model.1.weight"].view(1, -1, 1, 1)
        total = total + (head * (unit_a - unit_b) ** 2).sum(1).mean((1, 2))
    return total


class Recomputed:
    """A training that begins with the same weights as another one, in fp64.

    Args:
        model, critic, recogniser: copied.
        vgg: weights of LPIPS by name.
        facts: of the release.
        rate: blr x effective batch / 112.
        epochs, warm_up: in epochs.
        per_epoch: steps of an epoch.
    """

    def __init__(
        self, model: nn.Module, critic: nn.Module, recogniser: nn.Module, vgg: dict[str, torch.Tensor], facts: Facts,
        *, rate: float, epochs: float, warm_up: float, per_epoch: int,
    ) -> None:  # fmt: skip
        self.model, self.critic = copy.deepcopy(model).double().train(), copy.deepcopy(critic).double()
        self.recogniser = copy.deepcopy(recogniser).double().eval()
        self.vgg, self.facts, self.rate = vgg, facts, rate
        self.epochs, self.warm_up, self.per_epoch = epochs, warm_up, per_epoch
        self.model.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, betas=(0.9, 0.99))
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=rate, betas=(0.9, 0.99))

    def rate_at(self, step: int) -> float:
        epoch = step / self.per_epoch
        if epoch < self.warm_up:
            return self.rate * epoch / self.warm_up
        return (
            self.rate * 0.5 * (1 + math.cos(math.pi * (epoch - self.warm_up) / (self.epochs - self.warm_up)))
        )

    def step(self, number: int, part: Any) -> dict[str, float]:
        """One update on a batch; its terms before it."""
        facts = self.facts
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate_at(number)
        real = part.images.permute(0, 3, 1, 2).double() / 127.5 - 1
        out = self.model(
            part.features, part.noise, part.n_masked, part.n_dropped, dropout_seed=part.dropout_seed
        )
        fake, terms = out.images, {}
        seen = self.recogniser(fake)
        stored = part.features.double()
        cosine = (seen * stored).sum(1) / (seen.norm(dim=1) * stored.norm(dim=1))
        terms["pixel"] = (fake - real).square().mean()
        terms["perceptual"] = lpips(fake, real, self.vgg, facts.maps).mean()
        terms["ssim"] = structural_distance(fake, real)
        terms["identity"] = (1 - cosine).mean()
        terms["token"] = (out.tokens[:, 1:] - out.target_tokens[:, 1:].detach()).square().mean()
        total = (
            terms["pixel"] + facts.lpips * terms["perceptual"] + facts.ssim * terms["ssim"] + terms["identity"]
            + terms["token"]
        )  # fmt: skip
        self.optimizer.zero_grad()
        self.critic_optimizer.zero_grad()
        if facts.critic_from is not None:
            begun = float(number // self.per_epoch >= facts.critic_from * self.epochs)
            terms["gan"] = -self.critic(fake).mean()
            weight = 1.0
            if facts.adaptive is not None:
                last = self.model.get_parameter("im_decoder.conv_out.weight")
                ours, theirs = (
                    torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
                    for loss in (total, terms["gan"])
                )
                weight = facts.adaptive * float((ours / (theirs + 1e-4)).clamp(0, 1e4))
            total = total + weight * begun * terms["gan"]
            on_real, on_fake = self.critic(real), self.critic(fake.detach())
            terms["critic"] = ((on_real - 1).square().mean() + on_fake.square().mean()) / 2
            (begun * terms["critic"]).backward()
        total.backward()  # through the discriminator, whose gradients it adds to
        length = torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]).norm()
        terms["gradient"] = length
        if facts.clip is not None:
            for module in (self.model, self.critic):
                nn.utils.clip_grad_norm_(module.parameters(), facts.clip)
        self.optimizer.step()
        self.critic_optimizer.step()
        return {name: float(value.detach()) for name, value in terms.items()}

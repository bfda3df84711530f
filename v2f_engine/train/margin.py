"""Margins on the cosine of the true class: what makes a recogniser keep identities apart.

A head's logits are `s cos(theta_j)`; the true class's cosine is first replaced by a smaller one:

    arcface   cos(theta + m), theta + m at most pi            Deng et al. 2019
    arcface-published   cos(theta + m) for every theta        HaiyuWu/SOTA-FR b8c42fe, losses.py
    cosface   cos(theta) - m                                  Wang et al. 2018
    adaface   cos(theta - m z) - (m + m z)                    Kim et al. 2022
              z = clip(h (|f| - mean) / (std + 1e-3), -1, 1): a feature's length tells how good its image is
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from v2f_engine.config import between, one_of

ANGLE_FLOOR = 1e-3
"""AdaFace keeps angles this far from 0 and pi, and adds it to the deviation."""
COSINE_LIMIT = 1.0 - 1e-6
Number = float | torch.Tensor


class Margin(nn.Module):
    """Replaces the true class's cosine.

    Args:
        m: the margin; radians for an angle.
        straight: the gradient passes as if the margin were a constant, as insightface's code and its
            descendants have it, the Vec2Face authors' among them; otherwise it is the exact one.
    """

    limit = COSINE_LIMIT
    """Cosines are kept between this and its negative: an angle's gradient is infinite at 1."""

    def __init__(self, m: float, straight: bool = False) -> None:
        super().__init__()
        between("margin", m, 0.0, 2.0)
        self.m, self.straight = m, straight

    def observe(self, norms: torch.Tensor) -> None:
        """Sees the lengths `[B]` of all features of a step, of all ranks."""

    def forward(self, cosine: torch.Tensor, norms: torch.Tensor, share: Number = 1.0) -> torch.Tensor:
        """The cosines `[B]` that take the place of `cosine` `[B]`, in fp32.

        Args:
            cosine: of each feature and its class's centre.
            norms: lengths of the features.
            share: of the margin, in [0, 1], to ease it in; a float64 tensor [] gives the same bits as the number.
        """
        target = self._target(cosine.clamp(-self.limit, self.limit), norms.detach(), share * self.m)
        return cosine + (target - cosine).detach() if self.straight else target

    def _target(self, cosine: torch.Tensor, norms: torch.Tensor, m: Number) -> torch.Tensor:
        raise NotImplementedError


class ArcFace(Margin):
    """`cos(theta + m)`; past pi the cosine would rise again, so the angle stops there."""

    def _target(self, cosine: torch.Tensor, norms: torch.Tensor, m: Number) -> torch.Tensor:
        return torch.cos((torch.acos(cosine) + m).clamp(max=torch.pi))


class ArcFacePublished(Margin):
    """`cos(theta + m)` for every angle: past pi it rises again, as the published trainers have it.

    Cosines are kept 1e-7 from 1 as there, by a clamp that lets no gradient through.
    """

    limit = 1.0 - 1e-7

    def forward(self, cosine: torch.Tensor, norms: torch.Tensor, share: Number = 1.0) -> torch.Tensor:
        return super().forward(cosine.clamp(-self.limit, self.limit), norms, share)

    def _target(self, cosine: torch.Tensor, norms: torch.Tensor, m: Number) -> torch.Tensor:
        return torch.cos(torch.acos(cosine) + m)


class CosFace(Margin):
    """`cos(theta) - m`."""

    def _target(self, cosine: torch.Tensor, norms: torch.Tensor, m: Number) -> torch.Tensor:
        return cosine - m


class AdaFace(Margin):
    """A margin that leans on hard examples where images are good, on easy ones where they are bad.

    Args:
        m, straight: as `Margin`; 0.4 as published.
        h: how much of one deviation of length counts; 0.333 as published.
        momentum: weight of a step's own mean and deviation in the running ones; 0.01 as published.
    """

    def __init__(self, m: float, straight: bool = False, h: float = 0.333, momentum: float = 0.01) -> None:
        super().__init__(m, straight)
        self.h, self.momentum = h, momentum
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))

    @torch.no_grad()
    def observe(self, norms: torch.Tensor) -> None:
        seen = norms.float().clamp(1e-3, 100.0)
        if len(seen) > 1 and self.training:
            self.mean.lerp_(seen.mean(), self.momentum)
            self.std.lerp_(seen.std(), self.momentum)

    def _target(self, cosine: torch.Tensor, norms: torch.Tensor, m: Number) -> torch.Tensor:
        z = (norms.float().clamp(1e-3, 100.0) - self.mean) / (self.std + ANGLE_FLOOR)
        z = (self.h * z).clamp(-1.0, 1.0)
        angle = (torch.acos(cosine) - m * z).clamp(ANGLE_FLOOR, torch.pi - ANGLE_FLOOR)
        return torch.cos(angle) - (m + m * z)


MARGINS: dict[str, Callable[[float, bool], Margin]] = {
    "arcface": ArcFace,
    "arcface-published": ArcFacePublished,
    "cosface": CosFace,
    "adaface": AdaFace,
}
"""Margins by name."""


def make_margin(name: str, m: float, straight: bool = False) -> Margin:
    """A margin by name. Raises ConfigError."""
    return MARGINS[one_of("margin", name, MARGINS)](m, straight)

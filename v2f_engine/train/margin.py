"""Margin softmax: the classification heads that teach a recogniser to keep identities apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MarginSoftmax(nn.Module):
    """Cross entropy over scaled cosines with a margin on the true class.

    logits = s cos(theta_j), the true one s (cos(theta_y + angular) - additive). `additive` alone is CosFace
    (Wang et al. 2018), `angular` alone ArcFace (Deng et al. 2019).

    Args:
        classes: number of identities.
        dim: length of a feature.
        scale: s.
        angular: m of ArcFace in radians.
        additive: m of CosFace.
    """

    def __init__(
        self, classes: int, dim: int = 512, scale: float = 64.0, angular: float = 0.0, additive: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        self.scale, self.angular, self.additive = scale, angular, additive
        nn.init.normal_(self.weight, 0.0, 0.01)

    def logits(self, features: torch.Tensor, labels: torch.Tensor, share: float = 1.0) -> torch.Tensor:
        """`[B, classes]`; `share` in [0, 1] of the margins is applied, to ease them in."""
        cosine = F.normalize(features.float()) @ F.normalize(self.weight.float()).T
        true = cosine.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        angle = torch.acos(true) + share * self.angular
        # Past pi the cosine would rise again; ArcFace implementations clamp there as well.
        target = torch.cos(angle.clamp(max=torch.pi)) - share * self.additive
        return self.scale * cosine.scatter(1, labels[:, None], target)

    def forward(self, features: torch.Tensor, labels: torch.Tensor, share: float = 1.0) -> torch.Tensor:
        """Mean cross entropy of features `[B, D]` and labels int64 `[B]`."""
        return F.cross_entropy(self.logits(features, labels, share), labels)

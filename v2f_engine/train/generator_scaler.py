"""The scale of an fp16 loss: gradients too small for fp16 are kept, and a step that overflows is left out.

Micikevicius et al. 2018, with the figures of torch's GradScaler as the published code makes it: 65536 at first, half of
it after an overflow, twice after 2000 steps without one. Its state is two buffers, which checkpoints carry.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

START, GROWTH, BACKOFF, INTERVAL = 65536.0, 2.0, 0.5, 2000


class LossScaler(nn.Module):
    """One scale for all losses of a step."""

    scale: torch.Tensor
    steps: torch.Tensor

    def __init__(self, device: torch.device, interval: int = INTERVAL) -> None:
        super().__init__()
        self.interval = interval
        self.register_buffer("scale", torch.tensor(START, device=device))
        self.register_buffer(
            "steps", torch.tensor(0, dtype=torch.int32, device=device)
        )  # without an overflow

    @torch.no_grad()
    def unscale(self, parameters: Iterable[nn.Parameter]) -> torch.Tensor:
        """Divides the gradients by the scale, in place; `[1]`, 1 where one is not finite."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        overflow = torch.zeros(1, device=self.scale.device)
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, overflow, self.scale.reciprocal())
        return overflow

    @torch.no_grad()
    def update(self, overflow: torch.Tensor) -> None:
        """The scale of the next step; `overflow` is the sum over all optimisers' gradients."""
        torch._amp_update_scale_(self.scale, self.steps, overflow.squeeze(), GROWTH, BACKOFF, self.interval)

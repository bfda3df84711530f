"""The baseline of training: our networks stepped as the published scripts step them.

Put back: anomaly mode, `.item()` of every term and a wait at the end of each step, weight gradients of the frozen
recogniser, NCHW, attention written out, `x * sigmoid(x)`, torch's default AdamW. `PublishedLoop` is the loop that
is published, precision included: fp16 autocast, one gradient scaler for both optimisers, and the transformer
blocks in fp32 with autocast off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.models.fmae import Block
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.ops import Bound
from v2f_engine.train.batches import Part
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator_settings import GeneratorTraining
from v2f_engine.train.generator_step import GeneratorTrainer, Terms
from v2f_engine.train.optim import BETAS


def attention(qkv: torch.Tensor, *, dropout: float = 0.0, seed: int = 0) -> torch.Tensor:
    """`[B, N, 3, H, d]` to `[B, N, H * d]` in fp32, with the explicit maximum of the published code.

    Raises:
        ValueError: dropout, which no rung has.
    """
    if dropout:
        raise ValueError(f"expected no dropout in a training rung, found {dropout}")
    batch, tokens, _, heads, width = qkv.shape
    query, key, value = qkv.float().permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-2, -1) * width**-0.5
    weights = (scores - scores.max(dim=-1, keepdim=True)[0]).softmax(dim=-1)
    out: torch.Tensor = (weights @ value).transpose(1, 2).reshape(batch, tokens, heads * width)
    return out


def group_norm_silu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    """The norm, then `x * sigmoid(x)`, each an op of its own."""
    z = F.group_norm(x, groups, weight, bias, eps)
    return z * torch.sigmoid(z)


_FORMS: dict[str, Callable[..., Any]] = {"attention": attention, "group_norm_silu": group_norm_silu}


def _contiguous(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in inputs)


def _as_torch_has_it(optimizer: torch.optim.Optimizer) -> torch.optim.AdamW:
    groups = [{"params": g["params"], "weight_decay": g["weight_decay"]} for g in optimizer.param_groups]
    return torch.optim.AdamW(groups, lr=1.0, betas=BETAS)


class PublishedTrainer(GeneratorTrainer):
    """The waste of the published step put back in; see the notes on this module."""

    def __init__(
        self, data: TrainingSet, recogniser: IResNet, settings: GeneratorTraining, group: Ranks | None = None
    ) -> None:
        super().__init__(data, recogniser, settings, group)
        for module in (*self.model.modules(), *self.critic.modules()):
            if isinstance(module, Bound):
                module.bind({})
                module.ops = tuple(
                    _FORMS.get(name, op) for name, op in zip(module.uses, module.ops, strict=True)
                )
        self.view = self.view_by(self.judge)
        for entered in (self.model.im_decoder, self.critic, self.view):
            entered.register_forward_pre_hook(_contiguous)
        for held in (self.model, self.critic, self.view):
            held.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.view.recogniser.recogniser.requires_grad_(True)
        self.optimizer = _as_torch_has_it(self.optimizer)
        self.critic_optimizer = _as_torch_has_it(self.critic_optimizer)

    def step(self, number: int, progress: float) -> tuple[Terms, str]:
        for parameter in self.view.recogniser.recogniser.parameters():
            parameter.grad = None
        with torch.autograd.set_detect_anomaly(True):
            terms, keys = super().step(number, progress)
        for value in terms.values():
            value.item()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return terms, keys


class PublishedLoop(PublishedTrainer):
    """`PublishedTrainer` in the published precision: fp16 autocast, a gradient scaler, fp32 blocks."""

    def __init__(
        self, data: TrainingSet, recogniser: IResNet, settings: GeneratorTraining, group: Ranks | None = None
    ) -> None:
        super().__init__(data, recogniser, settings, group)
        self.scaler = torch.amp.GradScaler(self.device.type)
        for module in self.model.modules():
            if isinstance(module, Block):
                for branch in (module.attn, module.mlp):
                    branch.forward = _in_fp32(branch.forward, self.device.type)  # type: ignore[method-assign]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.float16)

    def update(self, parts: list[Part], with_critic: bool, factor: float) -> Terms:
        """As the published loop: scaled losses, unscaled and clipped gradients, steps skipped on overflow."""
        (part,) = parts
        self.optimizer.zero_grad(set_to_none=True)
        self.critic_optimizer.zero_grad(set_to_none=True)
        share: Any = self.scaler.scale(torch.ones((), device=self.device))
        terms = {
            name: value.detach()
            for name, value in self._gradients(part, with_critic, factor, True, share).items()
        }
        clip = self.settings.clip
        self.scaler.unscale_(self.optimizer)
        terms["gradient"] = nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.scaler.step(self.optimizer)
        if with_critic:
            self.scaler.unscale_(self.critic_optimizer)
            nn.utils.clip_grad_norm_(self.critic.parameters(), clip)
            self.scaler.step(self.critic_optimizer)
        self.scaler.update()
        return terms


def _in_fp32(forward: Callable[..., Any], kind: str) -> Callable[..., Any]:
    def wide(x: torch.Tensor, *others: Any) -> Any:
        with torch.autocast(kind, enabled=False):
            return forward(x.float(), *others)

    return wide

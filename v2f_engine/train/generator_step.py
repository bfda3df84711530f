"""One update of a generator: a stored feature of an image goes in, and the image is to come out again.

Corrected against the published code: the discriminator gets no gradient from the generator's step and does not
run before its start; recognisers are frozen; every image has its own mask count; nothing is drawn from global
state and nothing waits for the device, so a step is a function of (settings, step). `AsPublished` and `fp16_amp` turn
the published behaviour on.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.backends import Choice, choose, function
from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.models import bind_ops
from v2f_engine.models.discriminator import SIDE, PatchDiscriminator
from v2f_engine.models.features import to_network
from v2f_engine.models.iresnet import IResNet, as_rgb
from v2f_engine.models.perceptual import wide
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceOutput
from v2f_engine.models.weights import load_recogniser
from v2f_engine.ranges import stage
from v2f_engine.train.batches import Batches, Part, named
from v2f_engine.train.checkpoint import read_tensors, restore
from v2f_engine.train.distributed import Ranks, averaging
from v2f_engine.train.ema import average_into, twin
from v2f_engine.train.fooling import Judged, constant, judged_once
from v2f_engine.train.generator_scaler import LossScaler
from v2f_engine.train.generator_settings import GeneratorTraining
from v2f_engine.train.generator_start import xavier
from v2f_engine.train.losses import (
    adaptive_weight,
    critic_loss,
    fooling_loss,
    identity_loss,
    smoothness_loss,
    spectrum_loss,
    token_loss,
)
from v2f_engine.train.optim import adamw, cosine, published_lr, set_lr
from v2f_engine.train.view import FrozenView, open_view

UNREAD = ("center_token.", "patch_embed.")
"""Parameters that the published network carries and never reads: no gradient, so no decay either."""

AMP_OPS = {"group_norm_silu": "reference"}
"""Ops of the published AMP: torch's, whose precision autocast decides; norms in fp32 on a CPU, too, as CUDA's autocast
has them."""

SLOPE_STEP = 0.1
"""Deviation of the noise that the discriminator's slope is measured with, images in [-1, 1]: above bf16's rounding."""

SMOOTH_EVERY = 4
"""Steps between two looks at the discriminator's slope, a third of its work (lazy regularisation, arXiv 1912.04958)."""

Terms = dict[str, torch.Tensor]


class GeneratorTrainer:
    """Networks, optimisers and the step; `train_generator` drives it.

    Args:
        data: images with features.
        recogniser: made those features; frozen here.
        settings: of the training.
        group: this rank among its equals.

    Raises:
        DatasetError, ConfigError, CheckpointError: as named.
    """

    def __init__(
        self,
        data: TrainingSet,
        recogniser: IResNet,
        settings: GeneratorTraining,
        group: Ranks | None = None,
    ) -> None:
        settings.require_vgg()
        self.group = group or Ranks(device=settings.device)
        self.settings = settings = settings.on(self.group.world)
        published = settings.as_published
        self.batches = Batches(data, settings, self.group)
        self.device = torch.device(self.group.device)
        layout: dict[str, Any] = {"device": self.device, "memory_format": torch.channels_last}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # only the constructors draw from it
            self.model = Vec2Face(settings.model).to(**layout)
            self.critic = PatchDiscriminator(
                settings.critic_width, settings.model.vector_dim if settings.critic_vector else None
            ).to(**layout)
        draws = torch.Generator(self.device).manual_seed(settings.seed)
        self._noise = torch.Generator(self.device)
        self._smooths = False
        if published.xavier:
            xavier(self.model, draws)
        else:
            self.model.initialise(draws)
        if settings.start_from is not None:
            state, _ = read_tensors(settings.start_from)
            restore({f"model/{k}": v for k, v in state.items()}, {"model": self.model}, {})
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(UNREAD))
        self.scaler: LossScaler | None = None
        self.ssim = function("ssim", "torch")
        self.judge = seeing = recogniser.to(**layout).eval()
        chosen: Choice | None = None
        if settings.fp16_amp:
            self.scaler = LossScaler(self.device)
            bind_ops(self.model, AMP_OPS)
            seeing = copy.deepcopy(recogniser).half()
        else:
            precision = "bf16" if settings.bf16 else "fp32"
            chosen = choose(str(self.device), precision, gradients=True)
            for module in (self.model, self.critic):
                bind_ops(module, chosen)
            self.ssim = function("ssim", chosen.backends["ssim"])
        self.ema = twin(self.model)
        self.model.wide_blocks = settings.fp16_amp
        self.view: FrozenView = self.view_by(seeing, chosen)
        self.second: FrozenView | None = None
        if settings.second is not None:
            also = as_rgb(load_recogniser(settings.second).model)
            self.second = open_view(also, None, settings.loss_weights.vgg_layers, chosen).to(**layout)
        self.weigh = pixel_weights(settings.background).to(self.device) if settings.background < 1 else None
        graphed = settings.stepping == "graph"
        kind = {"capturable": graphed, "decay_all": published.decay_all}
        self.optimizer = adamw([self.model], 1.0, settings.weight_decay, **kind)
        self.critic_optimizer = adamw([self.critic], 1.0, settings.weight_decay, **kind)
        self.lr = published_lr(settings.base_lr, settings.batch)
        self._generator = self.group.wrap(self.model)
        self._critic = self.group.wrap(self.critic)
        if settings.stepping == "compiled":
            self._compile()

    def _compile(self) -> None:
        """Through torch.compile: what is convolutional and draws nothing, 83 % of the arithmetic at base size."""
        self.model.im_decoder.compile()
        self.critic.compile()
        self.view.compile()

    def view_by(self, recogniser: IResNet, chosen: Choice | None = None) -> FrozenView:
        """What the frozen networks see; without a choice in plain torch (`open_view`)."""
        view = open_view(recogniser, self.settings.vgg, self.settings.loss_weights.vgg_layers, chosen)
        layout: dict[str, Any] = {"device": self.device, "memory_format": torch.channels_last}
        return view.to(**layout)

    def modules(self) -> dict[str, nn.Module]:
        own: dict[str, nn.Module] = {"generator": self.model, "ema": self.ema, "critic": self.critic}
        return own if self.scaler is None else {**own, "scaler": self.scaler}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimizer": self.optimizer, "critic_optimizer": self.critic_optimizer}

    def step(self, number: int, progress: float) -> tuple[Terms, str]:
        """One update.

        Args:
            number: of the step, from 0.
            progress: share of the training done, for learning rate and discriminator.

        Returns:
            loss terms of this rank's images, on the device, and what its rows are called.
        """
        parts = self.batches(number)
        self._smooths = self.settings.critic_smooth > 0 and number % SMOOTH_EVERY == 0
        if self._smooths:
            place = (self.settings.seed * 1_000_003 + number) * self.group.world + self.group.rank
            self._noise.manual_seed(
                place % 2**63
            )  # any 64-bit seed that trains without the noise trains with it
        terms = self.update([part.to(self.device) for part in parts], *self.set_rates(progress))
        self.average(number)
        return terms, named(parts)

    def set_rates(self, progress: float) -> tuple[bool, float]:
        """Sets the learning rates; (does the discriminator run, factor of its terms) at `progress`."""
        settings, weights = self.settings, self.settings.loss_weights
        schedule = cosine(progress, settings.warm_up, settings.lr_floor)
        set_lr(self.optimizer, self.lr * schedule)
        own = settings.critic_lr
        if own is None:
            own = self.lr if settings.as_published.critic_constant else self.lr * schedule
        set_lr(self.critic_optimizer, own)
        begun = weights.gan > 0 and progress >= weights.gan_from
        waiting = weights.gan > 0 and settings.as_published.critic_always
        return begun or waiting, 1.0 if begun else 0.0

    def average(self, number: int) -> None:
        """Moves the averaged weights; early steps count more, so the random start is soon forgotten."""
        decay = min(self.settings.ema, (1 + number) / (10 + number))
        average_into(self.ema, self.model, 0.0 if self.settings.as_published.no_average else decay)

    def update(self, parts: list[Part], with_critic: bool, factor: float) -> Terms:
        """Gradients of all parts, then one step of each optimiser. Draws nothing; waits for nothing but, under
        `fp16_amp`, whether a gradient overflowed: no optimiser whose gradients did takes its step then."""
        self.optimizer.zero_grad(set_to_none=True)
        self.critic_optimizer.zero_grad(set_to_none=True)
        sums: Terms = {}
        scale: float | torch.Tensor = 1.0 / len(parts)
        if self.scaler is not None:
            scale = scale * self.scaler.scale
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            for name, value in self._gradients(part, with_critic, factor, last, scale).items():
                share = value.detach() / len(parts)
                sums[name] = sums[name] + share if name in sums else share
        with stage("v2f optimiser"):
            trained: list[tuple[nn.Module, torch.optim.Optimizer]] = [(self.model, self.optimizer)]
            if with_critic:
                trained.append((self.critic, self.critic_optimizer))
            if self.scaler is None:
                lengths = [self._clipped_step(*pair) for pair in trained]
                sums["gradient"] = lengths[0]
            else:
                sums |= self._scaled_steps(self.scaler, trained)
        return sums

    def _clipped_step(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """One step; the gradient's length before it was clipped."""
        length = self._clip(module)
        optimizer.step()
        return length

    def _clip(self, module: nn.Module) -> torch.Tensor:
        """Cuts the gradient to `settings.clip`; its length before that."""
        return nn.utils.clip_grad_norm_(module.parameters(), self.settings.clip or math.inf, foreach=True)

    def _scaled_steps(
        self, scaler: LossScaler, trained: list[tuple[nn.Module, torch.optim.Optimizer]]
    ) -> Terms:
        """As published: unscaled, clipped, and skipped by every optimiser whose gradients overflowed."""
        overflows, lengths = [], []
        for module, optimizer in trained:
            overflow = scaler.unscale(module.parameters())
            length = self._clip(module)
            overflows.append(overflow)
            lengths.append(torch.where(overflow[0] > 0, 0.0, length))
            if not overflow:
                optimizer.step()
        total = torch.stack(overflows).sum(0)
        scaler.update(total)
        return {"gradient": lengths[0], "skipped": overflows[0][0]}

    def _gradients(
        self, part: Part, with_critic: bool, factor: float, last: bool, share: float | torch.Tensor
    ) -> Terms:
        """Adds the gradients of one part, weighted by `share`; averages over ranks with the last part."""
        weights = self.settings.loss_weights
        real = to_network(part.images).contiguous(memory_format=torch.channels_last)
        with averaging(self._generator, last):
            with stage("v2f generator"):
                output = self._forward(part)
            terms = self._terms(output, real, part)
            if with_critic:
                without = dict(terms)
                with stage("v2f discriminator of the generator's images"):
                    shown = self._window(output.images, part)
                    judged = self._judged(shown, part, last)
                terms["gan"] = judged.gan
                total = weights.total(without) + factor * self._gan_weight(without, judged.pull) * judged.pull
            else:
                total = weights.total(terms)
            with stage("v2f backward"):
                (share * total).backward()  # type: ignore[no-untyped-call]
        if with_critic:
            with averaging(self._critic, last), stage("v2f discriminator"):
                terms["critic"] = self._critic_gradients(
                    self._window(real, part), shown, judged.logits, part, factor * share
                )
        return terms

    def _gan_weight(self, others: Terms, gan: torch.Tensor) -> torch.Tensor | float:
        """Fixed, or by the ratio of gradient norms at the last layer (of this rank's part alone).

        Args:
            gan: has the gradient of the generator's term.
        """
        weights = self.settings.loss_weights
        if not weights.gan_adaptive:
            return weights.gan
        last = self.model.im_decoder.conv_out.weight
        return weights.gan_adaptive * adaptive_weight(weights.total(others), gan, last)

    def _judged(self, images: torch.Tensor, part: Part, last: bool) -> Judged:
        """The generator's term. The discriminator's parameters get no gradient of it, unless they leak as published.

        One forward serves both losses on these images: neither optimiser moves before both have their gradients. It
        runs twice as published (a leak is a gradient of another order of summation; fp16's scale is part of the total),
        and compiled, where a second backward through the same graph would compute every gradient, wanted or not.
        """
        if self.settings.as_published.critic_leak:
            with self._autocast():
                gan = self._fooled(self.critic(images, *self._asked(part)))
            return Judged(gan, gan, None)
        if self.settings.fp16_amp or self.settings.stepping == "compiled":
            with self._autocast():
                gan = self._fooled(constant(self.critic, images, *self._asked(part)))
            return Judged(gan, gan, None)
        seen = images.detach().requires_grad_()
        with averaging(self._critic, last), self._autocast():
            logits = self._critic(seen, *self._asked(part))
            gan = self._fooled(logits)
        return judged_once(gan, logits, seen, images)

    def _window(self, images: torch.Tensor, part: Part) -> torch.Tensor:
        """What the discriminator sees of images."""
        side, (top, left) = self.settings.critic_side, part.window
        return images if side == SIDE else images[:, :, top : top + side, left : left + side]

    def _asked(self, part: Part) -> tuple[torch.Tensor, ...]:
        """What the discriminator sees besides images."""
        return (part.features,) if self.settings.critic_vector else ()

    def _fooled(self, logits: torch.Tensor) -> torch.Tensor:
        return fooling_loss(logits, published=self.settings.as_published.linear_fooling)

    def _critic_gradients(
        self,
        real: torch.Tensor,
        fake: torch.Tensor,
        on_fake: torch.Tensor | None,
        part: Part,
        share: float | torch.Tensor,
    ) -> torch.Tensor:
        """The discriminator's own loss, its gradients added; `on_fake`: its logits of `fake` where they are known."""
        asked = self._asked(part)
        with self._autocast():
            if on_fake is None:
                both = torch.cat([real, fake.detach().to(real.dtype)])
                on_real, on_fake = self._critic(both, *(torch.cat([v, v]) for v in asked)).chunk(2)
            else:
                on_real = self._critic(real, *asked)
            loss = critic_loss(on_real, on_fake)
            if self._smooths:
                noise = torch.empty_like(real).normal_(generator=self._noise)
                nearby = self._critic(real + SLOPE_STEP * noise, *asked)
                weight = SMOOTH_EVERY * self.settings.critic_smooth
                loss = loss + weight * smoothness_loss(on_real, nearby, SLOPE_STEP)
        # No gradient of the images, which `on_fake` would give them for a third time.
        (share * loss).backward(inputs=list(self.critic.parameters()))  # type: ignore[no-untyped-call]
        return loss

    def _autocast(self) -> torch.autocast:
        amp = self.settings.fp16_amp
        dtype = torch.float16 if amp else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=amp or self.settings.bf16)

    def _forward(self, part: Part) -> Vec2FaceOutput:
        with self._autocast():
            output: Vec2FaceOutput = self._generator(
                part.features, part.noise, part.n_masked, part.n_dropped, dropout_seed=part.dropout_seed
            )
        return output

    def _terms(self, output: Vec2FaceOutput, real: torch.Tensor, part: Part) -> Terms:
        weights = self.settings.loss_weights
        fake = wide(output.images)
        weigh = self.weigh
        terms = {
            "pixel": F.mse_loss(fake, real) if weigh is None else ((fake - real).square() * weigh).mean()
        }
        if weights.absolute:
            apart = F.l1_loss(fake, real) if weigh is None else ((fake - real).abs() * weigh).mean()
            terms["absolute"] = apart
        if weights.ssim:
            with stage("v2f ssim"):
                terms["ssim"] = 1.0 - self.ssim((fake + 1) / 2, (real + 1) / 2)
        if weights.spectrum:
            terms["spectrum"] = spectrum_loss(fake, real)
        if weights.token:
            terms["token"] = token_loss(output.tokens, output.target_tokens)
        if weights.perceptual or weights.identity or weights.second:
            with stage("v2f frozen networks"), self._autocast():
                moved = self._moved(fake, part.crop), self._moved(real, part.crop)
                seen = self.view(*moved)
                if self.second is not None:
                    terms["second"] = self.second.unlike(*moved)
            if weights.perceptual:
                terms["perceptual"] = seen.distance
            if weights.identity:
                terms["identity"] = identity_loss(seen.features, part.features)
        return terms

    def _moved(self, images: torch.Tensor, crop: tuple[float, float]) -> torch.Tensor:
        shift, size = self.settings.shift, images.shape[-1]
        if not shift:
            return images
        (top, left), (down, right) = (int(crop[0]), int(crop[1])), (crop[0] % 1, crop[1] % 1)
        padded = F.pad(images, (shift, shift + 1) * 2, mode="replicate")
        rows = padded[:, :, top : top + size + (down > 0)]
        if down:
            rows = torch.lerp(rows[:, :, :-1], rows[:, :, 1:], down)
        if not right:
            return rows[..., left : left + size]
        return torch.lerp(rows[..., left : left + size], rows[..., left + 1 : left + size + 1], right)


def pixel_weights(background: float) -> torch.Tensor:
    """`[1, 1, 112, 112]` of mean 1: equal within the head of an aligned face, `background` of that in the corners.

    The head's ellipse (centre 56, 58; half axes 46 and 62 pixels) covers hair and chin of a frontal face; its edge is
    a few pixels wide.
    """
    y, x = torch.meshgrid(torch.arange(SIDE) - 58.0, torch.arange(SIDE) - 55.5, indexing="ij")
    inside = torch.sigmoid((1 - torch.hypot(x / 46, y / 62)) * 16)
    weights = background + (1 - background) * inside
    return (weights / weights.mean())[None, None]

"""Faults of the trainings' fast paths: the discriminator's one look, frozen networks without norms, graphs of steps."""

from __future__ import annotations

from mutant import Mutant

TRAIN, MODELS = "v2f_engine/train", "v2f_engine/models"
FAST = ("-m", "not slow")
LOOK = ("tests/train/test_one_look.py", *FAST)
VIEW = ("tests/train/test_view.py", "tests/models/test_frozen_iresnet.py", *FAST)
CRITIC = ("tests/models/test_discriminator.py", *FAST)
GRAPHED = ("tests/train/test_graphed_recogniser.py", *FAST)
SLOTS = ("tests/train/test_resumed_slots.py", *FAST)
STEPPING = ("tests/train/test_stepping.py", *FAST)

MUTANTS = [
    Mutant(
        "the gradient at the images enters with a wrong factor",
        f"{TRAIN}/fooling.py",
        "(wide(images) * slope).sum()",
        "(wide(images) * slope).mean()",
        LOOK,
    ),
    Mutant(
        "the discriminator's look reaches the generator as well",
        f"{TRAIN}/generator_step.py",
        "seen = images.detach().requires_grad_()",
        "seen = images",
        LOOK,
    ),
    Mutant(
        "the discriminator learns from generated images alone",
        f"{TRAIN}/generator_step.py",
        "                on_real = self._critic(real)\n",
        "                on_real = self._critic(fake.detach())\n",
        LOOK,
    ),
    Mutant(
        "the discriminator's loss does not know of parts",
        f"{TRAIN}/generator_step.py",
        "judged.logits, factor * share)",
        "judged.logits, factor)",
        LOOK,
    ),
    Mutant(
        "the adaptive weight is left out",
        f"{TRAIN}/generator_step.py",
        "factor * self._gan_weight(without, judged.pull) * judged.pull",
        "factor * weights.gan * judged.pull",
        LOOK,
    ),
    Mutant(
        "a view compares the real images with themselves",
        f"{TRAIN}/view.py",
        "maps, features = self.recogniser(fake)",
        "maps, features = self.recogniser(real)",
        VIEW,
    ),
    Mutant(
        "a folded block forgets its first norm's shift",
        f"{MODELS}/frozen_iresnet.py",
        "seen, seen, weight, shift) + own, wide)",
        "seen, seen, weight, 0 * shift) + own, wide)",
        VIEW,
    ),
    Mutant(
        "the shift at an image's edge is that of its middle",
        f"{MODELS}/frozen_iresnet.py",
        "(0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0))",
        "(1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))",
        VIEW,
    ),
    Mutant(
        "a shortcut's bias is dropped",
        f"{MODELS}/frozen_iresnet.py",
        "scale, of_shortcut = scale_shift(norm)",
        "scale, _ = scale_shift(norm)",
        VIEW,
    ),
    Mutant(
        "the folded head's columns are in the plain order",
        f"{MODELS}/frozen_iresnet.py",
        "flat = last_map.permute(0, 2, 3, 1).flatten(1)",
        "flat = last_map.contiguous().flatten(1)",
        VIEW,
    ),
    Mutant(
        "a gate sees a branch without its bias",
        f"{MODELS}/frozen_iresnet.py",
        "branch = self.gate(F.conv2d(h, self.weight2, self.at_gate, self.stride, 1))",
        "branch = self.gate(F.conv2d(h, self.weight2, None, self.stride, 1))",
        VIEW,
    ),
    Mutant(
        "the pass over real images ends a stage too early",
        f"{MODELS}/perceptual.py",
        "4 if whole else max(self.chosen) + 1",
        "4 if whole else max(self.chosen)",
        VIEW,
    ),
    Mutant(
        "a discriminator's block loses its residual",
        f"{MODELS}/discriminator.py",
        "out: torch.Tensor = self.block(x, x)",
        "out: torch.Tensor = self.block(x, 0 * x)",
        CRITIC,
    ),
    Mutant(
        "the leaky ReLU stands behind the stage's norm",
        f"{MODELS}/discriminator.py",
        "self.eps, SLOPE, 1.0, shift",
        "self.eps, 1.0, SLOPE, shift",
        CRITIC,
    ),
    Mutant(
        "a block's norm is activated before it is normed",
        f"{MODELS}/discriminator.py",
        "GROUPS, norm.eps, 1.0, SLOPE)",
        "GROUPS, norm.eps, SLOPE, 1.0)",
        CRITIC,
    ),
    Mutant(
        "a recogniser's gradient is not clipped",
        f"{TRAIN}/recogniser_step.py",
        "clip_grad_norm_(self.model.parameters(), settings.clip, foreach=True)",
        "clip_grad_norm_(self.model.parameters(), 1e9, foreach=True)",
        ("tests/train/test_recogniser_published_curve.py", *FAST),
    ),
    Mutant(
        "the head's share of the margin is whole",
        f"{TRAIN}/recogniser_step.py",
        "loss = self.head(features, labels, number, share)",
        "loss = self.head(features, labels, number, 1.0)",
        (*GRAPHED, "tests/train/test_recogniser_training.py"),
    ),
    Mutant(
        "a graph's labels are those of its capture",
        f"{TRAIN}/graphed_recogniser.py",
        "        captured.labels.copy_(labels, non_blocking=True)\n",
        "",
        GRAPHED,
    ),
    Mutant(
        "a graph outlives the slots that it was captured with",
        f"{TRAIN}/graphed_recogniser.py",
        "register_load_state_dict_post_hook(lambda _: self._forget())",
        "register_load_state_dict_post_hook(lambda _: None)",
        GRAPHED,
    ),
    Mutant(
        "a resumed optimiser's slots lie in the order of their file",
        f"{TRAIN}/checkpoint.py",
        "torch.empty_like(parameters[index], dtype=value.dtype, device=value.device).copy_(value)",
        "value",
        SLOTS,
    ),
    Mutant(
        "a recogniser's batch norms decay",
        f"{TRAIN}/optim.py",
        "(plain if norm else decay).extend(own)",
        "decay.extend(own)",
        ("tests/train/test_recogniser_training.py", "tests/train/test_recogniser_published_curve.py", *FAST),
    ),
    Mutant(
        "half-precision copies have no gradient",
        f"{TRAIN}/halved.py",
        "return None, *_cast(gradients, ctx.dtype)",
        "return None, *_cast(tuple(0 * g for g in gradients), ctx.dtype)",
        ("tests/train/test_halved.py", *FAST),
    ),
    Mutant(
        "a generator's folder is there before its graph is refused",
        f"{TRAIN}/generator.py",
        "    require_stepping(settings.stepping, group)\n",
        "",
        STEPPING,
    ),
    Mutant(
        "a recogniser's command reads data before its graph is refused",
        "v2f_engine/cli/train.py",
        "        require_stepping(settings.stepping, group)\n",
        "",
        STEPPING,
    ),
    Mutant(
        "a recogniser's command drops --stepping",
        "v2f_engine/cli/train.py",
        'return (f"stepping={self.stepping}", *(self.values or ()))',
        "return tuple(self.values or ())",
        STEPPING,
    ),
]

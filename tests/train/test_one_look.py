"""The discriminator looks at generated images once for both losses: the same training as by two looks, in fp64."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from train_harness import ALL, people, settings, small_recogniser

from v2f_engine.train import generator_step
from v2f_engine.train.batches import Part
from v2f_engine.train.fooling import Judged, constant
from v2f_engine.train.generator import AsPublished, GeneratorTrainer
from v2f_engine.train.losses import LossWeights, fooling_loss


class TwoLooks(GeneratorTrainer):
    """As it was: the parameters are constants for the first look, the second is at real and generated together."""

    def _judged(self, images: torch.Tensor, part: Part, last: bool) -> Judged:
        with self._autocast():
            logits = constant(self.critic, images, *self._asked(part))
            gan = fooling_loss(logits, published=self.settings.as_published.linear_fooling)
        return Judged(gan, gan, None)


def in_double(
    kind: type[GeneratorTrainer], monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> GeneratorTrainer:
    wanted = dataclasses.replace(settings(Path("unused"), batch=2, bf16=False), **{"shift": 0, **changes})
    trainer = kind(people(), small_recogniser(), wanted)
    for module in (trainer.model, trainer.critic, trainer.view, trainer.ema):
        module.double()
    monkeypatch.setattr(generator_step, "to_network", lambda x: x.double().permute(0, 3, 1, 2) / 127.5 - 1)
    read = trainer.batches.__call__

    def wide(number: int) -> Any:
        return [
            dataclasses.replace(p, **{
                f.name: value.double() for f in dataclasses.fields(p)
                if isinstance(value := getattr(p, f.name), torch.Tensor) and value.dtype == torch.float32
            })
            for p in read(number)
        ]  # fmt: skip

    monkeypatch.setattr(type(trainer.batches), "__call__", lambda self, number: wide(number))
    return trainer


ADAPTIVE = dataclasses.replace(ALL, gan_adaptive=0.8)


@pytest.mark.parametrize(
    ("weights", "switches", "accumulate"),
    [
        (ALL, AsPublished(), 1),
        (ALL, AsPublished(linear_fooling=True), 2),
        (ADAPTIVE, AsPublished(), 1),
        (ADAPTIVE, AsPublished(critic_always=True), 1),
    ],
    ids=["fixed", "linear, two parts", "adaptive", "waiting first"],
)
def test_a_training_is_that_of_two_looks(
    weights: LossWeights, switches: AsPublished, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for kind in (GeneratorTrainer, TwoLooks):
        with monkeypatch.context() as patch:
            trainer = in_double(kind, patch, weights=weights, as_published=switches, accumulate=accumulate)
            terms = [
                trainer.step(number, progress)[0] for number, progress in enumerate((0.3, 0.5, 0.7, 0.9))
            ]
            trainer.batches.close()
        moved = {
            **trainer.model.state_dict(),
            **{f"critic.{k}": v for k, v in trainer.critic.state_dict().items()},
        }
        found.append((terms, copy.deepcopy(moved)))
    (terms, state), (terms_of_two, state_of_two) = found
    assert "gan" in terms[-1]
    for one, two in zip(terms, terms_of_two, strict=True):
        assert set(one) == set(two)
        for name, value in two.items():
            assert value.dtype == torch.float64
            torch.testing.assert_close(one[name], value, rtol=1e-12, atol=1e-13, msg=name)
    for name, value in state_of_two.items():
        # Where a gradient is nothing but rounding, 1e-17, Adam divides it by its epsilon of 1e-8: 2e-12 a step.
        torch.testing.assert_close(
            state[name], value, rtol=1e-12, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_generated_images_pass_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images: one forward of the generated ones, one of the real; two and four by two looks."""
    for kind, rows in ((GeneratorTrainer, [2, 2]), (TwoLooks, [2, 4])):
        trainer = kind(people(), small_recogniser(), settings(Path("unused"), batch=2))
        seen: list[int] = []
        trainer.critic.layers[0].register_forward_hook(lambda m, i, o, seen=seen: seen.append(len(o)))
        trainer.step(0, 0.9)
        trainer.batches.close()
        assert seen == rows

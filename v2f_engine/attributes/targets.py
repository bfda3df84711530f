"""What an image should be: small targets that are added up to an objective, each judged for each sample.

    identity cosine    published: 100 x (1 - cosine); Vec2Face+: only while the distance exceeds 0.3
    quality            relu(goal - |feature|) of a MagFace recogniser, or of the embedded estimator
    yaw, pitch, roll   |goal - value| in degrees, signed, or of the magnitude as published
    anything else      Attribute.from_callable

Source of weights and thresholds: the AttrOP of HaiyuWu/Vec2Face and HaiyuWu/Vec2Face_plus.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.config import at_least, one_of
from v2f_engine.errors import ConfigError

Read = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(output of the measure `[B, M]`, identity feature `[B, D]`) -> value `[B]`."""

COMPARISONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "equal": lambda value, goal: (value - goal).abs(),
    "magnitude": lambda value, goal: (value.abs() - goal.abs()).abs(),
    "at_least": lambda value, goal: (goal - value).relu(),
    "at_most": lambda value, goal: (value - goal).relu(),
}
"""How far a value is from its goal, in the value's own unit."""


class Verdict(IntEnum):
    """How a sample ended."""

    MET = 0
    """Every attribute is within its tolerance."""
    BEST_EFFORT = 1
    """The bound was reached; what is required (identity) holds, something else is outside its tolerance."""
    FAILED = 2
    """The bound was reached and what is required does not hold, or nothing finite was seen."""


@dataclass(frozen=True)
class Attribute:
    """One measurable quantity of an image, and how a sample's goal for it is judged.

    Args:
        name: of the goal and of the value in manifests, e.g. `yaw`.
        measure: images `[B, 3, 112, 112]` (RGB, [-1, 1]) to `[B, M]`, differentiable. Attributes that share
            one module share its forward pass.
        read: that output to the value.
        goal: where a sample names none.
        tolerance: met when the miss is at most this.
        compare: a name in `COMPARISONS`.
        weight: the loss is `weight * miss / scale`.
        scale: unit of the miss.
        dead_zone: no loss while the miss is within tolerance (the hinge of Vec2Face+), or within this number.
        required: a sample that misses it has failed, whatever else it reached.
    """

    name: str
    measure: nn.Module
    read: Read
    goal: float = 0.0
    tolerance: float = 1.0
    compare: str = "equal"
    weight: float = 1.0
    scale: float = 1.0
    dead_zone: bool | float = False
    required: bool = False

    def __post_init__(self) -> None:
        one_of("compare", self.compare, COMPARISONS)
        at_least("tolerance", self.tolerance, 0.0)
        at_least("weight", self.weight, 0.0)
        if not self.scale > 0:
            raise ConfigError(f"{self.name}: scale must be positive, found {self.scale}.")

    @classmethod
    def from_callable(
        cls, name: str, function: Callable[[torch.Tensor], torch.Tensor], **how: Any
    ) -> Attribute:
        """Any differentiable function of images as an attribute.

        Args:
            name: of the goal.
            function: images `[B, 3, 112, 112]` (RGB, [-1, 1], float32) to one value each, `[B]` or `[B, 1]`;
                a module, or a plain function such as `lambda x: x.mean((1, 2, 3))` for brightness.
            how: `goal`, `tolerance`, `compare`, `weight`, `scale`, `dead_zone`, `required`.
        """
        measure = function if isinstance(function, nn.Module) else _Function(function)
        return cls(name, measure, _only, **how)

    def miss(self, value: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Distance from the goal `[B]`, in the value's unit."""
        return COMPARISONS[self.compare](value, goal)

    def loss(self, miss: torch.Tensor) -> torch.Tensor:
        """What steering minimises, `[B]`."""
        deaf = self.tolerance if self.dead_zone is True else self.dead_zone
        felt = miss if deaf is False else miss * (miss > deaf)
        return felt * (self.weight / self.scale)


def identity_cosine(recogniser: nn.Module, *, min_cosine: float = 0.7, hinge: bool = False) -> Attribute:
    """Cosine with the sample's identity feature, required.

    Args:
        recogniser: un-normalised features of images.
        min_cosine: where identity counts as kept; published 0.7 (distance 0.3).
        hinge: weight 1 and a dead zone as Vec2Face+, instead of the published weight 100.
    """
    return Attribute(
        "identity",
        recogniser,
        lambda feature, identity: F.cosine_similarity(feature.float(), identity.float(), dim=1),
        goal=1.0,
        tolerance=1.0 - min_cosine,
        weight=1.0 if hinge else 100.0,
        dead_zone=hinge,
        required=True,
    )


def feature_norm(recogniser: nn.Module, goal: float = 27.0, **how: Any) -> Attribute:
    """Quality as the length of a MagFace feature; goals in published use are 22 to 30."""
    how = {"compare": "at_least", "tolerance": 1.0, **how}
    return Attribute("quality", recogniser, lambda f, _: f.float().norm(dim=1), goal=goal, **how)


def output_of(estimator: nn.Module, outputs: Sequence[str], name: str, goal: float, **how: Any) -> Attribute:
    """One named output of an estimator.

    Args:
        estimator: images to `[B, len(outputs)]`.
        outputs: its outputs' names.
        name: the one meant.
        goal, how: as in `Attribute`.
    """
    column = list(outputs).index(one_of("output", name, outputs))
    return Attribute(name, estimator, lambda out, _: out[:, column].float(), goal=goal, **how)


def pose(estimator: nn.Module, outputs: Sequence[str], name: str, goal: float = 0.0, **how: Any) -> Attribute:
    """Yaw, pitch or roll in degrees. `compare="magnitude"` leaves left and right open, as published.

    The published tolerance is 5 degrees; one degree of miss weighs as much as 0.01 of cosine.
    """
    return output_of(estimator, outputs, name, goal, **{"tolerance": 5.0, **how})


def published_plus(attribute: Attribute) -> Attribute:
    """An attribute with its weight in Vec2Face+: pose / 90, quality / 30, identity 1 with a dead zone."""
    if attribute.name == "identity":
        return replace(attribute, weight=1.0, dead_zone=True)
    return replace(attribute, weight=1.0, scale=30.0 if attribute.name == "quality" else 90.0)


class Judged(NamedTuple):
    """What an objective says of a batch.

    Args:
        loss: `[B]`, to be minimised.
        values: `[B, K]`, in the order of the attributes.
        met: bool `[B]`, everything within tolerance.
        kept: bool `[B]`, everything required within tolerance.
    """

    loss: torch.Tensor
    values: torch.Tensor
    met: torch.Tensor
    kept: torch.Tensor


class Objective(nn.Module):
    """Several attributes added up; a module that is measured by several runs once.

    Args:
        attributes: with different names.

    Raises:
        ConfigError: none, or two of one name.
    """

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        super().__init__()
        names = [attribute.name for attribute in attributes]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"attributes: expected one or more of different names, found {names}.")
        self.attributes = tuple(attributes)
        self.names = tuple(names)
        unique = {id(attribute.measure): attribute.measure for attribute in attributes}
        self.measures = nn.ModuleList(unique.values())
        self._places = [list(unique).index(id(attribute.measure)) for attribute in attributes]
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor, goals: torch.Tensor, identity: torch.Tensor) -> Judged:
        """Judges images.

        Args:
            images: `[B, 3, 112, 112]`, RGB, in [-1, 1], float32.
            goals: `[B, K]`; an attribute whose goal is NaN plays no part for that sample but is measured.
            identity: `[B, D]`, feature each sample has to keep.
        """
        outputs = [measure(images) for measure in self.measures]
        loss = torch.zeros(len(images), device=images.device)
        met = torch.ones(len(images), dtype=torch.bool, device=images.device)
        kept = met
        values = []
        for number, (attribute, place) in enumerate(zip(self.attributes, self._places, strict=True)):
            value = attribute.read(outputs[place], identity).float()
            goal = goals[:, number]
            free = goal.isnan()
            miss = attribute.miss(value, torch.where(free, value.detach(), goal))
            within = (miss <= attribute.tolerance) | free
            loss = loss + torch.where(free, torch.zeros_like(miss), attribute.loss(miss))
            met = met & within
            kept = kept & within if attribute.required else kept
            values.append(value)
        return Judged(loss, torch.stack(values, 1), met, kept)


class _Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images)


def _only(output: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    if output.ndim == 2 and output.shape[1] == 1:
        output = output[:, 0]
    if output.ndim != 1:
        raise ConfigError(f"attribute: expected one value an image, [B], found {list(output.shape)}.")
    return output

"""Attribute control as a user asks for it: which attributes, which goals, and the steerer that follows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from v2f_engine.attributes.from_file import attribute_from_file
from v2f_engine.attributes.goals import Goal, draw_goals
from v2f_engine.attributes.steering import Steerer, SteeringSettings
from v2f_engine.attributes.targets import (
    Attribute,
    Objective,
    feature_norm,
    identity_cosine,
    output_of,
    pose,
    published_plus,
)
from v2f_engine.config import at_least, between, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models.features import to_network

if TYPE_CHECKING:
    from v2f_engine.backends import Choice
    from v2f_engine.models.vec2face import Vec2Face
    from v2f_engine.models.weights import LoadedModel

POSE = ("yaw", "pitch", "roll")
USES = ("images", "identities", "both")


@dataclass(frozen=True)
class Judges:
    """Which networks judge a generator's images.

    Args:
        recogniser: identity; must be the extractor the generator's vectors come from.
        pose, quality: estimators by name or path; a recogniser's name or path for quality by feature norm.
        min_cosine: where identity counts as kept.
        reference: what a sample's identity is compared with: `vector`, the identity vector, as published, or
            `images`, the mean feature of unsteered images of that identity.
    """

    recogniser: str | Path
    pose: str | Path
    quality: str | Path
    min_cosine: float
    reference: str


JUDGES = {
    # Images of mini have a cosine of 0.68 with the vector that made them, 0.95 with one another: steered to the
    # vector they drift 0.19 away from their own kind by an independent judge, to each other 0.07.
    "mini": Judges("mini", "pose", "quality", 0.7, "images"),
    "vec2face": Judges("arcface-r100-glint360k", "6drepnet", "magface-r100-glint360k", 0.7, "vector"),
    "vec2face-plus": Judges("arcface-r100-glint360k", "6drepnet", "magface-r100-glint360k", 0.7, "vector"),
}
SLOTS = {"cpu": 16, "cuda": 128}
REFERENCES = ("vector", "images")
QUALITY_WEIGHT = 10.0
"""Of a point of the embedded quality estimator. At the published weight of 1 the identity term holds a picture
where it is: judged quality rose in 78 % of 18 images by 0.7 points, at 5 in 83 % by 1.2."""


@dataclass(frozen=True)
class AttributeControl:
    """What to steer and how.

    Args:
        goals: attribute -> goal: a number, `"-60:60"` or `"-45,0,45"`; `yaw`, `pitch`, `roll`, `quality`, or
            an attribute of `attributes`, which may also go by its own default goal.
        attributes: more of them: `Attribute`s, or `file.py:Name`.
        use: `images` steers every image; `identities` refines each identity's vector once before it is
            perturbed, to one goal of its own each, pose among them; `both` refines all but pose, as the published
            script does, and then steers every image. The published scripts do one or the other.
        signed: yaw of -30 and of 30 differ; the published code controls the magnitude alone.
        plus: weights of Vec2Face+ and its identity hinge instead of the first paper's.
        recogniser, pose, quality: networks instead of the model's usual ones (`JUDGES`).
        min_cosine: where identity counts as kept.
        reference: `vector` or `images`, see `Judges`; the model's usual one where None.
        tolerance: attribute -> within which its goal counts as met; default 5 degrees, 1 point.
        settings: of the loop; slots by device where None.
        iterations: bound, where `settings` is None.
    """

    goals: Mapping[str, str | float | Goal] = field(default_factory=dict)
    attributes: tuple[Attribute | str, ...] = ()
    use: str = "images"
    signed: bool = True
    plus: bool = False
    recogniser: str | Path | None = None
    pose: str | Path | None = None
    quality: str | Path | None = None
    min_cosine: float | None = None
    reference: str | None = None
    tolerance: Mapping[str, float] = field(default_factory=dict)
    settings: SteeringSettings | None = None
    iterations: int = 40

    def __post_init__(self) -> None:
        one_of("use", self.use, USES)
        at_least("iterations", self.iterations, 1)
        if self.reference is not None:
            one_of("reference", self.reference, REFERENCES)
        if self.min_cosine is not None:
            between("min_cosine", self.min_cosine, -1.0, 1.0)
        object.__setattr__(self, "goals", {n: Goal.of(g, f"--{n}") for n, g in self.goals.items()})
        if not self.goals and not self.attributes:
            raise ConfigError(
                "attribute control without a goal: give yaw, pitch, roll, quality or an attribute."
            )
        if self.use == "both" and not self.attributes and set(self.goals) <= set(POSE):
            raise ConfigError(
                f"use 'both' with {', '.join(self.goals)} alone: each image has a pose of its own, so there is nothing "
                "to refine in the identities. Steer images (--steer images), or give a quality or an attribute as well."
            )

    @property
    def steers_images(self) -> bool:
        return self.use in ("images", "both")

    @property
    def refines(self) -> bool:
        return self.use in ("identities", "both")

    def steering(self, device: str) -> SteeringSettings:
        """The loop's settings on a device."""
        return self.settings or SteeringSettings(
            iterations=self.iterations, slots=SLOTS[device.split(":")[0]], look_every=1
        )


class Control:
    """A control made ready for one generator: networks loaded, frozen and on its device.

    Args:
        asked: see `AttributeControl`.
        loaded: the generator's weights and name.
        frozen: the generator as the runner has it, or frozen anew where its runner holds none.
        choice: device, precision and the backends that `frozen` is bound to.
        n_dropped: of the mask schedule.
    """

    def __init__(
        self, asked: AttributeControl, loaded: LoadedModel, frozen: Vec2Face, choice: Choice, n_dropped: int
    ) -> None:
        self.asked, self.settings = asked, asked.steering(choice.device)
        self.choice, self._frozen, self._n_dropped = choice, frozen, n_dropped
        self.sources: dict[str, str] = {}
        self.attributes = self._attributes(loaded.name)
        unknown = [name for name in asked.goals if name not in [a.name for a in self.attributes]]
        if unknown:
            raise ConfigError(
                f"goals for {unknown} without an attribute of that name; known: yaw, pitch, roll, quality, or"
                " give --attribute file.py:Name."
            )
        self._steerers: dict[tuple[str, ...], Steerer] = {}

    def _attributes(self, model: str) -> list[Attribute]:
        asked = self.asked
        usual = JUDGES.get(model)
        if usual is None and asked.recogniser is None:
            raise ConfigError(
                f"model {model!r}: attribute control needs the recogniser whose features are its vectors"
                " (recogniser=...); it cannot be guessed for weights given by path."
            )
        usual = usual or JUDGES["mini"]
        self.reference = asked.reference or usual.reference
        recogniser = self._recogniser(asked.recogniser or usual.recogniser)
        floor = usual.min_cosine if asked.min_cosine is None else asked.min_cosine
        made = [identity_cosine(recogniser, min_cosine=floor)]
        turned = [name for name in POSE if name in asked.goals]
        if turned:
            estimator, outputs = self._pose(asked.pose or usual.pose)
            for name in turned:
                compare = "equal" if asked.signed else "magnitude"
                made.append(pose(estimator, outputs, name, compare=compare))
        if "quality" in asked.goals:
            made.append(self._quality(asked.quality or usual.quality, recogniser, usual, asked))
        for extra in asked.attributes:
            own = attribute_from_file(extra) if isinstance(extra, str) else extra
            own.measure.requires_grad_(False).eval().to(self.choice.device)
            made.append(own)
        made = [replace(a, tolerance=asked.tolerance.get(a.name, a.tolerance)) for a in made]
        return [published_plus(a) for a in made] if asked.plus else made

    def _recogniser(self, name: str | Path) -> nn.Module:
        from v2f_engine.models.fold import freeze
        from v2f_engine.models.iresnet import as_rgb
        from v2f_engine.models.weights import load_recogniser

        loaded = load_recogniser(name)
        self.sources[f"recogniser {loaded.name}"] = loaded.sha256
        return freeze(as_rgb(loaded.model), device=self.choice.device, dtype=self.choice.dtype)

    def _pose(self, name: str | Path) -> tuple[nn.Module, tuple[str, ...]]:
        from v2f_engine.attributes.estimators import load_estimator
        from v2f_engine.attributes.sixd import OUTPUTS, is_sixd, load_sixd
        from v2f_engine.models.checkpoint_file import file_sha256, read_checkpoint

        if name != "pose" and Path(name).is_file() and is_sixd(read_checkpoint(name)):
            self.sources["pose 6DRepNet"] = file_sha256(Path(name))
            network = load_sixd(name).to(device=self.choice.device, dtype=self.choice.dtype)
            return network.to(memory_format=torch.channels_last), OUTPUTS  # type: ignore[call-overload]
        if name == "6drepnet":
            raise ConfigError(
                "yaw, pitch and roll of published models are judged by 6DRepNet, whose weights are not shipped:"
                " download 6DRepNet_300W_LP_AFLW2000.pth and give its path as pose=... (--pose-model)."
            )
        loaded = load_estimator(name)
        self.sources[f"pose {loaded.name}"] = loaded.sha256
        return loaded.model.to(self.choice.device), loaded.model.config.outputs

    def _quality(
        self, name: str | Path, recogniser: nn.Module, usual: Judges, asked: AttributeControl
    ) -> Attribute:
        from v2f_engine.attributes.estimators import KIND, load_estimator
        from v2f_engine.models.checkpoint_file import read_checkpoint

        path = Path(name)
        if name == "quality" or (path.is_file() and read_checkpoint(path).head.get("kind") == KIND):
            loaded = load_estimator(name)
            self.sources[f"quality {loaded.name}"] = loaded.sha256
            network = loaded.model.to(self.choice.device)
            how = {"compare": "at_least", "weight": QUALITY_WEIGHT}
            return output_of(network, loaded.model.config.outputs, "quality", 24.0, **how)
        same = name == (asked.recogniser or usual.recogniser)
        return feature_norm(recogniser if same else self._recogniser(name))

    @property
    def refined(self) -> tuple[str, ...]:
        """The attributes that an identity is refined to: without pose where each image is then steered to its own."""
        left = POSE if self.asked.steers_images else ()
        return tuple(attribute.name for attribute in self.attributes if attribute.name not in left)

    @property
    def refines_pose(self) -> bool:
        return self.asked.refines and bool(set(self.refined) & set(POSE))

    def measured(
        self, images: NDArray[np.uint8], kept: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """What the judges of what was asked say of images: attribute -> float32 `[N]`.

        Args:
            images: uint8 `[N, 112, 112, 3]`.
            kept: features `[N, D]` for attributes that compare with an identity.
        """
        judged = [attribute for attribute in self.attributes if attribute.name != "identity"]
        objective, rows, device = Objective(judged), self.settings.slots, self.choice.device
        found = np.empty((len(images), len(judged)), np.float32)
        for start in range(0, len(images), rows):
            count = len(images[start : start + rows])
            # A call has always the same number of rows: libraries round a batch of another size otherwise.
            place = np.minimum(np.arange(start, start + rows), start + count - 1)
            seen = to_network(torch.from_numpy(images[place]).to(device))
            free = torch.full((rows, len(judged)), torch.nan, device=device)
            with torch.no_grad():
                values = objective(seen, free, torch.from_numpy(kept[place]).to(device)).values
            found[start : start + count] = values[:count].cpu().numpy()
        return {attribute.name: found[:, column].copy() for column, attribute in enumerate(judged)}

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features `[N, D]` by the recogniser that judges identity, at unit length."""
        from v2f_engine.models.features import extract_features

        found = extract_features(self.attributes[0].measure, images, batch=SLOTS["cpu"] * 4)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    def with_slots(self, slots: int) -> Control:
        """The same with other slots; its loops are built anew, and those of `self` go."""
        other = copy.copy(self)
        other.settings, other._steerers = replace(self.settings, slots=slots), {}
        self._steerers.clear()
        return other

    def slower(self, share: float) -> Control:
        """The same at a share of the rate."""
        other = copy.copy(self)
        other.settings, other._steerers = replace(self.settings, lr=self.settings.lr * share), {}
        return other

    def steerer(self, names: tuple[str, ...]) -> Steerer:
        """The loop over these attributes (identity always among them)."""
        if names not in self._steerers:
            chosen = [attribute for attribute in self.attributes if attribute.name in names]
            cuda = self.choice.device.startswith("cuda")
            self._steerers[names] = Steerer(
                self._frozen,
                Objective(chosen),
                self.settings,
                n_dropped=self._n_dropped,
                graph=cuda,
            )
        return self._steerers[names]

    def goals(
        self, seed: int, identity: NDArray[np.int64], image: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """Goals of these images, by attribute."""
        return draw_goals(self.asked.goals, seed, identity, image)  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        """Everything that decides a steered image's bytes, for manifests."""
        asked = self.asked
        return {
            "use": asked.use,
            "signed": asked.signed,
            "reference": self.reference,
            "goals": {name: Goal.of(goal).describe() for name, goal in asked.goals.items()},
            **self._refined_pose(),
            "attributes": [
                {
                    "name": a.name,
                    "compare": a.compare,
                    "weight": a.weight,
                    "scale": a.scale,
                    "tolerance": a.tolerance,
                    "goal": a.goal,
                }
                for a in self.attributes
            ],
            "judges": dict(sorted(self.sources.items())),
            "loop": asked.steering(self.choice.device).describe(),
            **_backends(self.choice),
        }

    def _refined_pose(self) -> dict[str, Any]:
        """Named where it decides bytes: pose was once left out of refined identities, and such a set is another one."""
        return {"refined to": list(self.refined)} if self.refines_pose else {}


def _backends(choice: Choice) -> dict[str, Any]:
    """What the steered network runs, where that is not the same since there are steered datasets: on a CPU it is."""
    return {} if choice.device == "cpu" else {"network": choice.describe()}

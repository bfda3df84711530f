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

from v2f_engine.arguments import MAPPING, NUMBER
from v2f_engine.attributes.counted import CountedSettings, CountedSteerer
from v2f_engine.attributes.forms import FORMS, Form
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
from v2f_engine.config import at_least, between, one_of, yes_or_no
from v2f_engine.errors import ConfigError, ModelNotFound
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


MINI = Judges("mini", "pose", "quality", 0.7, "images")
JUDGES = {
    # Images of mini have a cosine of 0.68 with the vector that made them, 0.95 with one another: steered to the
    # vector they drift 0.19 away from their own kind by an independent judge, to each other 0.07.
    "mini": MINI,
    "mini-pose": MINI,
    "vec2face": Judges("arcface-r100-glint360k", "6drepnet", "magface-r100-glint360k", 0.7, "vector"),
    "vec2face-plus": Judges("arcface-r100-glint360k", "6drepnet", "magface-r100-glint360k", 0.7, "vector"),
    "vec2face-plus-pose": Judges(
        "arcface-r100-glint360k", "6drepnet", "magface-r100-glint360k", 0.7, "vector"
    ),
}
"""Of models by name; weights given by path have the embedded estimators, and no recogniser until one is named."""
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
        iterations: bound, where `settings` is None; 40 by default, or the form's.
        steering: a name in `attributes.forms.FORMS`: `ours`, or how a published version steers.
        dead_zone: identity counts towards the loss only above this cosine distance; the form's where None.
        rate: of Adam; 0.1 by default, where `settings` is None.
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
    iterations: int | None = None
    steering: str = "ours"
    dead_zone: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        MAPPING("goals", self.goals)
        MAPPING("tolerance", self.tolerance)
        yes_or_no("plus", self.plus)
        if self.rate is not None:
            NUMBER("rate", self.rate)
        one_of("use", self.use, USES)
        one_of("steering", self.steering, FORMS)
        if self.iterations is not None:
            at_least("iterations", self.iterations, 1 if self.form is None else self.form.counted + 1)
        if self.dead_zone is not None:
            between("dead_zone", self.dead_zone, 0.0, 2.0)
        if self.rate is not None and not 0.0 < self.rate <= 1e3:
            raise ConfigError(f"rate: expected above 0 and at most 1000, found {self.rate}.")
        for name, width in self.tolerance.items():
            at_least(f"tolerance of {name}", width, 0.0)
        self._one_source()
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

    def _one_source(self) -> None:
        """Refuses what two arguments would say differently."""
        if self.settings is not None:
            told = [n for n, v in (("iterations", self.iterations), ("rate", self.rate)) if v is not None]
            if told or self.form is not None:
                raise ConfigError(
                    f"settings beside {' and '.join(told) or 'steering'}: the one or the other."
                )
        if self.plus and self.form is not None:
            raise ConfigError(f"plus beside steering {self.steering!r}: a form has its own weights.")

    @property
    def form(self) -> Form | None:
        """The published form; None for ours."""
        return FORMS[self.steering]

    @property
    def compares_magnitudes(self) -> bool:
        """Whether left and right are open: asked, or published."""
        return not self.signed or self.form is not None

    @property
    def steers_images(self) -> bool:
        return self.use in ("images", "both")

    @property
    def refines(self) -> bool:
        return self.use in ("identities", "both")

    def loop(self, device: str) -> SteeringSettings:
        """The loop's settings on a device."""
        slots, rate, form = SLOTS[device.split(":")[0]], self.rate or 0.1, self.form
        if form is None:
            return self.settings or SteeringSettings(self.iterations or 40, rate, slots=slots)
        free = form.free if self.iterations is None else self.iterations - form.counted - 1
        return CountedSettings(lr=rate, slots=slots, counted=form.counted, free=free, counts=form.counts)


class Control:
    """A control made ready for one generator: networks loaded, frozen and on its device.

    Args:
        asked: see `AttributeControl`.
        loaded: the generator's weights and name.
        frozen: the generator as the runner has it, or frozen anew where its runner holds none.
        choice: device, precision and the backends that `frozen` is bound to.
        n_dropped: of the mask schedule.

    Raises:
        ConfigError: a judge that is not named, has no gradients, or judges nothing; the option that names it is said.
    """

    def __init__(
        self, asked: AttributeControl, loaded: LoadedModel, frozen: Vec2Face, choice: Choice, n_dropped: int
    ) -> None:
        self.asked, self.settings = asked, asked.loop(choice.device)
        self.choice, self._frozen, self._n_dropped = choice, frozen, n_dropped
        self.sources: dict[str, str] = {}
        self.attributes = self._attributes(loaded)
        unknown = [name for name in asked.goals if name not in [a.name for a in self.attributes]]
        if unknown:
            raise ConfigError(
                f"goals for {unknown} without an attribute of that name; known: yaw, pitch, roll, quality, or"
                " give --attribute file.py:Name."
            )
        self._steerers: dict[tuple[str, ...], Steerer] = {}

    def _attributes(self, loaded: LoadedModel) -> list[Attribute]:
        asked, form = self.asked, self.asked.form
        usual = None if loaded.licence == "unknown" else JUDGES.get(loaded.name)  # a path may have any name
        if usual is None and asked.recogniser is None:
            raise ConfigError(
                f"model {loaded.name!r}: attribute control needs the recogniser whose features are its vectors; it "
                "cannot be guessed for weights given by path. Name it: --steer-recogniser, or recogniser=... of "
                "AttributeControl; mini, a published name, or a .safetensors or .pth."
            )
        usual = usual or MINI
        self.reference = asked.reference or ("vector" if form else usual.reference)
        recogniser = self._recogniser(
            asked.recogniser or usual.recogniser, "recogniser", "--steer-recogniser"
        )
        floor = form.min_cosine if form else usual.min_cosine
        floor = floor if asked.min_cosine is None else asked.min_cosine
        made = [identity_cosine(recogniser, min_cosine=floor)]
        turned = [name for name in POSE if name in asked.goals]
        if turned:
            estimator, outputs = self._pose(asked.pose or usual.pose)
            for name in turned:
                compare = "magnitude" if asked.compares_magnitudes else "equal"
                made.append(pose(estimator, outputs, name, compare=compare))
        if "quality" in asked.goals:
            made.append(self._quality(asked.quality or usual.quality, recogniser, usual, asked))
        for extra in asked.attributes:
            own = attribute_from_file(extra) if isinstance(extra, str) else extra
            own.measure.requires_grad_(False).eval().to(self.choice.device)
            made.append(own)
        return self._as_asked(made)

    def _as_asked(self, made: list[Attribute]) -> list[Attribute]:
        """Attributes with the tolerances, the form and the dead zone asked for."""
        asked, form = self.asked, self.asked.form
        stray = sorted(asked.tolerance.keys() - {a.name for a in made[1:]})
        if stray:
            identity = " that of identity is min_cosine (--min-cosine);" if "identity" in stray else ""
            raise ConfigError(
                f"tolerance of {stray}, which is not steered;{identity} steered: {[a.name for a in made[1:]]}."
            )
        made = [replace(a, tolerance=asked.tolerance.get(a.name, a.tolerance)) for a in made]
        if form is not None:
            made = [form.weighted(a) for a in made]
        elif asked.plus:
            made = [published_plus(a) for a in made]
        zone = asked.dead_zone if asked.dead_zone is not None or form is None else form.dead_zone
        return made if zone is None else [replace(made[0], dead_zone=float(zone)), *made[1:]]

    def _recogniser(self, name: str | Path, role: str, option: str) -> nn.Module:
        from v2f_engine.models.fold import freeze
        from v2f_engine.models.iresnet import as_rgb
        from v2f_engine.models.weights import load_recogniser

        _refuse_graph(name, option)
        try:
            loaded = load_recogniser(name)
        except ModelNotFound as error:
            raise ModelNotFound(f"steering's {role}: {error} Another is named with {option}.") from error
        known = f"recogniser {loaded.name}"
        if self.sources.get(known, loaded.sha256) != loaded.sha256:
            known = f"{role} recogniser {loaded.name}"
        self.sources[known] = loaded.sha256
        return freeze(as_rgb(loaded.model), device=self.choice.device, dtype=self.choice.dtype)

    def _pose(self, name: str | Path) -> tuple[nn.Module, tuple[str, ...]]:
        from v2f_engine.attributes.estimators import load_estimator
        from v2f_engine.attributes.sixd import OUTPUTS, is_sixd, load_sixd
        from v2f_engine.models.checkpoint_file import file_sha256, read_checkpoint

        _refuse_graph(name, "--pose-model")
        if name != "pose" and Path(name).is_file() and is_sixd(read_checkpoint(name)):
            self.sources["pose 6DRepNet"] = file_sha256(Path(name))
            network = load_sixd(name).to(device=self.choice.device, dtype=self.choice.dtype)
            return network.to(memory_format=torch.channels_last), OUTPUTS  # type: ignore[call-overload]
        if str(name) == "6drepnet":
            raise ConfigError(
                "yaw, pitch and roll of published models are judged by 6DRepNet, whose weights are not shipped:"
                " download 6DRepNet_300W_LP_AFLW2000.pth and give its path as pose=... (--pose-model)."
            )
        try:
            loaded = load_estimator(name)
        except ModelNotFound as error:
            raise ModelNotFound(f"steering's pose: {error} Another is named with --pose-model.") from error
        self.sources[f"pose {loaded.name}"] = loaded.sha256
        return loaded.model.to(self.choice.device), loaded.model.config.outputs

    def _quality(
        self, name: str | Path, recogniser: nn.Module, usual: Judges, asked: AttributeControl
    ) -> Attribute:
        from v2f_engine.attributes.estimators import KIND, load_estimator
        from v2f_engine.models.checkpoint_file import read_checkpoint

        _refuse_graph(name, "--quality-model")
        path = Path(name)
        if name == "quality" or (path.is_file() and read_checkpoint(path).head.get("kind") == KIND):
            loaded = load_estimator(name)
            self.sources[f"quality {loaded.name}"] = loaded.sha256
            network = loaded.model.to(self.choice.device)
            how = {"compare": "at_least", "weight": QUALITY_WEIGHT}
            return output_of(network, loaded.model.config.outputs, "quality", 24.0, **how)
        same = name == (asked.recogniser or usual.recogniser)
        return feature_norm(recogniser if same else self._recogniser(name, "quality", "--quality-model"))

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
            kind = CountedSteerer if isinstance(self.settings, CountedSettings) else Steerer
            self._steerers[names] = kind(
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
            "signed": not asked.compares_magnitudes,
            **({} if asked.form is None else {"steering": asked.steering}),
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
                    # Where it is more than the hinge of Vec2Face+, which the weights tell.
                    **({} if isinstance(a.dead_zone, bool) else {"dead_zone": a.dead_zone}),
                }
                for a in self.attributes
            ],
            "judges": dict(sorted(self.sources.items())),
            "loop": asked.loop(self.choice.device).describe(),
            **_backends(self.choice),
        }

    def _refined_pose(self) -> dict[str, Any]:
        """Named where it decides bytes: pose was once left out of refined identities, and such a set is another one."""
        return {"refined to": list(self.refined)} if self.refines_pose else {}


def _refuse_graph(name: str | Path, option: str) -> None:
    if Path(name).suffix.lower() == ".onnx":
        raise ConfigError(
            f"{name}: an ONNX graph gives no gradients, which steering needs. Give the network's weights "
            f"(.safetensors, .pth) with {option}."
        )


def _backends(choice: Choice) -> dict[str, Any]:
    """What the steered network runs, where that is not the same since there are steered datasets: on a CPU it is."""
    return {} if choice.device == "cpu" else {"network": choice.describe()}

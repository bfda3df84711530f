"""What the page asks for: a person, and how that person's images are drawn; checked at birth.

Each setting is an option of `v2f generate`: `words` are those options as typed, and what they say is what
`perturbation`, `engine_options` and `control` hand to the engine. So a row on the page is the first images of the set
that the command writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError
from v2f_engine.options import EngineOptions
from v2f_engine.ui.sliders import COUNTS, SLIDERS
from v2f_engine.vectors.perturbation import Perturbation

if TYPE_CHECKING:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.pipeline.makers.posed import PoseCondition

KINDS = ("own", "table", "face")
"""Where a person comes from: the model's own, a row of the table that was loaded, a face that was uploaded."""
GOALS = ("yaw", "pitch", "quality")
WAYS = ("auto", "pose-model", "steering")
SPREADS = ("usual", "sigma", "cosine")
POSE_MODEL_OF: Mapping[str, str] = {"mini": "mini-pose"}
"""Generator -> the model of the same people that turns heads in one pass."""
RIGHT = frozenset({"yaw"})
"""Goals for which `auto` takes the pose model. `mini-pose` turns to 45 degrees within 2.4; asked for a pitch of 25 or
-25 it reached 12 and -18 in the mean of 20 images."""


@dataclass(frozen=True)
class Who:
    """One person.

    Args:
        kind: in `KINDS`.
        number: of the model's people of that seed, a row of the table, or which upload.
        seed: of the model's own people; 0 for others.
    """

    kind: str = "own"
    number: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("person", self.kind, KINDS)
        object.__setattr__(self, "seed", COUNTS["seed"].checked("seed", self.seed))
        object.__setattr__(self, "number", COUNTS["number"].checked("person", self.number))
        if self.seed and self.kind != "own":
            raise ConfigError("a seed is of the model's own people; a row or a face has none.")

    @classmethod
    def of(cls, value: Any) -> Who:
        """From JSON."""
        return cls(**_fields(value, "person", ("kind", "number", "seed")))

    @property
    def name(self) -> str:
        """For people."""
        if self.kind == "own":
            return f"Person {self.number} of seed {self.seed}"
        return (
            f"Row {self.number} of the table" if self.kind == "table" else f"Uploaded face {self.number + 1}"
        )

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "number": self.number, "seed": self.seed, "name": self.name}


@dataclass(frozen=True)
class Settings:
    """How images are drawn.

    Args:
        images: how many of a person.
        variation: the seed of noise and masks.
        yaw, pitch, quality: goals, or None for as drawn.
        way: who meets the goals; `auto` is the pose model where it is right, else steering.
        spread: `usual` (of the published scripts; none with the pose model), or what `level` is.
        level: sigma, or the cosine to the person's vector.
        masks: share of the rows that are masked, or None for the schedule's own.

    Raises:
        ConfigError: a number out of its range, or settings that exclude each other.
    """

    images: int = 8
    variation: int = 0
    yaw: float | None = None
    pitch: float | None = None
    quality: float | None = None
    way: str = "auto"
    spread: str = "usual"
    level: float | None = None
    masks: float | None = None

    def __post_init__(self) -> None:
        one_of("way", self.way, WAYS)
        one_of("spread", self.spread, SPREADS)
        object.__setattr__(self, "images", SLIDERS["images"].checked("images", self.images))
        object.__setattr__(self, "variation", COUNTS["variation"].checked("pictures' seed", self.variation))
        for name in (*GOALS, "masks"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, SLIDERS[name].checked(name, value))
        if (self.level is None) != (self.spread == "usual"):
            raise ConfigError(f"spread {self.spread!r} with level {self.level}: sigma and cosine need one.")
        if self.level is not None:
            object.__setattr__(self, "level", SLIDERS[self.spread].checked(self.spread, self.level))
        if self.way == "pose-model" and self.quality is not None:
            raise ConfigError(
                "The pose model turns heads and knows no quality: take steering, or leave quality."
            )

    @classmethod
    def of(cls, value: Any) -> Settings:
        """From JSON."""
        return cls(**_fields(value, "settings", tuple(cls.__dataclass_fields__)))

    @property
    def goals(self) -> dict[str, float]:
        """What is asked for."""
        return {name: value for name in GOALS if (value := getattr(self, name)) is not None}

    def taken(self, pose_model: bool) -> str:
        """`plain`, `pose-model` or `steering`.

        Args:
            pose_model: whether the generator has one.

        Raises:
            ConfigError: it is asked for and there is none.
        """
        if not self.goals:
            return "plain"
        if self.way == "auto":
            return "pose-model" if pose_model and set(self.goals) <= RIGHT else "steering"
        if self.way == "pose-model" and not pose_model:
            raise ConfigError("This model has no pose network: take steering.")
        return self.way

    @property
    def perturbation(self) -> Perturbation | None:
        """The noise asked for; None for the usual."""
        if self.level is None:
            return None
        if self.spread == "cosine":
            return Perturbation.target_cosine(self.level)
        return Perturbation((self.level,), (1.0,))

    @property
    def chosen(self) -> frozenset[str]:
        """What `Request.settled` may not decide."""
        named = {"masks": self.masks is not None, "perturbation": self.level is not None}
        return frozenset(name for name, told in named.items() if told)

    def engine_options(self, base: EngineOptions, pose_model: str | None) -> EngineOptions:
        """The options of the engine that makes these images."""
        made = base if self.masks is None else replace(base, masks=f"{self.masks:g}")
        if self.taken(pose_model is not None) == "pose-model":
            assert pose_model is not None, "taken needs it"
            return replace(made, model=pose_model)
        return made

    def control(self, pose_model: bool) -> AttributeControl | PoseCondition | None:
        """Whatever meets the goals; None without one."""
        way = self.taken(pose_model)
        if way == "plain":
            return None
        goals = {name: f"{value:g}" for name, value in self.goals.items()}
        if way == "pose-model":
            from v2f_engine.pipeline.makers.posed import PoseCondition

            return PoseCondition(goals)
        from v2f_engine.attributes.control import AttributeControl

        return AttributeControl(goals)

    def words(self, pose_model: bool) -> list[str]:
        """The options of `v2f generate` that say the same, but for model, people and folder."""
        told = [word for name, value in self.goals.items() for word in (f"--{name}", f"{value:g}")]
        if self.taken(pose_model) == "pose-model":
            told = ["--by", "pose-model", *told]
        if self.level is not None and self.spread == "sigma":
            told += ["--sigma", f"{self.level:g}", "--sigma-weights", "1"]
        elif self.level is not None:
            told += ["--target-cosine", f"{self.level:g}"]
        if self.masks is not None:
            told += ["--masks", f"{self.masks:g}"]
        return [*told, "--seed", str(self.variation)]


def _fields(value: Any, what: str, known: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object with no other keys than these; some may be missing.

    Raises:
        ConfigError: something else.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{what}: expected an object, found {value!r:.60}.")
    unknown = sorted(set(value) - {*known, "name"})
    if unknown:
        raise ConfigError(f"{what}: unknown {', '.join(unknown)}; known: {', '.join(known)}.")
    return {name: value[name] for name in known if name in value}

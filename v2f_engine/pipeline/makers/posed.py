"""Generation by the pose model of Vec2Face+: one forward pass an image, under a landmark picture.

As published (`pose_control.py` of HaiyuWu/Vec2Face_plus 7aea100): the identity's own vector without noise, 80 to
90 % of the rows masked, and picture after picture of a list in turn over all images of the run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.arguments import MAPPING
from v2f_engine.attributes.goals import Goal, draw_goals
from v2f_engine.config import a_path, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models import landmarks
from v2f_engine.models.features import to_network
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule
from v2f_engine.models.weights import LoadedModel
from v2f_engine.pipeline.draws import Draw, Draws
from v2f_engine.pipeline.makers import Made, Maker
from v2f_engine.pipeline.makers.landmark_pictures import landmark_files as landmark_files
from v2f_engine.pipeline.makers.landmark_pictures import read_pictures
from v2f_engine.runtime import Runner, network_runner
from v2f_engine.vectors.perturbation import Perturbation

if TYPE_CHECKING:
    from v2f_engine.runtime.artefact import ServedModel

MASKS = "plus-generate"
NOISE = Perturbation((0.0,), (1.0,))
"""What images are drawn with unless asked otherwise; docs/attributes.md has what each is worth in degrees."""
TURNS = ("run", "identity")
"""Over what landmark pictures take turns: the images of the run, as published, or of each identity anew."""


@dataclass(frozen=True)
class PoseCondition:
    """Poses for a model that has a pose network (`mini-pose`, `vec2face-plus-pose`, or one of `v2f train pose`).

    Args:
        goals: `yaw` and `pitch` in degrees: a number, `"-60:60"` or `"-45,0,45"`; what is not named is 0.
        pictures: landmark pictures instead, files of 112x112 RGB. As published: black, discs of radius 3, eyes red,
            nose green, mouth blue.
        turns: in `TURNS`. Image k of identity i, of n images each, gets picture `(i * n + k) % N` of N as published;
            with `identity` it gets `k % N`, which is the same where n is a multiple of N.
        heights: a name in `landmarks.HEIGHTS`; by default those that the model was trained on.

    Raises:
        ConfigError: goals of other names, both goals and pictures or neither, turns or heights that do not exist.
    """

    goals: Mapping[str, str | float | Goal] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()
    turns: str = "run"
    heights: str | None = None

    def __post_init__(self) -> None:
        MAPPING("goals", self.goals)
        if not isinstance(self.pictures, (tuple, list)):
            raise ConfigError(f"pictures must be a tuple of paths, found {self.pictures!r:.60}.")
        for picture in self.pictures:
            a_path("pictures", picture)
        unknown = set(self.goals) - {"yaw", "pitch"}
        if unknown:
            raise ConfigError(f"a pose model takes yaw and pitch; found {sorted(unknown)}.")
        if bool(self.goals) == bool(self.pictures):
            raise ConfigError("a pose model needs goals (yaw, pitch) or landmark pictures, one of the two.")
        one_of("turns of landmark pictures", self.turns, TURNS)
        if self.heights is not None:
            one_of("landmark heights", self.heights, landmarks.HEIGHTS)
        object.__setattr__(self, "goals", {n: Goal.of(g, f"--{n}") for n, g in self.goals.items()})
        object.__setattr__(self, "pictures", tuple(Path(p) for p in self.pictures))

    def as_begun(self, described: Mapping[str, Any]) -> PoseCondition:
        """With what is not asked for as a dataset has it that was begun before; `described` is what its manifest says
        (`Posed.describe`)."""
        if self.pictures:
            return self if "turns" in described else replace(self, turns="identity")
        names = {told: name for name, told in landmarks.HEIGHTS.items()}
        heights = names.get(str(described.get("landmarks")))
        return replace(self, heights=heights) if self.heights is None else self


class Posed(Maker):
    """A condition made ready for one engine.

    Args:
        asked: see `PoseCondition`.
        loaded, runner: of the engine.
        masks: how many rows are masked; `MASKS` unless asked otherwise.

    Raises:
        ConfigError: a model without a pose network, or a runner without the generator's modules.
        DatasetError: landmark pictures that cannot be used.
        CheckpointError: a model of landmark heights that are not known.
    """

    noise = NOISE

    def __init__(
        self,
        asked: PoseCondition,
        loaded: LoadedModel | ServedModel,
        runner: Runner,
        masks: MaskSchedule | None = None,
    ) -> None:
        self.asked = asked
        pose = loaded.pose if isinstance(loaded, LoadedModel) else None
        if pose is None or not isinstance(loaded, LoadedModel):
            raise ConfigError(
                f"model {loaded.name!r} has no pose network; use mini-pose, vec2face-plus-pose or one made by"
                " `v2f train pose`, or steer (--by steering)."
            )
        network = network_runner(runner, "The pose model")
        self.rows = self.batch = runner.batch_size
        self.masks = self.usual_masks = masks or MASK_SCHEDULES[MASKS]
        self.heights = asked.heights or loaded.landmark_heights
        self.generator, self.choice = network.model, network.choice
        pose = copy.deepcopy(pose).eval().requires_grad_(False)
        self.pose = pose.to(device=self.choice.device, dtype=self.choice.dtype)
        self.pictures = read_pictures(asked.pictures) if asked.pictures else None

    def smaller(self, rows: int) -> Posed:
        fewer = copy.copy(self)
        fewer.rows = fewer.batch = rows
        return fewer

    def prepared(self, draws: Draws) -> Draws:
        """Each identity's first landmark picture."""
        if self.pictures is None:
            return draws
        before = (
            draws.identity * draws.images.images_per_id if self.asked.turns == "run" else draws.identity * 0
        )
        return replace(draws, given={**draws.given, "first_picture": before % len(self.pictures)})

    def furnished(self, draw: Draw) -> Draw:
        if self.pictures is not None:
            number = (draw.given["first_picture"] + draw.image) % len(self.pictures)
            recorded = {"landmark_picture": number.astype(np.float32)}
            return draw.noting(recorded, pictures=self.pictures[number])
        zero = np.zeros(len(draw), np.float32)
        drawn = draw_goals(self.asked.goals, draw.seed, draw.keys, draw.image)  # type: ignore[arg-type]
        goals = {"yaw": zero, "pitch": zero, **drawn}
        pictures = landmarks.draw(landmarks.project(goals["yaw"], goals["pitch"], heights=self.heights))
        return draw.noting({f"{name}_goal": values for name, values in goals.items()}, pictures=pictures)

    def __call__(self, draw: Draw) -> Made:
        return Made.joined([Made(self._decode(part)) for part in draw.parts(self.rows)])

    @torch.inference_mode()
    def _decode(self, draw: Draw) -> NDArray[np.uint8]:
        """One canonical batch of `rows`, padded by repeating the last."""
        place = np.minimum(np.arange(self.rows), len(draw) - 1)
        vectors, noise, n_masked, pictures = (
            torch.from_numpy(np.ascontiguousarray(part[place])).to(self.choice.device)
            for part in (*draw.inputs, draw.given["pictures"])
        )
        condition = self.pose(to_network(pictures).to(self.choice.dtype))
        made = self.generator.decode(
            vectors.to(self.choice.dtype), noise, n_masked, self.masks.n_dropped, condition
        )
        images: NDArray[np.uint8] = made[: len(draw)].cpu().numpy()
        return images

    def describe(self) -> dict[str, Any]:
        import hashlib

        if self.pictures is not None:
            told = {"pictures": hashlib.sha256(self.pictures.tobytes()).hexdigest()}
            # Datasets begun before there was a choice go by identity and do not say so.
            return {
                "pose model": told if self.asked.turns == "identity" else {**told, "turns": self.asked.turns}
            }
        goals = {name: Goal.of(goal).describe() for name, goal in self.asked.goals.items()}
        return {"pose model": {"goals": goals, "landmarks": landmarks.HEIGHTS[self.heights]}}

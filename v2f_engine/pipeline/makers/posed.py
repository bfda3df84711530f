"""Generation by the pose model of Vec2Face+: one forward pass an image, under a landmark picture."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.attributes.goals import Goal, draw_goals
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models import landmarks
from v2f_engine.models.features import to_network
from v2f_engine.models.weights import LoadedModel
from v2f_engine.pipeline.draws import Draw
from v2f_engine.pipeline.makers import Made, Maker
from v2f_engine.runtime import Runner, network_runner

if TYPE_CHECKING:
    from v2f_engine.runtime.artefact import ServedModel


@dataclass(frozen=True)
class PoseCondition:
    """Poses for a model that has a pose network (`mini-pose`, `vec2face-plus-pose`, or one of `v2f train pose`).

    Args:
        goals: `yaw` and `pitch` in degrees: a number, `"-60:60"` or `"-45,0,45"`; what is not named is 0.
        pictures: landmark pictures instead, files of 112x112 RGB; image i of an identity gets picture
            i modulo their number. As published: black, discs of radius 3, eyes red, nose green, mouth blue.
    """

    goals: Mapping[str, str | float | Goal] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        unknown = set(self.goals) - {"yaw", "pitch"}
        if unknown:
            raise ConfigError(f"a pose model takes yaw and pitch; found {sorted(unknown)}.")
        if bool(self.goals) == bool(self.pictures):
            raise ConfigError("a pose model needs goals (yaw, pitch) or landmark pictures, one of the two.")
        object.__setattr__(self, "goals", {n: Goal.of(g, f"--{n}") for n, g in self.goals.items()})
        object.__setattr__(self, "pictures", tuple(Path(p) for p in self.pictures))


def landmark_files(folder: Path) -> tuple[Path, ...]:
    """Pictures of a folder by name.

    Raises:
        DatasetError: none there.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))
    if not found:
        raise DatasetError(f"{folder}: expected landmark pictures (.png, .jpg), found none.")
    return tuple(found)


def read_pictures(files: Sequence[Path]) -> NDArray[np.uint8]:
    """uint8 `[N, 112, 112, 3]`.

    Raises:
        DatasetError: a file that is no picture of 112x112.
    """
    from PIL import Image, UnidentifiedImageError

    pictures = []
    for path in files:
        try:
            with Image.open(path) as opened:
                picture = np.asarray(opened.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DatasetError(f"{path}: cannot be read as a picture ({error}).") from error
        if picture.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise DatasetError(f"{path}: expected 112x112, found {picture.shape[1]}x{picture.shape[0]}.")
        pictures.append(picture)
    return np.stack(pictures)


class Posed(Maker):
    """A condition made ready for one engine.

    Args:
        asked: see `PoseCondition`.
        loaded, runner: of the engine.

    Raises:
        ConfigError: a model without a pose network, or a runner without the generator's modules.
        DatasetError: landmark pictures that cannot be used.
    """

    def __init__(self, asked: PoseCondition, loaded: LoadedModel | ServedModel, runner: Runner) -> None:
        self.asked = asked
        pose = loaded.pose if isinstance(loaded, LoadedModel) else None
        if pose is None:
            raise ConfigError(
                f"model {loaded.name!r} has no pose network; use mini-pose, vec2face-plus-pose or one made by"
                " `v2f train pose`, or steer (--by steering)."
            )
        network = network_runner(runner, "The pose model")
        self.rows = self.batch = runner.batch_size
        self.n_dropped = runner.n_dropped
        self.generator, self.choice = network.model, network.choice
        pose = copy.deepcopy(pose).eval().requires_grad_(False)
        self.pose = pose.to(device=self.choice.device, dtype=self.choice.dtype)
        self.pictures = read_pictures(asked.pictures) if asked.pictures else None

    def smaller(self, rows: int) -> Posed:
        fewer = copy.copy(self)
        fewer.rows = fewer.batch = rows
        return fewer

    def furnished(self, draw: Draw) -> Draw:
        if self.pictures is not None:
            number = draw.image % len(self.pictures)
            recorded = {"landmark_picture": number.astype(np.float32)}
            return draw.noting(recorded, pictures=self.pictures[number])
        zero = np.zeros(len(draw), np.float32)
        drawn = draw_goals(self.asked.goals, draw.seed, draw.keys, draw.image)  # type: ignore[arg-type]
        goals = {"yaw": zero, "pitch": zero, **drawn}
        pictures = landmarks.draw(landmarks.project(goals["yaw"], goals["pitch"]))
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
            vectors.to(self.choice.dtype), noise, n_masked, self.n_dropped, condition
        )
        images: NDArray[np.uint8] = made[: len(draw)].cpu().numpy()
        return images

    def describe(self) -> dict[str, Any]:
        import hashlib

        if self.pictures is not None:
            return {"pose model": {"pictures": hashlib.sha256(self.pictures.tobytes()).hexdigest()}}
        goals = {name: Goal.of(goal).describe() for name, goal in self.asked.goals.items()}
        return {"pose model": {"goals": goals, "landmarks": "mean head of rendered people"}}

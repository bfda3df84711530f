"""Generation by the pose model of Vec2Face+: one forward pass an image, under a landmark picture."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.attributes.goals import Goal, draw_goals
from v2f_engine.batch import IMAGE_SIZE, ImageBatch
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models import landmarks
from v2f_engine.vectors.perturbation import Perturbation

if TYPE_CHECKING:
    from v2f_engine.pipeline.engine import Engine


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


class Posed:
    """A condition made ready for one engine.

    Raises:
        ConfigError: a model without a pose network, or a runner without the generator's modules.
        DatasetError: landmark pictures that cannot be used.
    """

    def __init__(self, asked: PoseCondition, engine: Engine) -> None:
        self.asked = asked
        network, choice = getattr(engine.runner, "model", None), getattr(engine.runner, "choice", None)
        pose = getattr(engine.loaded, "pose", None)
        if pose is None:
            raise ConfigError(
                f"model {engine.loaded.name!r} has no pose network; use mini-pose, vec2face-plus-pose or one made by"
                " `v2f train pose`, or steer (--by steering)."
            )
        if network is None or choice is None:
            raise ConfigError("the pose model runs on runners 'eager' and 'cuda_graph' only.")
        shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
        self.generator = copy.deepcopy(network, shared)
        self.choice = choice
        pose = copy.deepcopy(pose).eval().requires_grad_(False)
        self.pose = pose.to(device=choice.device, dtype=choice.dtype)
        self.pictures = read_pictures(asked.pictures) if asked.pictures else None

    def goals(
        self, seed: int, identity: NDArray[np.int64], image: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """yaw and pitch of these images, degrees."""
        zero = np.zeros(len(identity), np.float32)
        drawn = draw_goals(self.asked.goals, seed, identity, image)  # type: ignore[arg-type]
        return {"yaw": zero, "pitch": zero, **drawn}

    @torch.inference_mode()
    def decode(
        self,
        vectors: NDArray[np.float32],
        noise: NDArray[np.float32],
        n_masked: NDArray[np.int64],
        n_dropped: int,
        pictures: NDArray[np.uint8],
        rows: int,
    ) -> NDArray[np.uint8]:
        """Images of one canonical batch of `rows`, padded by repeating the last."""
        from v2f_engine.models.features import to_network

        count, dtype = len(vectors), self.choice.dtype
        place = np.minimum(np.arange(rows), count - 1)
        v, n, m, p = (
            torch.from_numpy(np.ascontiguousarray(a[place])).to(self.choice.device)
            for a in (vectors, noise, n_masked, pictures)
        )
        condition = self.pose(to_network(p).to(dtype))
        made = self.generator.decode(v.to(dtype), n, m, n_dropped, condition)
        images: NDArray[np.uint8] = made[:count].cpu().numpy()
        return images

    def describe(self) -> dict[str, Any]:
        """What decides an image's bytes, for manifests."""
        import hashlib

        if self.pictures is not None:
            return {"pose model": {"pictures": hashlib.sha256(self.pictures.tobytes()).hexdigest()}}
        goals = {name: Goal.of(goal).describe() for name, goal in self.asked.goals.items()}
        return {"pose model": {"goals": goals, "landmarks": "mean head of rendered people"}}


def posed(
    engine: Engine,
    condition: Posed,
    vectors: NDArray[np.float32],
    keys: NDArray[np.int64],
    chosen: range,
    images_per_id: int,
    seed: int,
    perturbation: Perturbation,
) -> Iterator[ImageBatch]:
    """Batches of images of the `chosen` identities, in order of (identity, image)."""
    total, rows = len(chosen) * images_per_id, engine.runner.batch_size
    for start in range(0, total, rows):
        position = np.arange(start, min(total, start + rows), dtype=np.int64)
        identity = position // images_per_id * chosen.step + chosen.start
        image = position % images_per_id
        perturbed = perturbation.draw(vectors[identity], keys[identity], image, seed=seed)
        noise, n_masked = engine.masks.draw(seed, keys[identity], image)
        told = {
            "sigma": perturbed.sigma,
            "cosine_to_centre": perturbed.cosine,
            "n_masked": n_masked.astype(np.float32),
        }
        if condition.pictures is None:
            goals = condition.goals(seed, keys[identity], image)
            pictures = landmarks.draw(landmarks.project(goals["yaw"], goals["pitch"]))
            told |= {f"{name}_goal": values for name, values in goals.items()}
        else:
            number = image % len(condition.pictures)
            pictures = condition.pictures[number]
            told["landmark_picture"] = number.astype(np.float32)
        made = condition.decode(perturbed.vectors, noise, n_masked, engine.masks.n_dropped, pictures, rows)
        yield ImageBatch(made, identity, image, told)

"""Test sets of rendered people, each with the emphasis of a published one, as `.bin` verification files.

A genuine pair is two images of one person, an impostor pair one image each of two people; ten folds of as many of
either, as in LFW. Which image numbers a person shows is chosen by the pose that the number stands for, so no image
is made for a test that the world would not make anyway; only age, beard and exposure are set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.verification import write_bin
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.randomness import Purpose, uniforms
from v2f_engine.rendered.camera import draw_pose
from v2f_engine.rendered.draw import Draw, draws
from v2f_engine.rendered.morph import draw_traits, shape
from v2f_engine.rendered.palette import draw_tones
from v2f_engine.rendered.people import make_person, render_person
from v2f_engine.rendered.worlds import WORLD_VERSION

Image = NDArray[np.uint8]
FOLDS = 10
POSE_DRAWS = 16
LOOK_ALIKE_POOL = 600
"""People among whom the most similar one is looked for; a tested person then has the nearest 0.2 %."""
FRONTAL, MODERATE, PROFILE, ANY = (0, 12), (0, 30), (38, 61), (0, 61)
"""Ranges of |yaw| in degrees."""


@dataclass(frozen=True)
class Emphasis:
    """One test set.

    Args:
        name: of the file.
        like: the published sets it is modelled on.
        yaw: ranges of |yaw| of a pair's first and second image.
        age, beard: what the first and the second image set; None leaves the person's own.
        stops: exposure of first and second image, in powers of two of the light.
        look_alikes: impostors are the most similar people of a larger crowd.
        men: only men take part.
    """

    name: str
    like: str
    yaw: tuple[tuple[int, int], tuple[int, int]] = (MODERATE, MODERATE)
    age: tuple[float | None, float | None] = (None, None)
    beard: tuple[str | None, str | None] = (None, None)
    stops: tuple[float, float] = (0.0, 0.0)
    look_alikes: bool = False
    men: bool = False


EMPHASES = (
    Emphasis("frontal", "LFW", (FRONTAL, FRONTAL)),
    Emphasis("frontal-profile", "CFP-FP", (FRONTAL, PROFILE)),
    Emphasis("large-pose", "CPLFW", (PROFILE, PROFILE)),
    Emphasis("age-gap", "AgeDB-30, CALFW", age=(25.0, 60.0)),
    Emphasis("facial-hair", "Hadrian", beard=("none", "full"), men=True),
    Emphasis("exposure", "Eclipse", stops=(-2.5, 1.5)),
    Emphasis("look-alikes", "SLLFW, DoppelVer", look_alikes=True),
)


def write_tests(folder: Path, seed: int, pairs: int, say: Callable[[str], object]) -> dict[str, int]:
    """Writes `<name>.bin` of every emphasis; returns the number of pairs of each.

    Args:
        seed: of the tested people.
        pairs: of each set, half of them genuine; sets of men only have about half as many.
    """
    people = pairs // 2
    folder.mkdir(parents=True, exist_ok=True)
    say(f"tests: looking for the doubles of {people} people among {LOOK_ALIKE_POOL}")
    doubles = nearest_people(seed, people, LOOK_ALIKE_POOL)
    held: dict[str, list[Roles]] = {emphasis.name: [] for emphasis in EMPHASES}
    for identity in range(people):
        for emphasis, roles in _roles(seed, identity, int(doubles[identity])):
            held[emphasis.name].append(roles)
        if identity % 25 == 24:
            say(f"tests: {identity + 1} of {people} people rendered")
    counts = {}
    for emphasis in EMPHASES:
        encoded, same = assemble(held[emphasis.name], emphasis.look_alikes)
        write_bin(folder / f"{emphasis.name}.bin", encoded, same)
        counts[emphasis.name] = len(same)
    return counts


@dataclass
class Roles:
    """A person's encoded images in one set: a genuine pair, and one for either side of an impostor pair."""

    genuine: list[bytes] = field(default_factory=list)
    impostor: list[bytes] = field(default_factory=list)


def assemble(roles: list[Roles], own_double: bool) -> tuple[list[bytes], list[bool]]:
    """Images and labels in ten folds, genuine and impostor pairs alternating.

    An impostor pair is a person's first impostor image and the second of the person half a circle further on, or of
    the person's own double.
    """
    count = len(roles) // FOLDS * FOLDS
    kept = roles[:count]
    images: list[bytes] = []
    for place, own in enumerate(kept):
        other = own if own_double else kept[(place + count // 2) % count]
        images += [*own.genuine, own.impostor[0], other.impostor[1]]
    return images, [True, False] * count


def _roles(seed: int, identity: int, double: int) -> Iterator[tuple[Emphasis, Roles]]:
    encoder = Encoder(quality=98)
    numbers = ImageNumbers(seed)
    people: dict[tuple[Any, ...], Any] = {}

    def picture(who: int, emphasis: Emphasis, side: int) -> bytes:
        age, beard = emphasis.age[side], emphasis.beard[side]
        key = (who, age, beard)
        if key not in people:
            people[key] = make_person(seed, who, age=age, beard=beard)
        number = numbers.next(who, emphasis.yaw[side])
        image = render_person(people[key], [number]).images[0]
        return encoder.encode(exposed(image, emphasis.stops[side]))

    man = is_man(seed, identity)
    for emphasis in EMPHASES:
        if emphasis.men and not man:
            continue
        genuine = [picture(identity, emphasis, side) for side in (0, 1)]
        second = double if emphasis.look_alikes else identity
        impostor = [picture(identity, emphasis, 0), picture(second, emphasis, 1)]
        yield emphasis, Roles(genuine, impostor)


class ImageNumbers:
    """Unused image numbers of people, by the pose that they stand for."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._next: dict[int, int] = {}

    def next(self, identity: int, yaw: tuple[int, int]) -> int:
        """The next number of this person whose |yaw| lies in the range; each is given once."""
        start = self._next.get(identity, 0)
        while True:
            numbers = np.arange(start, start + 64, dtype=np.int64)
            rows = uniforms(
                self._seed, Purpose.RENDER_IMAGE, np.full(64, identity, np.int64), numbers, POSE_DRAWS
            )
            for number, row in zip(numbers.tolist(), rows, strict=True):
                if yaw[0] <= abs(draw_pose(Draw(row))[0]) < yaw[1]:
                    self._next[identity] = number + 1
                    return number
            start += 64


def exposed(image: Image, stops: float) -> Image:
    """The image with `2**stops` of its light: highlights clip, shadows sink into the eight bits."""
    if not stops:
        return image
    light = (image.astype(np.float32) / 255) ** 2.2 * 2.0**stops
    return np.asarray(np.rint(np.clip(light, 0, 1) ** (1 / 2.2) * 255), np.uint8)


def is_man(seed: int, identity: int) -> bool:
    return bool(draw_traits(_draw(seed, identity)).male)


def _draw(seed: int, identity: int) -> Draw:
    return Draw(draws(seed, Purpose.RENDER_PERSON, identity, 0, 9000))


def nearest_people(seed: int, people: int, pool: int) -> NDArray[np.int64]:
    """The double of each of the first `people` identities among the `pool` that follow.

    Similar by the world's own account, so by no recogniser: shape of the front of the head, colour of the skin, age
    and gender, each scaled by its spread.
    """
    rows = np.stack([_looks(seed, identity) for identity in range(people + pool)])
    spread = rows.std(axis=0)
    rows = rows[:, spread > 0] / spread[spread > 0]
    own, others = rows[:people], rows[people:]
    distance = (own**2).sum(1)[:, None] + (others**2).sum(1) - 2 * own @ others.T
    return np.asarray(people + distance.argmin(axis=1), np.int64)


def _looks(seed: int, identity: int) -> NDArray[np.float64]:
    d = _draw(seed, identity)
    traits = draw_traits(d)
    position = shape(d, traits, WORLD_VERSION)
    tones = draw_tones(d, traits, None)  # the skin alone is read, not the hair
    front = position[position[:, 2] > 0.6][::12] if _FRONT is None else position[_FRONT]
    skin = np.tile(np.asarray(tones.skin, np.float64), 40)
    rest = np.repeat([traits.gender, traits.age / 50], [60, 30])
    return np.concatenate([front.reshape(-1).astype(np.float64), skin, rest])


def _front() -> NDArray[np.int64]:
    from v2f_engine.rendered.head import head

    base = head().base
    return np.flatnonzero(base[:, 2] > 0.6)[::12]


_FRONT: NDArray[np.int64] | None = _front()

"""A person of the rendered world: everything that stays the same from image to image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from v2f_engine.randomness import Purpose
from v2f_engine.rendered.clothing import Glasses, draw_glasses
from v2f_engine.rendered.draw import Draw, draws
from v2f_engine.rendered.expression import Resting
from v2f_engine.rendered.facial_hair import draw_facial_hair
from v2f_engine.rendered.hair import draw_hair, paint
from v2f_engine.rendered.hair_mesh import HairMesh, build_hair
from v2f_engine.rendered.head import Array
from v2f_engine.rendered.morph import draw_traits, shape
from v2f_engine.rendered.palette import colour_table, draw_tones
from v2f_engine.rendered.skin import bare_skin

_DRAWS, _LATE = 9000, 7000
"""Uniforms set aside for one person's traits; at most 6,100 are used. World 2's own begin at `_LATE`."""


@dataclass(frozen=True)
class Person:
    """One identity, ready to be rendered from any side.

    Args:
        world: which of `worlds.WORLDS`.
        seed: the world's seed.
        identity: index within the world.
        age: years.
        gender: 0 female .. 1 male.
        race: float64 `[3]`, shares of african, asian, caucasian.
        style: name of the hair style.
        beard: kind of facial hair, a name in `facial_hair.BEARDS`.
        neutral: float32 `[V, 3]`, decimetres.
        skin: float32 `[288, 640, 6]`: linear RGB, gloss, two slopes.
        hair_maps: float32 `[288, 640, 3]`: density, alpha noise, tone.
        hair_mesh: shells and curtains, or None.
        colours: float32 `[9, 3]`, rows of `palette`.
        iris: float32 `[10]`, see `palette.Tones`.
        gloss: factor on the skin's shine.
        glasses: the pair this person owns, or None; worn with probability `glasses_habit`.
        hat_habit: probability of a hat.
        resting: the resting face.
        exposure, albedo: how a camera exposes this skin.
    """

    world: int
    seed: int
    identity: int
    age: float
    gender: float
    race: Array
    style: str
    beard: str
    neutral: Array
    skin: Array
    hair_maps: Array
    hair_mesh: HairMesh | None
    colours: Array
    iris: Array
    gloss: float
    glasses: Glasses | None
    glasses_habit: float
    hat_habit: float
    resting: Resting
    exposure: float
    albedo: float


def draw_person(
    seed: int, identity: int, *, world: int, age: float | None = None, beard: str | None = None
) -> Person:
    """Draw all traits, in a fixed order, from the stream (seed, RENDER_PERSON, identity, 0).

    Args:
        seed, identity, world: as `people.make_person`.
        age: years, instead of the age drawn: the same person earlier or later in life.
        beard: a name in `facial_hair.BEARDS`, instead of the one drawn; men only.
    """
    cv2.setNumThreads(1)  # one process per core is faster, and other threads belong to others
    stream = draws(seed, Purpose.RENDER_PERSON, identity, 0, _DRAWS)
    d, late = Draw(stream), Draw(stream[_LATE:])
    traits = draw_traits(d)
    if age is not None:
        traits = replace(traits, age=age)
    neutral = shape(d, traits, world)
    tones = draw_tones(d, traits, late if world > 1 else None)
    skin = bare_skin(d, traits, tones, world)
    face = draw_facial_hair(d, traits, tones.grey, skin, world, beard)
    hair = draw_hair(d, traits, skin.grain, world)
    texture = paint(d, skin, hair, face, tones, traits.old, world)
    mesh = build_hair(d, neutral, hair, late if world > 1 else None)
    glasses = draw_glasses(d, neutral) if d.chance(0.32) else None
    habit = (0.15, 0.5, 0.95)[d.pick([3, 3, 2])]
    colours = colour_table(d, tones, traits.male, world)
    resting = Resting(d.n(0.0, 0.10), abs(d.n(0, 0.05)), d.n(0.08, 0.10))
    return Person(
        world=world,
        seed=seed,
        identity=identity,
        age=traits.age,
        gender=traits.gender,
        race=traits.race,
        style=hair.style.name,
        beard=face.kind,
        neutral=neutral,
        skin=texture,
        hair_maps=hair.maps,
        hair_mesh=mesh,
        colours=colours,
        iris=tones.iris,
        gloss=d.u(0.6, 1.5),
        glasses=glasses,
        glasses_habit=habit,
        hat_habit=(0.0, 0.12, 0.35)[d.pick([7, 3, 1])],
        resting=resting,
        exposure=float((0.28 / tones.skin.mean()) ** (0.28 if world == 1 else 0.36)),
        albedo=float(np.mean(tones.skin)),
    )

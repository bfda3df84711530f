"""What the rendered images of a judgement show: glasses and hats by image, hair and beards by person."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.claims.judged_sets import Seen
from v2f_engine.errors import ConfigError

Bools = NDArray[np.bool_]

FAR = 40.0
"""Degrees of yaw beyond which a face is turned far."""
BEARDS = ("moustache", "goatee", "short", "full")
"""Kinds that are seen from afar; stubble is not one of them."""


def traits_shown(options: argparse.Namespace, seen: Seen) -> tuple[dict[str, Bools], str]:
    """What each rendered image shows, bool `[N]` by name; and why hair and beards are not among it, if so."""
    told = {name: np.concatenate(values) for name, values in seen.told.items()}
    least = {"glasses": ("glasses", 0.5), "hats": ("hat", 0.5), f"yaw beyond {FAR:g}": ("yaw", FAR)}
    traits = {name: np.abs(told[key]) > edge for name, (key, edge) in least.items() if key in told}
    world = rendered_world(options)
    if world is None:
        return traits, "its folder does not say of which rendered world and seed its people are"
    people = np.concatenate(seen.people)
    try:
        persons = hair_and_beards(np.unique(people), **world)
    except ConfigError as error:
        return traits, str(error)
    return traits | {name: np.isin(people, who) for name, who in persons.items()}, ""


def rendered_world(options: argparse.Namespace) -> dict[str, int] | None:
    """Seed, number of the first person, and world of the rendered set; None where nothing says."""
    from v2f_engine.data import open_dataset
    from v2f_engine.rendered import WORLD_VERSION

    if options.rendered is None:
        return {"seed": options.rendered_seed, "first": 0, "world": WORLD_VERSION}
    manifest = open_dataset(Path(options.rendered)).manifest
    settings: Mapping[str, object] = {} if manifest is None else manifest.settings
    names = ("seed", "first", "world")
    return {name: int(str(settings[name])) for name in names} if all(n in settings for n in names) else None


def hair_and_beards(
    people: NDArray[np.int64], *, seed: int, first: int, world: int
) -> dict[str, NDArray[np.int64]]:
    """Which of these people have hair that hangs, and beards: labels by name. About 0.05 s a person.

    Raises:
        ConfigError: a world that this version cannot render.
    """
    from v2f_engine.rendered import make_person
    from v2f_engine.rendered.hair import BY_NAME

    made = {int(k): make_person(seed, first + int(k), world=world) for k in people}
    return {
        "hair that hangs": np.array([k for k, p in made.items() if BY_NAME[p.style].curtain], np.int64),
        "beards": np.array([k for k, p in made.items() if p.beard in BEARDS], np.int64),
    }

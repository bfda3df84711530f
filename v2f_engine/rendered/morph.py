"""Shape of a head: macro targets (race, gender, age, muscle, weight), then details, asymmetry and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.head import RACES, Array, F, add_target, head

AMPLITUDE = {
    "nose": 0.31,
    "mouth": 0.30,
    "eyes": 0.33,
    "chin": 0.36,
    "cheek": 0.42,
    "ears": 0.4,
    "head": 0.22,
    "forehead": 0.35,
    "eyebrows": 0.40,
    "neck": 0.25,
    "asym": 0.16,
}
"""Standard deviation of a detail's weight, by folder: as large as still looks like a person."""

CALMER = {
    "mouth/mouth-trans": 0.12,
    "nose/nose-trans": 0.2,
    "nose/nose-compression": 0.2,
    "mouth/mouth-laugh-lines": 0.3,
    "mouth/mouth-dimples": 0.3,
}
BIAS = {
    "eyebrows/eyebrows-trans": 0.3,
    "mouth/mouth-angles": 0.15,
    "eyebrows/eyebrows-angle": 0.1,
    "eyes/l-eye-height2": 0.08,
    "eyes/r-eye-height2": 0.08,
    "nose/nose-scale-horiz": -0.1,
    "nose/nose-volume": -0.1,
}
"""The mesh's own average is stern and sleepy; these relax it."""

CALM = {1: 1.0, 2: 0.88}
"""Factor on every detail's weight, by world."""

KINDER = {
    "eyebrows/eyebrows-trans": 0.15,
    "mouth/mouth-angles": 0.40,
    "eyebrows/eyebrows-angle": 0.25,
    "eyes/l-eye-height2": 0.22,
    "eyes/r-eye-height2": 0.22,
    "eyes/l-eye-scale": 0.30,
    "eyes/r-eye-scale": 0.30,
    "nose/nose-scale-horiz": -0.2,
    "nose/nose-volume": -0.2,
    "nose/nose-scale-vert": -0.25,
    "nose/nose-scale-depth": -0.15,
    "chin/chin-height": -0.1,
    "forehead/forehead-scale-vert": -0.1,
}
"""World 2's own of these: larger eyes, a smaller nose, corners of the mouth that point up."""

FEMININE = {
    "eye-scale": 0.22,
    "mouth-upperlip-volume": 0.22,
    "mouth-lowerlip-volume": 0.22,
    "nose-scale-vert": -0.12,
    "nose-scale-depth": -0.15,
    "nose-hump": -0.15,
    "chin-width": -0.2,
    "chin-bones": -0.15,
    "chin-prominent": -0.1,
    "chin-height": -0.1,
    "forehead-nubian": 0.1,
    "mouth-scale-horiz": -0.1,
    "nose-width3": -0.1,
    "eyebrows-trans": 0.15,
    "eye-height2": 0.06,
}


@dataclass(frozen=True)
class Traits:
    """What kind of person: `race` float64 `[3]` sums to 1 over RACES; `gender` 0 female .. 1 male; years."""

    race: Array
    male: bool
    gender: float
    age: float
    muscle: float
    weight: float

    @property
    def old(self) -> float:
        """0 at 35 years, 1 at 70."""
        return float(np.clip((self.age - 35) / 35, 0, 1))


def draw_traits(d: Draw) -> Traits:
    """Mostly one race, clearly one gender, 17 to 75 years."""
    race = np.array([-np.log(1 - d.u()) for _ in range(3)]) ** 2.2
    race /= race.sum()
    male = d.chance(0.5)
    gender = 0.97 - abs(d.n(0, 0.16)) if male else 0.03 + abs(d.n(0, 0.16))
    gender = float(np.clip(gender, 0, 1))
    age = float(np.clip(18 + 52 * d.u() ** 1.35 + d.n(0, 2), 17, 75))
    muscle, weight = float(np.clip(d.n(0.5, 0.17), 0, 1)), float(np.clip(d.n(0.48, 0.19), 0, 1))
    return Traits(race, male, gender, age, muscle, weight)


def _levels(x: float) -> dict[str, float]:
    return {"min": max(0.0, 1 - 2 * x), "max": max(0.0, 2 * x - 1), "average": 1 - abs(2 * x - 1)}


def _macro(p: Array, t: Traits) -> None:
    targets = head().targets
    old = float(np.clip((t.age - 24) / 60, 0, 1))
    child = float(np.clip((22 - t.age) / 14, 0, 0.35))
    for gender, gw in (("male", t.gender), ("female", 1 - t.gender)):
        for age, aw in (("young", 1 - old - child), ("old", old), ("child", child)):
            for r, rw in zip(RACES, t.race, strict=True):
                add_target(p, targets, f"macrodetails/{r}-{gender}-{age}", gw * aw * rw)
            for muscle, mw in _levels(t.muscle).items():
                for weight, ww in _levels(t.weight).items():
                    name = f"macrodetails/universal-{gender}-{age}-{muscle}muscle-{weight}weight"
                    add_target(p, targets, name, gw * aw * mw * ww)


def _unsided(name: str) -> str:
    return name[2:] if name[:2] in ("l-", "r-") else name


def shape(d: Draw, traits: Traits, world: int) -> Array:
    """Neutral vertex positions float32 `[V, 3]`, the eyes brought back to the canonical place."""
    calm, bias = (CALM[world], BIAS if world == 1 else BIAS | KINDER)
    h = head()
    p = h.base.copy()
    _macro(p, traits)
    z = d.normals(len(h.pairs))
    sided: dict[str, float] = {}
    for (stem, (minus, plus)), value in zip(h.pairs.items(), z, strict=True):
        folder, name = stem.split("/")
        key = _unsided(name)
        if key in sided and folder != "asym":  # left and right differ a little
            value = 0.97 * sided[key] + 0.2 * value
        sided[key] = value
        w = AMPLITUDE[folder] * calm * CALMER.get(stem, 1.0) * value + bias.get(stem, 0.0)
        w += FEMININE.get(key, 0.0) * (0.5 - traits.gender) * 2
        w = float(np.clip(w, -1.15, 1.15))
        if stem in ("mouth/mouth-trans", "nose/nose-trans") and (minus or "").endswith("-in"):
            w *= 0.15
        target = plus if w > 0 else minus
        if target is not None:
            add_target(p, h.targets, target, abs(w))
    tied: dict[str, float] = {}
    for name, u in zip(h.shapes, d.take(len(h.shapes)), strict=True):
        strength = tied.setdefault(_unsided(name.split("/")[1]), float(u))
        scale = 0.12 if "asym" in name else (0.35 if name.startswith("head/") or "pointed" in name else 0.7)
        add_target(p, h.targets, name, max(0.0, strength - 0.62) / 0.38 * scale)
    eye = (p[h.joints["joint-l-eye"]].mean(0) + p[h.joints["joint-r-eye"]].mean(0)) / 2
    p += np.array([0, 7.355, 1.18], F) - eye  # body height moves the head
    return p

"""Facial expression of one image: weights of the CC0 face units (ARKit names) for one of six moods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from v2f_engine.rendered.draw import Draw


@dataclass(frozen=True)
class Resting:
    """How a person's face rests: weights of smile, jaw and raised inner brows."""

    smile: float
    jaw: float
    brow: float


@dataclass(frozen=True)
class Expression:
    """`weights`: target name -> weight; `strength` 0..1, the recorded attribute."""

    weights: dict[str, float]
    strength: float

    @property
    def shows_teeth(self) -> bool:
        """Whether the mouth is open enough to draw what is in it."""
        w = self.weights
        lips = w.get("unit/mouthUpperUpLeft", 0) * 0.8 + w.get("unit/mouthLowerDownLeft", 0) * 0.8
        return w["unit/jawOpen"] + lips > 0.12


class _Face:
    """Weights being put together."""

    def __init__(self, d: Draw) -> None:
        self.d = d
        self.weights: dict[str, float] = {}
        self.uneven = d.n(0, 0.08)
        self.jaw = 0.0

    def both(self, name: str, value: float, uneven: bool = False) -> None:
        if value > 0.01:
            more = self.uneven if uneven else 0.0
            self.weights[f"unit/{name}Left"] = min(1.0, value * (1 + more))
            self.weights[f"unit/{name}Right"] = min(1.0, value * (1 - more))

    def one(self, name: str, value: float) -> None:
        self.weights[f"unit/{name}"] = value


def _neutral(f: _Face, s: float) -> None:
    pass


def _smile(f: _Face, s: float) -> None:
    f.both("cheekSquint", 0.5 * s)
    if s > 0.45:
        f.both("mouthUpperUp", 0.55 * (s - 0.3), uneven=True)
        f.both("mouthLowerDown", 0.35 * (s - 0.3))
        f.jaw += f.d.u(0.0, 0.22) * s


def _talk(f: _Face, s: float) -> None:
    f.jaw += 0.1 + 0.5 * s
    f.both("mouthStretch", f.d.u(0, 0.3))
    f.one("mouthFunnel", f.d.u(0, 0.5))


def _surprise(f: _Face, s: float) -> None:
    f.jaw += 0.45 * s
    f.one("browInnerUp", 0.3 + 0.6 * s)
    f.both("browOuterUp", 0.3 + 0.6 * s, uneven=True)
    f.both("eyeWide", 0.5 * s)


def _frown(f: _Face, s: float) -> None:
    f.both("browDown", 0.25 + 0.6 * s, uneven=True)
    f.both("mouthFrown", 0.2 + 0.5 * s)
    f.both("noseSneer", f.d.u(0, 0.5))
    f.both("eyeSquint", f.d.u(0, 0.6))


def _odd(f: _Face, s: float) -> None:
    f.one("mouthPucker", f.d.u(0, 0.8))
    aside, left = f.d.u(0, 0.6), f.d.chance(0.5)
    f.one("mouthLeft" if left else "mouthRight", aside)
    f.both("mouthPress", f.d.u(0, 0.6))
    f.one("cheekPuff", f.d.u(0, 0.5) if f.d.chance(0.3) else 0.0)


MOODS: tuple[tuple[Callable[[_Face, float], None], float], ...] = (
    (_neutral, 34),
    (_smile, 34),
    (_talk, 12),
    (_surprise, 8),
    (_frown, 6),
    (_odd, 6),
)
"""A mood and its weight in world 1."""

KINDER = (36, 46, 8, 4, 3, 3)
"""World 2's weights of the same moods."""
SMILES = {"_neutral": 0.22, "_smile": 0.35, "_frown": 0.0}
"""Least smile of a mood in world 2; 0.12 for the others."""


def draw_expression(d: Draw, rest: Resting, world: int) -> Expression:
    """A mood of random strength on top of the person's resting face, and a blink now and then."""
    f = _Face(d)
    weights = [weight for _, weight in MOODS] if world == 1 else KINDER
    mood, _ = MOODS[d.pick(weights)]
    s = d.u()
    if world == 1:
        smile = rest.smile + (0.25 + 0.75 * s if mood is _smile else 0.12 * s)
    else:
        smile = rest.smile + SMILES.get(mood.__name__, 0.12) + (0.6 * s if mood is _smile else 0.15 * s)
    f.both("mouthSmile", smile, uneven=True)
    f.jaw = rest.jaw * 0.5
    mood(f, s)
    f.one("jawOpen", min(0.8, f.jaw))
    f.one("browInnerUp", max(f.weights.get("unit/browInnerUp", 0.0), max(0.0, rest.brow + d.n(0, 0.08))))
    f.both("eyeBlink", 1.0 if d.chance(0.025) else max(0.0, d.n(0.06 if world == 1 else 0.0, 0.1)))
    return Expression(f.weights, 0.15 if mood is _neutral else min(1.0, 0.3 + 0.7 * s))

"""Many vectors per identity: the forms of perturbation in one table, and the published one.

    sigma       noise of a random level, brought back to the centre's length
    cosine      the same, its levels given by the cosine to the centre that they should give
    cone        evenly within a cone, guarded so that nobody is nearer to another (`perturbation_cone.py`)
    covariance  as images of one person were measured to differ (`perturbation_covariance.py`)

A sigma only means something against a vector's length: with length 21.9, sigma 0.3 / 0.5 / 0.7 give cosines
of 0.955 / 0.888 / 0.810 to the centre; with length 15, 0.911 / 0.798 / 0.688. So levels can be given either
as sigmas (the published 0.3 / 0.5 / 0.7 at 40 / 40 / 20 %) or as the cosines they should give.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from v2f_kernels import _cosine

from v2f_engine.arguments import NUMBERS, WORD
from v2f_engine.backends import function
from v2f_engine.config import a_path, between, one_of
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.randomness import Purpose, uniforms
from v2f_engine.vectors.perturbation_cone import Cone
from v2f_engine.vectors.perturbation_contract import (
    Around,
    Float32,
    Perturbed,
    check_centres,
    measured,
)
from v2f_engine.vectors.perturbation_covariance import Covariance
from v2f_engine.vectors.within import Within

RANGES = {"sigma": (0.0, 100.0), "cosine": (0.05, 1.0)}


@dataclass(frozen=True)
class Perturbation(Around):
    """A mixture of noise levels; each image draws one, whatever other images do.

    Args:
        levels: noise levels: standard deviations per entry, or cosines to the centre.
        weights: share of the images that get each level; they sum to 1.
        unit: `"sigma"` or `"cosine"`. A cosine c becomes sigma = |x| sqrt((1/c^2 - 1) / 512), for which the
            expected cosine is c to within 0.1 %.

    Raises:
        ConfigError: no levels, lengths that differ, weights that do not sum to 1, or levels out of range.
    """

    levels: tuple[float, ...] = (0.3, 0.5, 0.7)
    weights: tuple[float, ...] = (0.4, 0.4, 0.2)
    unit: str = "sigma"

    def __post_init__(self) -> None:
        one_of("perturbation unit", self.unit, RANGES)
        object.__setattr__(self, "levels", NUMBERS("perturbation levels", self.levels))
        object.__setattr__(self, "weights", NUMBERS("perturbation weights", self.weights))
        if not self.levels or len(self.levels) != len(self.weights):
            raise ConfigError(
                f"A perturbation needs one weight per level, found levels {self.levels} and weights {self.weights}. "
                "Give as many of weights (--sigma-weights) as of levels."
            )
        if any(not w >= 0 for w in self.weights) or abs(math.fsum(self.weights) - 1) > 1e-6:
            raise ConfigError(f"Perturbation weights must be positive and sum to 1, found {self.weights}.")
        low, high = RANGES[self.unit]
        for level in self.levels:
            between(f"perturbation {self.unit}", level, low, high)

    @classmethod
    def target_cosine(cls, *cosines: float, weights: tuple[float, ...] | None = None) -> Perturbation:
        """Levels by the cosine to the centre that they should give; equal weights by default."""
        if weights is not None:
            weights = NUMBERS("weights", weights)
        equal = (1 / len(cosines),) * len(cosines) if cosines else ()
        return cls(tuple(cosines), equal if weights is None else weights, "cosine")

    @staticmethod
    def cone(lowest: float = 0.6, *, guarded: bool = True) -> Cone:
        """Evenly within a cone around the centre: cosines from `lowest` to 1; see `perturbation_cone.Cone`."""
        return Cone(lowest, guarded)

    @staticmethod
    def covariance(within: str | Path | Within) -> Covariance:
        """As images of one person were measured to differ: a fit, or a file of `v2f ids within`."""
        return Covariance(within) if isinstance(within, Within) else Covariance.load(a_path("within", within))

    @staticmethod
    def of(text: str) -> Around:
        """A form as `--perturbation` has it: `sigma:0.3,0.5,0.7@0.4,0.4,0.2`, `cosine:0.9,0.8`, `cone:0.6`,
        `covariance:within.safetensors`.

        Raises:
            ConfigError: an unknown form, or one whose values cannot be.
            VectorError: a file that is missing or broken.
        """
        WORD("perturbation", text)
        name, _, rest = text.partition(":")
        return FORMS[one_of("perturbation", name, FORMS)].typed(rest)

    @property
    def words(self) -> str:
        return f"{self.unit} {'/'.join(f'{level:g}' for level in self.levels)}"

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values, for manifests."""
        return {"levels": list(self.levels), "weights": list(self.weights), "unit": self.unit}

    def sigma(
        self,
        centres: Float32,
        identity: ArrayLike,
        image: ArrayLike,
        *,
        seed: int = 0,
        chance: NDArray[np.floating[Any]] | None = None,
    ) -> Float32:
        """float32 `[B]`: the level of each image, as a standard deviation per entry; arguments as `draw`."""
        if chance is None:
            chance = uniforms(seed, Purpose.SIGMA, identity, image, 1)[:, 0]
        edges = np.cumsum(self.weights)[:-1]
        last = max(place for place, weight in enumerate(self.weights) if weight > 0)
        place = np.minimum(np.searchsorted(edges, chance, side="right"), last)  # weights may sum to 1 - 1e-6
        level = np.asarray(self.levels, np.float64)[place]
        if self.unit == "cosine":
            level = _cosine.norm(centres) * np.sqrt((1 / level**2 - 1) / centres.shape[1])
        return np.asarray(level, np.float32)

    def draw(
        self,
        centres: Float32,
        identity: ArrayLike,
        image: ArrayLike,
        *,
        seed: int = 0,
        chance: NDArray[np.floating[Any]] | None = None,
    ) -> Perturbed:
        """The vectors of images: see `Around.draw`; `chance` decides each image's level along the weights."""
        check_centres(centres, identity)
        sigma = self.sigma(centres, identity, image, seed=seed, chance=chance)
        perturb = function("perturb_measured")
        vectors, cosine = perturb(centres, sigma, seed, Purpose.PERTURBATION, identity, image)
        return measured(vectors, sigma, cosine)


@dataclass(frozen=True)
class Form:
    """A form of perturbation by name.

    Args:
        typed: makes it of what stands behind its name and a colon.
        told: makes it of what a manifest says, and the file of what `Around.attachment` gave.
        option: writes what `typed` reads, of the same two.
    """

    typed: Callable[[str], Around]
    told: Callable[[Mapping[str, Any], Path | None], Around]
    option: Callable[[Mapping[str, Any], Path | None], str]


def _numbers(text: str, what: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{what}: expected numbers separated by commas, found {text!r}.") from error


def _mixture(unit: str) -> Callable[[str], Around]:
    def typed(text: str) -> Around:
        what = f"perturbation {unit}:LEVELS@SHARES"
        levels, at, shares = text.partition("@")
        found = _numbers(levels, what)
        if at:
            return Perturbation(found, _numbers(shares, what), unit)
        if unit == "cosine":
            return Perturbation.target_cosine(*found)
        return Perturbation(found, (1.0,)) if len(found) == 1 else Perturbation(found)

    return typed


def _cone(text: str) -> Around:
    number, comma, word = text.partition(",")
    if comma:
        one_of("perturbation cone:LOWEST,", word, ("guarded", "unguarded"))
    lowest = _numbers(number, "perturbation cone:LOWEST")[0] if number else Cone.lowest
    return Cone(lowest, word != "unguarded")


def _covariance(text: str) -> Around:
    if not text:
        raise ConfigError("perturbation covariance:FILE: expected a file of `v2f ids within`, found none.")
    return Covariance.load(text)


def _listed(values: Any) -> str:
    return ",".join(map(repr, values))


def _told_mixture(told: Mapping[str, Any], held: Path | None) -> Around:
    return Perturbation(tuple(told["levels"]), tuple(told["weights"]), told["unit"])


def _option_of_mixture(told: Mapping[str, Any], held: Path | None) -> str:
    return f"{_listed(told['levels'])}@{_listed(told['weights'])}"


FORMS: Mapping[str, Form] = {
    "sigma": Form(_mixture("sigma"), _told_mixture, _option_of_mixture),
    "cosine": Form(_mixture("cosine"), _told_mixture, _option_of_mixture),
    "cone": Form(
        _cone,
        Cone.told,
        lambda told, held: f"{told['lowest']!r}" + ("" if told["guarded"] else ",unguarded"),
    ),
    "covariance": Form(_covariance, Covariance.told, lambda told, held: str(held)),
}
"""Name, as `--perturbation NAME:...` has it and manifests say it -> form."""


def _name_of(told: Mapping[str, Any]) -> str:
    """The form of a manifest's `perturbation`; the mixtures, which came first, say `unit` and no kind.

    Raises:
        DatasetError: one that this version does not know.
    """
    name = str(told.get("kind", told.get("unit", "")))
    if name not in FORMS:
        raise DatasetError(
            f"perturbation {name!r} is not known here; known: {', '.join(sorted(FORMS))}. The dataset was made by a "
            "later version: update."
        )
    return name


def from_manifest(told: Mapping[str, Any], held: Path | None = None) -> Around:
    """The perturbation that a manifest tells of.

    Args:
        told: what `describe` gave.
        held: the file of what `attachment` gave (`data.layout.PERTURBATION`); None where it is not wanted.

    Raises:
        DatasetError: a form that this version does not know, or one of which something is missing.
        ConfigError: values that cannot be.
        VectorError: the file is missing, broken, or another than the manifest says.
    """
    with _whole(told):
        return FORMS[_name_of(told)].told(told, held)


def option_of(told: Mapping[str, Any], held: Path | None = None) -> str:
    """The same as `--perturbation` has it, so that `Perturbation.of` gives what `from_manifest` does."""
    name = _name_of(told)
    with _whole(told):
        return f"{name}:{FORMS[name].option(told, held)}"


def words_of(told: Mapping[str, Any]) -> str:
    """For people, what a manifest tells of, without the file beside it. Raises as `from_manifest`."""
    if _name_of(told) == "covariance":
        with _whole(told):
            return f"covariance {told['sha256'][:12]}"
    return from_manifest(told).words


@contextlib.contextmanager
def _whole(told: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"perturbation: {dict(told)!r:.120} does not say what it was ({error!r}): a manifest that was changed. "
            "Take a whole copy of it."
        ) from error

"""Which images are made, and every random number of theirs: the only place that enumerates, perturbs and draws masks.

A number is keyed by (seed, purpose, identity's key, image), so a draw depends neither on its batch nor on the order.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.indexing import rows_of
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.options import ImageOptions
from v2f_engine.randomness import Purpose, uniforms
from v2f_engine.ranges import stage
from v2f_engine.runtime import Inputs
from v2f_engine.vectors.dealing import dealt
from v2f_engine.vectors.gate import DIMENSION, check_vectors
from v2f_engine.vectors.identities import Identities


@dataclass(frozen=True)
class Draw:
    """What is known of a batch before its images are there.

    Args:
        seed, keys, image: what keys the random numbers of each image; int64 `[B]` the latter, see `Identities.keys`.
        identity: int64 `[B]`, as in `ImageBatch`.
        vectors: float32 `[B, 512]`.
        noise: float32 `[B, 49]`.
        n_masked: int64 `[B]`.
        attributes: name -> float32 `[B]`, recorded with the images.
        given: name -> `[B, ...]`: what a maker needs beside (goals, pictures, features to keep); not recorded.
    """

    seed: int
    keys: NDArray[np.int64]
    image: NDArray[np.int64]
    identity: NDArray[np.int64]
    vectors: NDArray[np.float32]
    noise: NDArray[np.float32]
    n_masked: NDArray[np.int64]
    attributes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    given: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def inputs(self) -> Inputs:
        """What a runner is given."""
        return self.vectors, self.noise, self.n_masked

    def rows(self, rows: slice | NDArray[np.int64]) -> Draw:
        """Some of them."""
        return Draw(
            self.seed,
            self.keys[rows],
            self.image[rows],
            self.identity[rows],
            self.vectors[rows],
            self.noise[rows],
            self.n_masked[rows],
            {name: values[rows] for name, values in self.attributes.items()},
            {name: values[rows] for name, values in self.given.items()},
        )

    def parts(self, size: int) -> Generator[Draw]:
        """In batches of `size`, the last one shorter."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))

    def noting(self, attributes: Mapping[str, NDArray[np.float32]], **given: NDArray[Any]) -> Draw:
        """The same with further attributes and things given."""
        return replace(self, attributes={**self.attributes, **attributes}, given={**self.given, **given})


@dataclass(frozen=True)
class Draws:
    """All images of some identities, `images_per_id` each, in order of (identity, image).

    Args:
        identity: int64 `[I]`, the identities' numbers in their table.
        keys: int64 `[I]`.
        centres: float32 `[I, 512]`.
        images: how many of each, and what is drawn around a centre.
        masks: how many rows of a face are masked.
        run: identities of the whole run, of which these may be a part.
        given: name -> `[I, ...]`: what each identity's images are given.
        group: int64 `[I]`, of a table with groups: its place among their names, recorded with each image.
    """

    identity: NDArray[np.int64]
    keys: NDArray[np.int64]
    centres: NDArray[np.float32]
    images: ImageOptions
    masks: MaskSchedule
    run: int
    given: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    group: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        identities: Identities | NDArray[np.float32],
        images: ImageOptions,
        masks: MaskSchedule,
        select: range | None = None,
    ) -> Draws:
        """The draws of a table, or of vectors `[N, 512]`, of which `select` are made (all by default).

        Raises:
            VectorError: vectors of another shape, not finite, or of zero norm.
            ConfigError: a `select` beyond the table, or a perturbation that was told of another table.
        """
        table = identities if isinstance(identities, Identities) else None
        vectors = check_vectors(identities) if table is None else table.vectors
        keys = np.arange(len(vectors)) if table is None else table.keys
        chosen = range(len(vectors)) if select is None else select
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < len(vectors):
            raise ConfigError(f"select {chosen} reaches outside the {len(vectors)} identities given.")
        if vectors.shape[1] != DIMENSION:
            raise VectorError(
                f"identities: expected vectors of {DIMENSION} entries, found {vectors.shape[1]}: of another extractor."
            )
        rows = rows_of(chosen)
        images = replace(images, perturbation=images.perturbation.over(vectors, keys, rows))
        group = None if table is None or table.group is None else table.group[rows]
        return cls(
            np.asarray(chosen, np.int64), keys[rows], vectors[rows], images, masks, len(vectors), group=group
        )

    def __len__(self) -> int:
        return len(self.identity) * self.images.images_per_id

    def batches(self, size: int) -> Generator[Draw]:
        """In batches of `size`, the last one shorter."""
        for start in range(0, len(self), size):
            position = np.arange(start, min(len(self), start + size), dtype=np.int64)
            row, image = np.divmod(position, self.images.images_per_id)
            yield self.at(row, image)

    def at(self, row: NDArray[np.int64], image: NDArray[np.int64], *, perturbed: bool = True) -> Draw:
        """The draws of these images.

        Args:
            row: int64 `[B]`, places in `identity`.
            image: int64 `[B]`, any numbers.
            perturbed: False gives the centres themselves.
        """
        keys, centres, seed = self.keys[row], self.centres[row], self.images.seed
        attributes: dict[str, NDArray[np.float32]] = {}
        if perturbed:
            with stage("perturb"):
                chance = self._sigma_chance(row, image, keys)
                drawn = self.images.perturbation.draw(centres, keys, image, seed=seed, chance=chance)
            centres = drawn.vectors
            attributes = drawn.attributes
        with stage("mask"):
            noise, n_masked = self.masks.draw(seed, keys, image, self._mask_chance(row, image))
        attributes["n_masked"] = n_masked.astype(np.float32)
        if self.group is not None:
            attributes["group"] = self.group[row].astype(np.float32)
        given = {name: values[row] for name, values in self.given.items()}
        return Draw(seed, keys, image, self.identity[row], centres, noise, n_masked, attributes, given)

    def _mask_chance(self, row: NDArray[np.int64], image: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """float32 `[B]` in [0, 1): what decides the mask ratios, where several images share one.

        Images in groups of `mask_batch`, in order of (identity, image) over the whole run: neither shards nor compute
        batches come into it. Images outside the run (references, refined vectors) share theirs with the same image of
        neighbouring identities, as the published AttrOP batches them.
        """
        size, per_id = self.images.mask_batch, self.images.images_per_id
        if size == 1:
            return None
        identity, inside = self.identity[row], image < per_id
        batch = np.where(inside, identity * per_id + image, identity) // size
        return uniforms(self.images.seed, Purpose.MASK_BATCH, batch, np.where(inside, 0, image), 1)[:, 0]

    def _sigma_chance(
        self, row: NDArray[np.int64], image: NDArray[np.int64], keys: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """float64 `[B]` in [0, 1): what decides the noise levels, where their shares are exact: the images of the run
        take the N middles of N equal parts of it, in an order of chance. Images outside the run draw theirs."""
        if self.images.sigma_shares == "drawn":
            return None
        seed, per_id = self.images.seed, self.images.images_per_id
        inside, total = image < per_id, self.run * per_id
        place = np.where(inside, self.identity[row] * per_id + image, 0)
        chance = (dealt(seed, Purpose.SIGMA_ORDER, place, total) + 0.5) / total
        if not inside.all():
            chance = np.where(inside, chance, self.images.perturbation.chances(seed, keys, image))
        return np.asarray(chance, np.float64)

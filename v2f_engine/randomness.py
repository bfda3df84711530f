"""Random numbers keyed by (seed, purpose, identity, image): Philox4x32-10, no state, no order.

Any image can be made again alone, on any batch size, worker count or resume, and gets the same numbers. The
generator and its float forms are the op `v2f_kernels.philox`; this file adds the names of the uses and the
engine's errors. One AVX-512 core draws about 490 M normals per second by the compiled extension, 70 M without it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2f_engine.backends import function
from v2f_engine.errors import ConfigError

Floats = NDArray[np.float32]


class Purpose(IntEnum):
    """What a stream is for. Numbers are part of the data format: append, never renumber or reuse.

    9, 12, 14 and 16 named streams that nothing drew from; they are not given out again.
    """

    IDENTITY_VECTOR = 1
    """Candidate identity vectors; identity = candidate index."""
    SIGMA = 2
    """Which noise level an image gets."""
    PERTURBATION = 3
    """The 512 normals added to an identity vector for one image."""
    MASK_ROWS = 4
    """The 49 uniforms whose order decides which rows are masked; in training identity = step, image = place in it."""
    MASK_COUNT = 5
    """The truncated-normal mask ratio of one image; in training as MASK_ROWS."""
    RENDER_PERSON = 6
    """Traits of a rendered person; image = 0."""
    RENDER_IMAGE = 7
    """Pose, light, expression and camera of one rendered image."""
    TRAIN_ORDER = 8
    """Order of the examples of an epoch; identity = epoch."""
    AUGMENT = 10
    """Augmentation of one training example."""
    DROPOUT = 11
    """Seeds of the dropout kernels; identity = step, image = layer."""
    INITIALISATION = 13
    """Initial weights; identity = index of the parameter."""
    EVALUATION = 15
    """Pairs and folds drawn by evaluations."""
    ATTRIBUTE = 17
    """Attribute goals of one image."""
    CLASS_SAMPLE = 18
    """Classes a recogniser's step compares with; identity = step, image = block of classes."""
    MASK_BATCH = 19
    """The mask ratio that a batch of images shares; identity = number of the batch, image = 0."""
    SIGMA_ORDER = 20
    """The permutation that deals exact shares of noise levels; identity = half of a place, image = round."""
    STEERING_STEP = 21
    """The seed of the masks of a steering step that draws them anew; identity = step, image = 0."""
    BOOTSTRAP = 22
    """Which identities a resample of an evaluation draws; identity = resample, image = 0."""
    SHOWN_ORDER = 23
    """The order of images made while a trainer reads them; identity = half of a place, image = round."""
    CONE_COSINE = 24
    """The cosine of an image to its identity's vector, drawn evenly from a cone."""
    CONE_DIRECTION = 25
    """The 512 normals whose part orthogonal to an identity vector says which way an image of a cone lies."""
    WITHIN_PERSON = 26
    """The normals of an image that is drawn from a measured within-person covariance."""


def bits(seed: int, purpose: Purpose, identity: ArrayLike, image: ArrayLike, n: int) -> NDArray[np.uint32]:
    """`n` uniform 32-bit words for each of B places.

    Args:
        seed: 0 .. 2**64 - 1.
        purpose: the use; different purposes never share numbers.
        identity: integers `[B]`, or one integer for all, each in 0 .. 2**32 - 1.
        image: integers `[B]`, or one integer for all, each in 0 .. 2**32 - 1.
        n: words per place.

    Returns:
        uint32 `[B, n]`; word k of a row depends on (seed, purpose, identity, image, k) alone.

    Raises:
        ConfigError: a value out of range: counters never wrap around silently.
    """
    return cast(NDArray[np.uint32], _draw("bits", seed, purpose, identity, image, n))


def uniforms(seed: int, purpose: Purpose, identity: ArrayLike, image: ArrayLike, n: int) -> Floats:
    """float32 `[B, n]` in [0, 1), multiples of 2**-24; arguments and errors as `bits`."""
    return cast(Floats, _draw("uniform", seed, purpose, identity, image, n))


def normals(seed: int, purpose: Purpose, identity: ArrayLike, image: ArrayLike, n: int) -> Floats:
    """float32 `[B, n]`, standard normal, the same bits on every device; arguments and errors as `bits`."""
    return cast(Floats, _draw("normal", seed, purpose, identity, image, n))


def _draw(kind: str, seed: int, purpose: Purpose, identity: ArrayLike, image: ArrayLike, n: int) -> Any:
    try:
        return function("philox_draw")(kind, seed, int(purpose), identity, image, n)
    except ValueError as error:
        raise ConfigError(f"Cannot draw random numbers for {Purpose(purpose).name}: {error}.") from error

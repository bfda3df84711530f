"""A permutation of 0 .. n - 1 without a table: where each number lands can be asked alone.

Numbers are pairs (left, right) of a grid of a by b places, a = ceil(sqrt(n)), b = ceil(n / a); each round adds to one
half a number that Philox draws of the other, which is undone by subtracting it: a Feistel network (Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002). A place beyond n - 1 goes round again until it is one of n; the grid has
fewer than a places too many, so that is rare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import whole_number
from v2f_engine.errors import ConfigError
from v2f_engine.randomness import Purpose, bits

ROUNDS = 12
"""Half of them change either side. Over 3,000 seeds, where two of 3 to 20 places land together lies (chi-square) up to
79 standard deviations from chance at 4 rounds, 2.9 at 8, 1.4 at 12."""


def dealt(seed: int, purpose: Purpose, place: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Where each place of 0 .. n - 1 lands, int64 `[B]`; a function of (seed, purpose, place, n) alone.

    Raises:
        ConfigError: n below 1, or a place outside.
    """
    whole_number("n", n, 1)
    if len(place) and not 0 <= place.min() <= place.max() < n:
        raise ConfigError(f"expected places in 0 .. {n - 1}, found {int(place.min())} .. {int(place.max())}.")
    a = int(np.ceil(np.sqrt(n)))
    b = -(-n // a)
    landed = np.array(place, np.int64)
    todo = np.arange(len(landed))
    while len(todo):
        left, right = np.divmod(landed[todo], b)
        for round_ in range(0, ROUNDS, 2):
            left = (left + _drawn(seed, purpose, right, round_)) % a
            right = (right + _drawn(seed, purpose, left, round_ + 1)) % b
        landed[todo] = left * b + right
        todo = todo[landed[todo] >= n]
    return landed


def _drawn(seed: int, purpose: Purpose, half: NDArray[np.int64], round_: int) -> NDArray[np.int64]:
    return bits(seed, purpose, half, round_, 1)[:, 0].astype(np.int64)

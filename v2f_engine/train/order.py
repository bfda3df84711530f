"""Which rows a step sees: a permutation per epoch, a function of (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2f_engine.randomness import Purpose, bits


def rows_of_step(
    seed: int, step: int, batch: int, rows: int, *, whole_batches: bool = False
) -> NDArray[np.int64]:
    """Row numbers int64 `[batch]` of training step `step`; epochs run on without dropping a remainder.

    Args:
        whole_batches: an epoch ends with its last whole batch, and the rows left over are not seen in it; a batch
            must not have more than `rows`.
    """
    if whole_batches:
        epoch, number = divmod(step, rows // batch)
        return _permutation(seed, epoch, rows)[number * batch : (number + 1) * batch]
    position = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    chosen = np.empty(batch, np.int64)
    for epoch in np.unique(position // rows):
        mine = position // rows == epoch
        chosen[mine] = _permutation(seed, int(epoch), rows)[position[mine] % rows]
    return chosen


_cache: dict[tuple[int, int, int], NDArray[np.int64]] = {}


def _permutation(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    key = (seed, epoch, rows)
    if key not in _cache:
        if len(_cache) >= 2:  # a batch touches at most two epochs
            _cache.pop(next(iter(_cache)))
        zero = np.zeros(1, np.int64)
        _cache[key] = np.argsort(bits(seed, Purpose.TRAIN_ORDER, zero + epoch, zero, rows)[0], kind="stable")
    return _cache[key]

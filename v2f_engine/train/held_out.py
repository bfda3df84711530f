"""People who are never trained on: some of a training set's, or a set of their own."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.training.stored_set import StoredSet
from v2f_engine.errors import ConfigError

Set = TypeVar("Set", MemorySet, StoredSet)


def hold_out(data: Set, people: int) -> tuple[Set, Set]:
    """(the rest, the last `people` identities). Reads every label once, in an LMDB every record.

    Raises:
        ConfigError: fewer than two identities would be left on either side.
    """
    labels = data.labels
    if not 2 <= people <= data.classes - 2:
        raise ConfigError(
            f"held-out people must lie between 2 and {data.classes - 2} of {data.classes}, found {people}."
        )
    held = labels >= data.classes - people
    return data.take(np.flatnonzero(~held & (labels >= 0))), data.take(np.flatnonzero(held))

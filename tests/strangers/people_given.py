"""The people that makers write into layouts, and what a reader gives of them: pictures grouped, whatever the labels."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from v2f_engine.data import open_dataset
from v2f_engine.data.formats.account import Account

People = Sequence[Sequence[bytes]]
"""Encoded pictures of each person."""
Groups = list[list[bytes]]
"""People without their numbers, to be compared; made by `groups`."""


def noise(seed: int, quality: int) -> bytes:
    """A JPEG of 112x112; no two alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (112, 112, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def drawn(rng: random.Random, pool: Sequence[bytes], fewest: int = 1) -> list[list[bytes]]:
    """2 to 5 people of `fewest` to 5 pictures out of `pool`, the first of at least two."""
    left = rng.sample(pool, len(pool))
    counts = [rng.randint(fewest, 5) for _ in range(rng.randint(2, 5))]
    counts[0] = max(2, counts[0])
    return [[left.pop() for _ in range(count)] for count in counts]


def groups(people: People) -> Groups:
    """People without their numbers; who has no picture left is nobody."""
    return sorted(sorted(pictures) for pictures in people if pictures)


def read(path: Path, split: str | None = None) -> tuple[Groups, Account]:
    """What a reader gives, after its books were balanced, as every command does first."""
    found = open_dataset(path, split=split)
    account = found.account()
    people: dict[int, list[bytes]] = {}
    for data, label in found:
        people.setdefault(label, []).append(data)
    assert (account.images, account.identities, account.missing) == (len(found), len(people), 0)
    return groups(list(people.values())), account

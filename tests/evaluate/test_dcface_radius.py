"""DCFace's radius is a distance, 1 - cosine: centres between the two readings of it tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

from v2f_engine.evaluate.dcface import measure_uniqueness
from v2f_engine.evaluate.features import FeatureTable


def pairs_at(cosine: float) -> FeatureTable:
    """Four people of two equal images each: two pairs of people whose centres have this cosine."""
    sine = np.sqrt(1 - cosine**2)
    people = np.zeros((4, 6), np.float32)
    people[[0, 2], [0, 3]] = 1
    people[1, :2] = people[3, 3:5] = cosine, sine
    return FeatureTable(np.repeat(people, 2, axis=0), np.repeat(np.arange(4), 2))


@pytest.mark.parametrize(
    ("radius", "cosine", "unique"),
    [
        (0.3, 0.5, 1.0),  # distance 0.5 is outside 0.3, though the cosine is above 0.3
        (0.3, 0.69, 1.0),
        (0.3, 0.71, 0.5),
        (0.6, 0.5, 0.5),  # and inside 0.6, though the cosine is below 0.6
        (0.6, 0.39, 1.0),
    ],
)
def test_two_are_one_within_the_distance(radius: float, cosine: float, unique: float) -> None:
    found = measure_uniqueness(pairs_at(cosine), radius=radius)
    assert (found.unique, found.radius) == (unique, radius)
    assert found.consistent == 1.0

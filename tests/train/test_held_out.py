"""People kept apart: no row and no person on both sides."""

import numpy as np
import pytest
from train_harness import people

from v2f_engine.errors import ConfigError
from v2f_engine.train.held_out import hold_out


def test_nobody_is_on_both_sides() -> None:
    everyone = people(6, 3)
    rest, held = hold_out(everyone, 2)
    assert (len(rest), rest.classes, len(held), held.classes) == (12, 4, 6, 2)
    assert np.shares_memory(rest.images, everyone.images)  # grouped by person: nothing is copied
    joined = np.concatenate([rest.images, held.images])
    np.testing.assert_array_equal(joined, everyone.images)
    assert held.features is not None
    np.testing.assert_array_equal(held.features, everyone.features[12:])


def test_rows_in_any_order() -> None:
    everyone = people(6, 3)
    mixed = everyone.take(np.random.default_rng(0).permutation(len(everyone)))
    rest, held = hold_out(mixed, 2)
    assert {image.tobytes() for image in rest.images}.isdisjoint(image.tobytes() for image in held.images)
    assert sorted(np.bincount(held.labels)) == [3, 3]


def test_too_many_or_too_few() -> None:
    for wrong in (1, 5):
        with pytest.raises(ConfigError, match="between 2 and 4 of 6"):
            hold_out(people(6, 3), wrong)

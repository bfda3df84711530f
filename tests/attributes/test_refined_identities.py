"""Refined identities: pose among what a vector is refined to, one goal an identity, measured on every image."""

from __future__ import annotations

import numpy as np
import pytest

from v2f_engine.attributes.control import AttributeControl
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import ConfigError
from v2f_engine.options import IdentityOptions
from v2f_engine.pipeline import Engine
from v2f_engine.pipeline.generation import identity_table
from v2f_engine.vectors.identities import Identities


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("mini", device="cpu", precision="fp32", compute_batch=4)


@pytest.fixture(scope="module")
def people(engine: Engine) -> Identities:
    return identity_table(IdentityOptions(2).for_model(engine.people), 2)


def images(engine: Engine, people: Identities, asked: AttributeControl | None) -> ImageBatch:
    control = None if asked is None else engine.control(asked)
    (batch,) = list(engine.images(people, 2, seed=1, control=control, batch_size=64))
    return batch


def test_yaw_refines_identities_and_each_image_says_what_it_reached(
    engine: Engine, people: Identities
) -> None:
    """It was left out of what identities are refined to: the images were those of a run without it."""
    asked = AttributeControl({"yaw": "-30,30"}, use="identities", iterations=12)
    turned, plain = images(engine, people, asked), images(engine, people, None)
    assert not (turned.images == plain.images).all((1, 2, 3)).any()
    control = engine.control(asked).maker.before.control  # type: ignore[attr-defined]
    kept = np.zeros((4, 512), np.float32)
    measured = control.measured(turned.images, kept)["yaw"]
    np.testing.assert_array_equal(measured, turned.attributes["yaw"])
    # A call has always the same rows: a part says the same of its images.
    np.testing.assert_array_equal(control.measured(turned.images[1:3], kept)["yaw"], measured[1:3])
    goal = turned.attributes["yaw_goal"]
    assert set(goal) <= {-30.0, 30.0}
    np.testing.assert_array_equal(goal[::2], goal[1::2])  # one an identity
    before = control.measured(plain.images, kept)["yaw"]
    assert np.abs(measured - goal).mean() < 0.6 * np.abs(before - goal).mean()
    assert {"refined_yaw", "refined_verdict", "refined_iterations"} < set(turned.attributes)
    assert control.describe()["refined to"] == ["identity", "yaw"]


def test_a_set_refined_to_quality_is_described_as_before(engine: Engine) -> None:
    """So that one begun by an earlier engine goes on."""
    for use in ("identities", "both"):
        told = engine.control(AttributeControl({"quality": 27}, use=use)).describe()
        assert set(told) == {"use", "signed", "reference", "goals", "attributes", "judges", "loop"}


def test_both_with_pose_alone_is_refused(engine: Engine) -> None:
    """Each image has its own pose, so there would be nothing to refine."""
    with pytest.raises(ConfigError, match="nothing to refine.*--steer images"):
        AttributeControl({"yaw": 30, "pitch": 3}, use="both")
    AttributeControl({"yaw": 30, "quality": 27}, use="both")

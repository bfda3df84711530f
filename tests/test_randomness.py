"""The engine's names for the philox op: purposes are fixed numbers, errors are the engine's."""

import os
import subprocess
import sys

import numpy as np
import pytest
from v2f_kernels.philox import DRAW

from v2f_engine import randomness
from v2f_engine.errors import ConfigError
from v2f_engine.randomness import Purpose


def test_purpose_numbers_are_part_of_the_data_format():
    assert {p.name: int(p) for p in Purpose} == {
        "IDENTITY_VECTOR": 1, "SIGMA": 2, "PERTURBATION": 3, "MASK_ROWS": 4, "MASK_COUNT": 5,
        "RENDER_PERSON": 6, "RENDER_IMAGE": 7, "TRAIN_ORDER": 8, "AUGMENT": 10, "DROPOUT": 11,
        "INITIALISATION": 13, "EVALUATION": 15, "ATTRIBUTE": 17, "CLASS_SAMPLE": 18,
        "MASK_BATCH": 19, "SIGMA_ORDER": 20, "STEERING_STEP": 21,
        "BOOTSTRAP": 22, "SHOWN_ORDER": 23, "CONE_COSINE": 24, "CONE_DIRECTION": 25, "WITHIN_PERSON": 26,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [("bits", "bits"), ("uniforms", "uniform"), ("normals", "normal")])
def test_forms_are_those_of_the_op(name, kind):
    identity, image = np.arange(5), np.arange(5)[::-1]
    ours = getattr(randomness, name)(9, Purpose.SIGMA, identity, image, 6)
    assert np.array_equal(ours, DRAW.backend("reference")(kind, 9, 2, identity, image, 6))


def test_one_number_stands_for_all_rows():
    assert np.array_equal(
        randomness.bits(0, Purpose.SIGMA, np.arange(3), 4, 2),
        randomness.bits(0, Purpose.SIGMA, np.arange(3), np.full(3, 4), 2),
    )
    assert randomness.bits(0, Purpose.SIGMA, 1, 4, 2).shape == (1, 2)


def test_errors_name_the_use():
    with pytest.raises(ConfigError, match="MASK_ROWS: identity must lie in 0"):
        randomness.uniforms(0, Purpose.MASK_ROWS, np.array([2**32]), 0, 49)
    with pytest.raises(ConfigError, match="seed must be an integer"):
        randomness.uniforms(-5, Purpose.MASK_ROWS, 0, 0, 49)


def test_import_does_not_load_torch():
    code = "import sys, v2f_engine.randomness; assert 'torch' not in sys.modules, 'torch was imported'"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)

"""On a GPU: steering by the CUDA graph of one iteration gives what the eager iterations give."""

import numpy as np
import pytest
import torch

from v2f_engine import backends
from v2f_engine.attributes.steering import Steerer, SteeringSettings
from v2f_engine.attributes.targets import Attribute, Objective
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.weights import load_generator

pytestmark = pytest.mark.gpu
MASKS = MASK_SCHEDULES["generate"]


def test_the_graph_steers_as_the_eager_loop_does() -> None:
    choice = backends.choose("cuda:0", "fp32", gradients=True)
    network = freeze(load_generator("mini").model, device=choice.device, dtype=choice.dtype)
    bind_ops(network, choice)
    light = Attribute.from_callable("light", lambda x: x.mean((1, 2, 3)) * 100, tolerance=0.5)
    place = np.arange(11)  # more than the slots, so that finished samples leave theirs to others
    vectors = np.random.default_rng(0).standard_normal((11, 512)).astype(np.float32)
    goals = {"light": np.linspace(-8, 8, 11, dtype=np.float32)}
    made = {}
    for graph in (False, True):
        settings = SteeringSettings(iterations=60, slots=4)
        loop = Steerer(network, Objective((light,)), settings, n_dropped=MASKS.n_dropped, graph=graph)
        made[graph] = loop(vectors, *MASKS.draw(0, place, place), goals)
    torch.cuda.synchronize()
    np.testing.assert_array_equal(made[True].verdicts, made[False].verdicts)
    np.testing.assert_allclose(made[True].values["light"], made[False].values["light"], atol=0.5)
    assert np.abs(made[True].images.astype(int) - made[False].images.astype(int)).mean() < 1

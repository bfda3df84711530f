"""Every committed table binds base size on whatever card this is: right faces, eager and as a graph, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from v2f_kernels import _tuned

pytestmark = pytest.mark.gpu
ROWS = 8


@pytest.fixture(scope="module", params=sorted(_tuned.tables()))
def bound(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """(choice of a table, base size with random weights in fp32, frozen and bound)."""
    from bench.generation import rungs
    from v2f_engine.backends import choose
    from v2f_engine.machine import Machine
    from v2f_engine.models import bind_ops
    from v2f_engine.models.fold import freeze

    card = Machine(1, frozenset(), True, (request.param,), no_cudnn=Machine.look().no_cudnn)
    choice = choose("cuda:0", "fp16", machine=card)
    model = rungs.network("base").to("cuda:0")
    frozen = freeze(model, device=choice.device, dtype=choice.dtype)
    bind_ops(frozen, choice)
    return choice, model, frozen


def test_faces_are_right_and_the_graph_makes_the_same(bound) -> None:  # type: ignore[no-untyped-def]
    from bench.generation import rungs
    from v2f_engine.runtime.cuda_graph import CudaGraphRunner
    from v2f_engine.runtime.eager import EagerRunner

    choice, model, frozen = bound
    batch = rungs.Batch.draw(ROWS, choice.device)
    expected = rungs.oracle(model, batch)
    eager = EagerRunner(frozen, choice, n_dropped=rungs.N_DROPPED, batch_size=ROWS)
    made = eager(*batch.host)
    passed, words = rungs.grey_check(torch.from_numpy(made).to(choice.device), expected)
    assert passed, words
    graph = CudaGraphRunner(frozen, choice, n_dropped=rungs.N_DROPPED, batch_size=ROWS)
    np.testing.assert_array_equal(graph(*batch.host), made)


def test_steering_goes_back_through_it(bound) -> None:  # type: ignore[no-untyped-def]
    """The gradient of a face with respect to its vector, against that of plain torch in the same precision."""
    from bench.generation import rungs
    from v2f_engine.models import bind_ops

    choice, _, frozen = bound
    batch = rungs.Batch.draw(2, choice.device)
    found = []
    for table in (choice, {}):
        bind_ops(frozen, table)
        vectors = batch.device[0].half().requires_grad_()
        images = frozen(vectors, batch.device[1], batch.device[2], rungs.N_DROPPED).images
        (
            0.1 * images.float() * torch.linspace(-1, 1, 112, device="cuda:0")
        ).sum().backward()  # in fp16 a mean underflows
        found.append(vectors.grad.float().flatten())
    bind_ops(frozen, choice)
    assert torch.isfinite(found[0]).all()
    assert torch.cosine_similarity(found[0], found[1], dim=0) > 0.99

"""The CUDA graph runner against the eager one: the same bytes, whatever the batch, in order."""

from __future__ import annotations

import numpy as np
import pytest

from v2f_engine.runtime import Runner

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def runners() -> tuple[Runner, Runner]:
    from v2f_engine.backends import choose
    from v2f_engine.models import bind_ops
    from v2f_engine.models.fold import freeze
    from v2f_engine.models.weights import load_generator
    from v2f_engine.runtime.cuda_graph import CudaGraphRunner
    from v2f_engine.runtime.eager import EagerRunner

    choice = choose("cuda")
    frozen = freeze(load_generator("mini").model, device=choice.device, dtype=choice.dtype)
    bind_ops(frozen, choice)
    return (
        EagerRunner(frozen, choice, n_dropped=5, batch_size=8),
        CudaGraphRunner(frozen, choice, n_dropped=5, batch_size=8, slots=2),
    )


def batch(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return (
        draw.standard_normal((rows, 512), dtype=np.float32),
        draw.random((rows, 49), dtype=np.float32),
        draw.integers(5, 40, rows),
    )


def test_same_bytes_as_eager_and_results_are_the_callers(runners: tuple[Runner, Runner]) -> None:
    eager, graph = runners
    first = graph(*batch(0, 8))
    kept = first.copy()
    for seed in range(1, 5):
        np.testing.assert_array_equal(graph(*batch(seed, 3)), eager(*batch(seed, 3)))
    np.testing.assert_array_equal(first, kept)


def test_the_engine_gives_the_same_images_through_either_runner() -> None:
    from v2f_engine.pipeline import Engine
    from v2f_engine.vectors.sampling import sample_identities

    table = sample_identities(40, max_cosine=0.9, seed=3, source="gaussian")
    made = {}
    for runner in ("auto", "eager"):
        engine = Engine.load("mini", device="cuda", runner=runner, compute_batch=32)
        batches = list(engine.images(table, 5, seed=4, batch_size=48))
        made[engine.describe()["runner"]["runner"]] = np.concatenate([b.images for b in batches])
        assert np.concatenate([b.identity for b in batches]).tolist() == np.repeat(np.arange(40), 5).tolist()
    np.testing.assert_array_equal(made["cuda_graph"], made["eager"])


def test_a_stream_keeps_order_and_survives_a_caller_who_stops(runners: tuple[Runner, Runner]) -> None:
    eager, graph = runners
    batches = [batch(seed, 1 + seed) for seed in range(6)]
    for _ in zip(range(2), graph.stream(batches), strict=False):  # type: ignore[attr-defined]
        pass
    for inputs, images in zip(batches, graph.stream(batches), strict=True):  # type: ignore[attr-defined]
        np.testing.assert_array_equal(images, eager(*inputs))

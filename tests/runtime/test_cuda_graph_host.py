"""What of the CUDA graph runner can be tested without a GPU: refusals, padding, ranges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from v2f_engine import ranges
from v2f_engine.backends import choose
from v2f_engine.errors import BackendUnavailable, ConfigError
from v2f_engine.machine import Machine
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.runtime import cuda_graph


def test_a_choice_for_the_cpu_is_refused_by_name() -> None:
    model = Vec2Face(Vec2FaceConfig.mini())
    with pytest.raises(BackendUnavailable, match="eager"):
        cuda_graph.CudaGraphRunner(model, choose("cpu"), n_dropped=5, batch_size=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_a_gpu_that_is_not_there_is_refused_by_name() -> None:
    imagined = choose("cuda", machine=Machine(1, frozenset(), True))
    with pytest.raises(BackendUnavailable, match="torch sees none"):
        cuda_graph.CudaGraphRunner(Vec2Face(Vec2FaceConfig.mini()), imagined, n_dropped=5, batch_size=2)


def test_short_batches_repeat_their_last_row() -> None:
    target = np.zeros((4, 2), np.float32)
    cuda_graph.fill(target, np.array([[1, 2], [3, 4]], np.float32))
    assert target.tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]


@pytest.mark.parametrize("shape", [(0, 2), (5, 2), (3, 3)])
def test_rows_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 4 rows"):
        cuda_graph.fill(np.zeros((4, 2), np.float32), np.zeros(shape, np.float32))


def test_ranges_are_entered_with_nvtx_and_nothing_without(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    class Annotate:
        def __init__(self, name: str, domain: str) -> None:
            self.what = (name, domain)

        def __enter__(self) -> None:
            seen.append(self.what)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(ranges, "_annotate", lambda: Annotate)
    with ranges.stage("replay"):
        pass
    monkeypatch.setattr(ranges, "_annotate", lambda: None)
    with ranges.stage("not seen"):
        pass
    assert seen == [("replay", "v2f")]

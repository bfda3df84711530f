"""The ten-fold protocol against scikit-learn, and on a set whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from v2f_engine.data.encode import Encoder
from v2f_engine.data.verification import open_verification_set, write_bin
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.evaluate.verification import fold_edges, measure_verification, verify_pairs


def pairs(count: int, noise: float, seed: int = 0, dimension: int = 64) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    same = generator.random(count) < 0.5
    first = generator.standard_normal((count, dimension))
    second = np.where(same[:, None], first, generator.standard_normal((count, dimension)))
    rows = np.stack([first, second + noise * generator.standard_normal((count, dimension))], 1)
    return rows.reshape(-1, dimension).astype(np.float32) * 20, same


@pytest.mark.parametrize(("count", "noise"), [(600, 1.5), (603, 2.5), (100, 4.0)])
def test_accuracies_are_those_of_scikit_learns_folds(count: int, noise: float) -> None:
    features, same = pairs(count, noise)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = np.square(unit[0::2].astype(np.float64) - unit[1::2]).sum(1)
    expected = []
    for train, test in KFold(n_splits=10, shuffle=False).split(np.arange(count)):
        hits = [np.mean((distance[train] < t) == same[train]) for t in np.arange(0, 4, 0.01)]
        best = np.arange(0, 4, 0.01)[np.argmax(hits)]
        expected.append(np.mean((distance[test] < best) == same[test]))
    found = verify_pairs(features, same)
    assert found.folds == pytest.approx(expected, abs=1e-12)
    assert found.accuracy == pytest.approx(np.mean(expected))
    assert found.deviation == pytest.approx(np.std(expected))
    assert fold_edges(count, 10) == [
        (int(test[0]), int(test[-1]) + 1) for _, test in KFold(10, shuffle=False).split(np.arange(count))
    ]


def test_val_is_taken_where_the_other_folds_accept_a_thousandth() -> None:
    features, same = pairs(4000, 1.2, seed=5)
    found = verify_pairs(features, same)
    assert found.far < 4e-3
    assert 0.5 < found.val <= 1.0
    assert len(found.genuine) == same.sum()


class Grey(torch.nn.Module):
    """Features that are the means of eight columns of the image and of the mirrored one, so one can count."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2)).reshape(len(x), 8, 14).mean(2) * self.one


def test_a_synthetic_bin_has_its_known_answer(tmp_path) -> None:
    # A person is a pattern of stripes; 6 of 200 pairs are mislabelled, three of either kind, one fold each.
    generator = np.random.default_rng(0)
    images, same = [], []
    wrong = {3, 27, 51, 80, 110, 170}
    for number in range(200):
        stripes = generator.permutation([0, 35, 70, 105, 140, 175, 210, 245])
        other = generator.permutation([0, 35, 70, 105, 140, 175, 210, 245])
        while np.abs((stripes + stripes[::-1]) - (other + other[::-1])).sum() < 200:
            other = generator.permutation(stripes)
        is_same = number % 2 == 0
        for pattern in (stripes, stripes if is_same else other):
            row = np.repeat(pattern, 14)
            images.append(np.broadcast_to(row[None, :, None], (112, 112, 3)).astype(np.uint8))
        same.append(is_same != (number in wrong))
    write_bin(
        tmp_path / "stripes.bin", [Encoder("png").encode(np.ascontiguousarray(i)) for i in images], same
    )
    seen: list[tuple[int, int]] = []
    found = measure_verification(
        open_verification_set(tmp_path / "stripes.bin"), Grey(), progress=lambda *at: seen.append(at)
    )
    assert found.accuracy == pytest.approx(1 - 6 / 200)
    folds = [20 - sum(w // 20 == fold for w in wrong) for fold in range(10)]
    assert found.folds == pytest.approx([n / 20 for n in folds])
    assert seen[-1] == (400, 400)
    told = json.dumps(found.to_json())
    assert "genuine" not in told


def test_impossible_pairs_are_named() -> None:
    features, same = pairs(40, 1.0)
    with pytest.raises(VectorError, match=r"expected features \[80, D\]"):
        verify_pairs(features[:-1], same)
    with pytest.raises(VectorError, match="all pairs are one person"):
        verify_pairs(features, np.ones(40, bool))
    with pytest.raises(ConfigError, match="folds"):
        verify_pairs(features, same, folds=1)
    features[4] = 0
    with pytest.raises(VectorError, match="without direction"):
        verify_pairs(features, same)

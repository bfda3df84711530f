"""The ten-fold protocol by hand, on a set whose answer is known, its folds against scikit-learn's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data.verification import open_verification_set, write_bin
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import ConfigError, DatasetError, VectorError
from v2f_engine.evaluate.verification import (
    fold_edges,
    interpolated_threshold,
    measure_verification,
    verify_pairs,
)


def pairs(count: int, noise: float, seed: int = 0, dimension: int = 64) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    same = generator.random(count) < 0.5
    first = generator.standard_normal((count, dimension))
    second = np.where(same[:, None], first, generator.standard_normal((count, dimension)))
    rows = np.stack([first, second + noise * generator.standard_normal((count, dimension))], 1)
    return rows.reshape(-1, dimension).astype(np.float32) * 20, same


@pytest.mark.parametrize("count", [100, 600, 603, 1009])
def test_folds_are_cut_as_scikit_learn_cuts_them(count: int) -> None:
    assert fold_edges(count, 10) == [
        (int(test[0]), int(test[-1]) + 1) for _, test in KFold(10, shuffle=False).split(np.arange(count))
    ]
    features, same = pairs(count, 0.01)
    assert verify_pairs(features, same).folds == (1.0,) * 10  # nothing is left out at an edge


def at_distances(squared: list[float]) -> np.ndarray:
    """Pairs of features in a plane whose unit vectors have these squared distances, of various lengths."""
    angle = np.arccos(1 - np.array(squared) / 2)
    rows = np.zeros((2 * len(squared), 2))
    rows[0::2, 0] = 7.0
    rows[1::2] = np.stack([np.cos(angle), np.sin(angle)], 1) * np.linspace(0.5, 20, len(squared))[:, None]
    return rows


def test_two_folds_by_hand() -> None:
    """The threshold of the other fold, the lowest of equally good ones, 0.01 apart; below it is one person."""
    first = [(0.105, 1), (0.405, 0), (0.305, 1), (0.805, 0), (0.505, 1), (1.005, 0)]
    # Of the first fold 0.31 .. 0.40 get 5 of 6 right, as do 0.51 .. 0.80: 0.31 is taken.
    second = [(0.205, 1), (0.255, 0), (0.305, 1), (0.705, 0), (0.605, 1), (0.905, 0)]
    # Of the second 0.61 .. 0.70 get 5 of 6 right, no others as many.
    found = verify_pairs(
        at_distances([d for d, _ in first + second]), np.array([bool(s) for _, s in first + second]), folds=2
    )
    # The first fold at 0.61: 0.405 is let in. The second at 0.31: 0.605 is kept out and 0.255 let in.
    assert found.folds == (5 / 6, 4 / 6)
    assert found.threshold == pytest.approx((0.61 + 0.31) / 2)
    assert found.accuracy == pytest.approx(0.75)
    assert found.deviation == pytest.approx(1 / 12)
    # All distances in order: G G I G G I | G G I I I I; at the bar two of six are let in and two kept out.
    assert found.eer == pytest.approx(2 / 6)
    assert found.genuine == pytest.approx([1 - d / 2 for d, s in first + second if s], abs=1e-6)
    assert found.impostor == pytest.approx([1 - d / 2 for d, s in first + second if not s], abs=1e-6)


def test_val_is_taken_where_the_other_fold_accepts_a_thousandth() -> None:
    """1,000 impostors a fold, so one of them may pass: 1.000 by the first fold, 0.800 by the second."""
    first_impostors = [0.5005, 1.0005, 1.2005, 1.4005] + [2.0] * 996
    second_impostors = [0.3005, 0.8005, 1.1005, 1.3005] + [2.0] * 996
    first_genuine = [0.1, 0.7, 0.79, 0.81, 0.9, 1.1, 1.5, 1.6]  # 3 of 8 below 0.8
    second_genuine = [0.1, 0.7, 0.79, 0.81, 0.9, 0.95, 1.5, 1.6]  # 6 of 8 below 1.0
    squared = first_genuine + first_impostors + second_genuine + second_impostors
    same = np.array(([True] * 8 + [False] * 1000) * 2)
    found = verify_pairs(at_distances(squared), same, folds=2)
    assert found.val == pytest.approx((3 / 8 + 6 / 8) / 2)
    assert found.far == pytest.approx((1 / 1000 + 2 / 1000) / 2)


def test_the_published_val_lies_between_two_thresholds() -> None:
    """The line from the last threshold within the rate to the next, wherever many thresholds have one share."""
    # 400 impostors: none below 0.7005, two below 0.9: shares 0 up to 0.700, 0.0025 at 0.701, 0.005 from 0.9 on.
    impostors = np.array([0.7005, 0.8999] + [2.0] * 398)
    assert interpolated_threshold(impostors) == pytest.approx(0.700 + 0.4 * 0.001)  # 0.001 is 0.4 of 0.0025
    assert interpolated_threshold(impostors, 0.0025) == pytest.approx(
        0.899
    )  # the rate itself: its last threshold
    assert (
        interpolated_threshold(np.array([3.9995]), 0.001) == 0.0
    )  # no threshold reaches it: nobody is let in
    shares = np.searchsorted(np.sort(impostors), np.arange(0, 4, 0.001), side="left") / 400
    for rate in np.random.default_rng(0).uniform(
        0, 0.005, 50
    ):  # np.interp goes on from the last of equals, too
        assert interpolated_threshold(impostors, rate) == pytest.approx(
            float(np.interp(rate, shares, np.arange(0, 4, 0.001))), abs=1e-12
        )
    # Two folds alike: a genuine pair between the two thresholds is let in by the published one alone.
    squared = [0.1, 0.7002, 0.9, 1.5, *impostors] * 2
    same = np.array(([True] * 4 + [False] * 400) * 2)
    found = verify_pairs(at_distances(squared), same, folds=2)
    assert (found.val, found.val_interpolated, found.val_interpolated_deviation) == (0.25, 0.5, 0.0)
    assert (found.far, found.far_interpolated) == (0.0, 0.0)
    assert found.to_json()["val_interpolated"] == 0.5


class Grey(torch.nn.Module):
    """Features that are the means of eight columns of the image and of the mirrored one, so one can count."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2)).reshape(len(x), 8, 14).mean(2) * self.one


def test_the_mirrored_image_is_added(tmp_path: Path) -> None:
    """A recogniser that sees eight columns: a face and its mirror image are one only by the sum."""
    generator = np.random.default_rng(3)
    columns, same = [], []
    for number in range(40):
        one = generator.permutation([0, 35, 70, 105, 140, 175, 210, 245]).astype(float)
        other = one[::-1] if number % 2 == 0 else generator.permutation(one)
        columns += [one, other]
        same.append(number % 2 == 0)
    images = [
        np.broadcast_to(np.repeat(c, 14)[None, :, None], (112, 112, 3)).astype(np.uint8) for c in columns
    ]
    write_bin(tmp_path / "m.bin", [Encoder("png").encode(np.ascontiguousarray(i)) for i in images], same)
    found = measure_verification(open_verification_set(tmp_path / "m.bin"), Grey())
    sums = [(c + c[::-1]) / 127.5 - 2 for c in columns]
    cosine = np.array(
        [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
    )
    assert found.genuine == pytest.approx(cosine[::2], abs=1e-5)
    assert found.genuine == pytest.approx(np.ones(20), abs=1e-5)
    assert found.impostor == pytest.approx(cosine[1::2], abs=1e-5)


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
    text = json.dumps(found.to_json())
    assert "genuine" not in text


def test_impossible_pairs_are_named() -> None:
    features, same = pairs(40, 1.0)
    with pytest.raises(VectorError, match=r"expected features \[80, D\]"):
        verify_pairs(features[:-1], same)
    with pytest.raises(VectorError, match="all pairs are one person"):
        verify_pairs(features, np.ones(40, bool))
    with pytest.raises(ConfigError, match="folds"):
        verify_pairs(features, same, folds=1)
    features[4] = 0
    with pytest.raises(VectorError, match=r"row 4\) and have no direction"):
        verify_pairs(features, same)


def test_a_broken_set_does_not_cost_the_others(tmp_path: Path) -> None:
    """The results are there after each set; the broken one is named and the command does not end well."""
    faces = np.random.default_rng(0).integers(0, 256, (40, 112, 112, 3), np.uint8)
    encoded = [Encoder("png").encode(image) for image in faces]
    same = [bool(n % 2) for n in range(20)]
    for name in ("a", "c"):
        write_bin(tmp_path / f"{name}.bin", encoded, same)
    (tmp_path / "b.bin").write_bytes((tmp_path / "a.bin").read_bytes()[:5000])
    out = tmp_path / "r.json"
    words = [
        "evaluate",
        "verification",
        *(str(tmp_path / f"{name}.bin") for name in "abc"),
        "--out",
        str(out),
    ]
    ended = CliRunner().invoke(app, words)
    assert isinstance(ended.exception, DatasetError)
    assert "1 of 3 sets could not be measured" in str(ended.exception)
    assert "b.bin: byte" in str(ended.exception)
    record = json.loads(out.read_text())
    assert [each["name"] for each in record["sets"]] == ["a", "c"]
    assert [Path(each["set"]).name for each in record["failed"]] == ["b.bin"]
    assert "of 2 sets" in ended.output
    assert ended.output.count("interpolated as published: VAL") == 2


def test_a_collapsed_recogniser_gets_no_accuracy() -> None:
    features, same = pairs(40, 0.01)
    with pytest.raises(VectorError, match="one direction"):
        verify_pairs(np.tile(features[:1], (80, 1)) * np.linspace(1, 9, 80)[:, None], same)
    features[7, 3] = np.nan
    with pytest.raises(VectorError, match=r"not finite \(row 7\)"):
        verify_pairs(features, same)

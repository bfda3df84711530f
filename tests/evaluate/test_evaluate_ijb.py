"""IJB: a miniature protocol worked out by hand, scikit-learn's ROC, alignment of the crops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_curve
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.errors import ConfigError, DatasetError, VectorError
from v2f_engine.evaluate.crops import read_crops
from v2f_engine.evaluate.ijb import FPRS, measure_ijb, read_protocol, template_features, tpr_at_fpr
from v2f_engine.faces.geometry import TEMPLATE, similarity, warp

WHO = """1.jpg 10 1
2.jpg 10 1
3.jpg 10 2
4.jpg 20 1
5.jpg 30 5
6.jpg 40 9
"""
PAIRS = "10 20 1\n30 40 0\n10 30 0\n20 40 0\n10 40 0\n20 30 0\n"
FEATURES = np.array([[4, 0, 0], [0, 2, 0], [0, 0, 1], [3, 0, 0], [0, 5, 0], [1, 1, 1]], np.float32)


def write(folder: Path, who: str = WHO, pairs: str = PAIRS, points: str | None = None) -> Path:
    (folder / "ijbc_face_tid_mid.txt").write_text(who)
    (folder / "ijbc_template_pair_label.txt").write_text(pairs)
    if points is not None:
        (folder / "ijbc_name_5pts_score.txt").write_text(points)
    return folder


def test_media_are_averaged_and_templates_summed_by_hand(tmp_path: Path) -> None:
    protocol = read_protocol(write(tmp_path))
    numbers, units = template_features(FEATURES, protocol.templates, protocol.media)
    assert numbers.tolist() == [10, 20, 30, 40]
    ten = np.array([2, 1, 1]) / np.sqrt(6)  # medium 1 is the mean of (4,0,0) and (0,2,0), medium 2 is (0,0,1)
    assert units[0] == pytest.approx(ten)
    found = measure_ijb(FEATURES, protocol)
    expected = [2 / np.sqrt(6), 1 / np.sqrt(3), 1 / np.sqrt(6), 1 / np.sqrt(3), 4 / np.sqrt(18), 0]
    assert found.scores == pytest.approx(expected, abs=1e-6)
    # The only genuine pair scores 0.816; of five impostors, one (0.943) scores above it.
    assert (found.templates, found.pairs, found.genuine_pairs) == (4, 6, 1)
    assert found.headline == 0.0
    assert tpr_at_fpr(found.scores, found.same, (0.0, 0.19, 0.5)) == [0.0, 1.0, 1.0]


def test_rates_of_a_ranking_by_hand() -> None:
    """Ten impostors and four genuine pairs, best first: G I G G I I G I I I ..."""
    ranking = np.array([True, False, True, True, False, False, True] + [False] * 7)
    scores = np.linspace(0.9, -0.4, 14)
    # Points (FPR, TPR): 0, 1/4; 0.1, 1/4 .. 3/4; 0.2, 3/4; 0.3, 3/4 .. 1; the larger TPR of a column counts.
    rates = (1e-4, 0.04, 0.06, 0.1, 0.24, 0.26, 1.0)
    exact = [0.25, 0.25, 0.75, 0.75, 0.75, 1.0, 1.0]
    assert tpr_at_fpr(scores, ranking, rates, curve="exact") == exact
    mixed = np.random.default_rng(0).permutation(14)
    assert tpr_at_fpr(scores[mixed], ranking[mixed], rates, curve="exact") == exact


def test_the_published_points_by_hand() -> None:
    """Ten impostors and twenty genuine pairs: 15 G, I, I, I, 1 G, 7 I, 4 G. Inside a run of one kind no point stays."""
    ranking = np.array([True] * 15 + [False] * 3 + [True] + [False] * 7 + [True] * 4)
    scores = np.linspace(1, 0, 30)
    # Kept, from scikit-learn 1.9: (0, 0) set before all, the first pair's point, and the end of each run.
    # (FPR, TPR): (0, .05), (0, .75), (.3, .75), (.3, .8), (1, .8), (1, 1).
    rates = (0.0, 0.1, 0.16, 0.3, 0.6, 0.7)
    assert tpr_at_fpr(scores, ranking, rates) == [0.75, 0.75, 0.8, 0.8, 0.8, 1.0]
    assert tpr_at_fpr(scores, ranking, rates, curve="exact") == [0.75, 0.75, 0.75, 0.8, 0.8, 0.8]
    with pytest.raises(ConfigError, match="Known: as-published, exact"):
        tpr_at_fpr(scores, ranking, rates, curve="published")


def test_both_curves_are_named_where_a_protocol_is_measured(tmp_path: Path) -> None:
    """In the result, its JSON and what the command says; the scores, with all their digits, are the same."""
    np.save(tmp_path / "f.npy", FEATURES)
    meta = write(tmp_path)
    for curve, words in (("as-published", []), ("exact", ["--curve", "exact"])):
        out = tmp_path / f"{curve}.json"
        line = ["evaluate", "ijb", str(meta), "--features", str(tmp_path / "f.npy"), "--out", str(out)]
        ended = CliRunner().invoke(app, [*line, *words])
        assert ended.exit_code == 0, ended.output
        assert f"ROC {curve}" in ended.output
        assert json.loads(out.read_text())["curve"] == curve
        found = measure_ijb(FEATURES, read_protocol(meta), curve=curve)
        assert found.scores.dtype == np.float64
        assert found.tpr == json.loads(out.read_text())["tpr"]


def test_detector_scores_weigh_images(tmp_path: Path) -> None:
    line = " ".join(f"{x:.1f} {y:.1f}" for x, y in TEMPLATE)
    points = "".join(f"{n}.jpg {line} {score}\n" for n, score in enumerate([1, 0.5, 0, 1, 1, 1], start=1))
    protocol = read_protocol(write(tmp_path, points=points))
    _, units = template_features(FEATURES, protocol.templates, protocol.media, protocol.scores)
    assert units[0] == pytest.approx(np.array([2, 0.5, 0]) / np.sqrt(4.25))
    # In the measure they lift the genuine pair above the impostor that beats it without them.
    weighed, plain = measure_ijb(FEATURES, protocol), measure_ijb(FEATURES, protocol, use_scores=False)
    third = 1 / np.sqrt(3)
    expected = [2 / np.sqrt(4.25), third, 0.5 / np.sqrt(4.25), third, 2.5 / np.sqrt(12.75), 0]
    assert weighed.scores == pytest.approx(expected, abs=1e-6)
    assert plain.scores[0] == pytest.approx(2 / np.sqrt(6), abs=1e-6)
    assert (weighed.headline, plain.headline) == (1.0, 0.0)
    assert protocol.landmarks is not None
    assert protocol.landmarks[0] == pytest.approx(TEMPLATE, abs=0.06)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("digits", [None, 3, 2, 1])
def test_rates_are_those_of_scikit_learn(seed: int, digits: int | None) -> None:
    """Both curves, with and without ties, from a handful of pairs to 20,000, and at whatever rate."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(4, 30)) if seed % 3 == 0 else 20_000 if seed == 1 else 900
    same = generator.random(count) < generator.uniform(0.05, 0.6)
    same[:2] = True, False
    scores = generator.standard_normal(count) * 0.2 + 0.4 * same
    scores = scores if digits is None else np.round(scores, digits)
    rates = (*FPRS, *generator.random(20))
    for curve, dropping in (("as-published", True), ("exact", False)):
        fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=dropping)
        fpr, tpr = np.flipud(fpr), np.flipud(tpr)
        expected = [tpr[min((abs(f - rate), at) for at, f in enumerate(fpr))[1]] for rate in rates]
        assert tpr_at_fpr(scores, same, rates, curve=curve) == pytest.approx(expected, abs=1e-12)


def test_a_larger_protocol_with_a_known_answer(tmp_path: Path) -> None:
    # 200 people in two templates each: features agree but for 20 people, whose second template is somebody else's.
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((200, 256))
    rows, who, name = [], [], 0
    for person in range(200):
        for side in (0, 1):
            centre = centres[person] if side == 0 or person >= 20 else generator.standard_normal(256)
            for image in range(3):
                who.append(f"{name}.jpg {2 * person + side} {image // 2}")
                rows.append(centre + 0.3 * generator.standard_normal(256))
                name += 1
    lines = [f"{2 * a} {2 * b + 1} {int(a == b)}" for a in range(200) for b in range(200)]
    protocol = read_protocol(write(tmp_path, "\n".join(who), "\n".join(lines)))
    found = measure_ijb(np.asarray(rows, np.float32), protocol)
    assert (found.templates, found.pairs, found.genuine_pairs) == (400, 40_000, 200)
    assert found.headline == pytest.approx(0.9)


def test_broken_protocols_are_named_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected one"):
        read_protocol(tmp_path)
    write(tmp_path, who="1.jpg 10 1\n2.jpg ten 1\n")
    with pytest.raises(DatasetError, match="line 2: expected image template medium"):
        read_protocol(tmp_path)
    write(tmp_path, pairs="10 99 1\n")
    with pytest.raises(DatasetError, match=r"1 templates without an image, among them \[99\]"):
        read_protocol(tmp_path)
    write(tmp_path, pairs="10 20 2\n")
    with pytest.raises(DatasetError, match="labels other than 0 and 1"):
        read_protocol(tmp_path)
    write(tmp_path)
    with pytest.raises(VectorError, match="3 features for 6 images"):
        measure_ijb(FEATURES[:3], read_protocol(tmp_path))
    with pytest.raises(VectorError, match="All 2 pairs"):
        tpr_at_fpr(np.array([0.1, 0.2]), np.array([True, True]), (0.1,))
    write(tmp_path, points="2.jpg " + "1 " * 11 + "\n")
    with pytest.raises(DatasetError, match="not those of"):
        read_protocol(tmp_path)


def test_crops_are_aligned_to_the_template(tmp_path: Path) -> None:
    import cv2

    generator = np.random.default_rng(2)
    image = cv2.GaussianBlur(generator.integers(0, 256, (200, 180, 3), np.uint8), (0, 0), 2)
    points = TEMPLATE @ np.array([[1.2, 0.3], [-0.3, 1.2]]) + [25, 30]
    matrix = similarity(points)
    assert points @ matrix[:, :2].T + matrix[:, 2] == pytest.approx(TEMPLATE, abs=1e-9)
    oracle = cv2.warpAffine(image, matrix, (112, 112), flags=cv2.INTER_LINEAR)
    assert np.abs(warp(image, matrix).astype(int) - oracle).max() <= 3  # OpenCV rounds its weights to 1/32
    with pytest.raises(DatasetError, match="Five landmarks in one place"):
        similarity(np.ones((5, 2)))

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) * self.one

    crops = tmp_path / "loose_crop"
    crops.mkdir()
    for n in range(1, 7):
        Image.fromarray(image).save(crops / f"{n}.jpg", format="PNG")
    line = " ".join(f"{x:.6f} {y:.6f}" for x, y in points)
    protocol = read_protocol(write(tmp_path, points="".join(f"{n}.jpg {line} 1\n" for n in range(1, 7))))
    features = read_crops(protocol, crops, Mean())
    assert features[0] == pytest.approx(2 * (oracle.mean((0, 1)) / 127.5 - 1), abs=0.01)
    (crops / "3.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of \d+ images are not in .*loose_crop, among them 3.jpg"):
        read_crops(protocol, crops, Mean())

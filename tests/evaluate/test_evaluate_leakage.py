"""Leakage: planted people are all found, shares and chance are counted, blocks and backends change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.evaluate.leakage import lowest_rate, measure_leakage, spread_rows


def vectors(rows: int, seed: int, dimension: int = 128) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32) * 20


def plant(
    synthetic: np.ndarray, gallery: np.ndarray, rows: np.ndarray, cosine: float, seed: int = 9
) -> np.ndarray:
    """Makes the given synthetic rows leak a gallery row each, at the cosine given; returns whom."""
    generator = np.random.default_rng(seed)
    whom = generator.choice(len(gallery), len(rows), replace=False)
    for row, other in zip(rows, whom, strict=True):
        centre = gallery[other] / np.linalg.norm(gallery[other])
        noise = generator.standard_normal(len(centre))
        noise -= noise @ centre * centre
        noise /= np.linalg.norm(noise)
        synthetic[row] = 17 * (cosine * centre + np.sqrt(1 - cosine**2) * noise)
    return whom


@pytest.mark.parametrize("cosine", [0.72, 0.9, 1.0])
def test_planted_leaks_are_all_found_and_nobody_else(cosine: float) -> None:
    synthetic, gallery = vectors(3000, 1), vectors(5000, 2)
    rows = np.random.default_rng(3).choice(3000, 40, replace=False)
    whom = plant(synthetic, gallery, rows, cosine)
    found = measure_leakage(synthetic, gallery, worst=40)
    assert {row for row, _, _ in found.worst} == set(rows.tolist())
    assert {(row, other) for row, other, _ in found.worst} == set(
        zip(rows.tolist(), whom.tolist(), strict=True)
    )
    assert [above.count for above in found.above[:2]] == [40, 40]
    calibrated = found.above[2]
    assert calibrated.by_chance is not None
    assert calibrated.share - 40 / 3000 == pytest.approx(calibrated.by_chance, abs=5e-3)
    assert found.above[1].share == 40 / 3000
    assert all(value == pytest.approx(cosine, abs=1e-5) for _, _, value in found.worst)
    assert found.quantiles["1"] == pytest.approx(cosine, abs=1e-5)


def test_cosines_are_those_of_one_large_product_in_every_block_and_backend() -> None:
    synthetic, gallery = vectors(701, 4, 64), vectors(903, 5, 64)
    unit = [
        rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True) for rows in (synthetic, gallery)
    ]
    product = unit[0] @ unit[1].T
    seen: list[tuple[int, int]] = []
    for backend in ("reference", "native"):
        for block in (64, 700, 5000):
            found = measure_leakage(
                synthetic,
                gallery,
                fmr=None,
                backend=backend,
                block=block,
                progress=lambda *at: seen.append(at),
            )
            assert np.allclose(found.cosine, product.max(axis=1), atol=1e-6)
            assert np.array_equal(found.index, product.argmax(axis=1))
            assert seen[-1] == (701, 701)
    assert len(seen) == 2 * (11 + 2 + 1)


def test_the_calibrated_threshold_has_its_rate_and_its_chance() -> None:
    gallery = vectors(4000, 6, 24)
    found = measure_leakage(vectors(2000, 7, 24), gallery, fmr=1e-4, thresholds=())
    (above,) = found.above
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    cosine = (unit @ unit.T)[np.triu_indices(4000, 1)]
    assert (cosine >= above.threshold).mean() <= 1e-4
    assert (cosine >= above.threshold - 1e-4).mean() > 0.9e-4
    assert above.what == "FMR 0.0001"
    assert above.by_chance == pytest.approx(1 - (1 - 1e-4) ** 4000)
    assert above.share == pytest.approx(above.by_chance, abs=0.04)  # strangers, so chance is all there is


def test_labels_of_a_gallery_keep_its_genuine_pairs_out_of_the_calibration() -> None:
    people = vectors(400, 8, 32)
    labels = np.repeat(np.arange(400), 5)
    gallery = people[labels] + np.random.default_rng(1).standard_normal((2000, 32)).astype(np.float32)
    with_labels = measure_leakage(people, gallery, gallery_labels=labels, fmr=1e-3, thresholds=())
    without = measure_leakage(people, gallery, fmr=1e-3, thresholds=())
    assert with_labels.above[0].threshold < without.above[0].threshold - 0.2


def test_a_memory_map_is_read_in_place(tmp_path) -> None:
    gallery = vectors(3000, 10)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    direct = measure_leakage(vectors(50, 11), gallery, fmr=None)
    assert np.array_equal(measure_leakage(vectors(50, 11), mapped, fmr=None).cosine, direct.cosine)
    rows, labels = spread_rows(mapped, np.arange(3000), limit=10)
    assert rows.shape == (10, 128)
    assert labels is not None
    assert labels[[0, -1]].tolist() == [0, 2999]


def test_what_cannot_be_compared_is_named() -> None:
    good = vectors(30, 12)
    with pytest.raises(VectorError, match="one length"):
        measure_leakage(good, vectors(30, 12, 64))
    with pytest.raises(VectorError, match="at least"):
        measure_leakage(good[:0], good)
    with pytest.raises(ConfigError, match="threshold"):
        measure_leakage(good, good, thresholds=(1.5,))
    bad = good.copy()
    bad[7] = np.nan
    with pytest.raises(VectorError, match="7"):
        measure_leakage(good, bad, fmr=None)
    with pytest.raises(ConfigError, match="false-match rate"):
        measure_leakage(good, good, fmr=1e-6)
    assert [lowest_rate(people) for people in (30, 400, 4000, 10**7)] == [None, 1e-3, 1e-5, 1e-6]
    assert lowest_rate(400, np.repeat(np.arange(2), 200)) == 1e-3

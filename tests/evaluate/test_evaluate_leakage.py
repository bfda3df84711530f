"""Leakage: planted people are all found, shares and chance are counted, blocks and backends change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import v2f_engine.evaluate.leakage_pairs as leakage_pairs
from v2f_engine.cli import dependent
from v2f_engine.cli.main import app
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.evaluate.leakage import lowest_rate, measure_leakage, spread_rows
from v2f_engine.evaluate.source import VECTORS
from v2f_engine.vectors.sampling import sample_identities


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


def counted(cosines: np.ndarray, threshold: float, who: np.ndarray, whom: np.ndarray) -> tuple[int, int]:
    """(pairs of rows, pairs of people) above, from the whole matrix."""
    i, j = np.nonzero(cosines > threshold)
    return len(i), len(set(zip(who[i].tolist(), whom[j].tolist(), strict=True)))


@pytest.mark.parametrize("seed", range(16))
def test_pairs_are_those_of_the_whole_matrix(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, people by any two rows and by centres; labels on both sides, one or none; blocks of any size."""
    generator = np.random.default_rng(seed)
    for name, size in zip(
        ("ROWS", "BLOCK", "LEVELS"), ((7, 13, 50), (1024, 8192, 2**26))[seed % 2], strict=True
    ):
        monkeypatch.setattr(leakage_pairs, name, size)
    n, m, d = int(generator.integers(3, 90)), int(generator.integers(3, 120)), int(generator.integers(3, 24))
    synthetic, gallery = vectors(n, 100 + seed, d), vectors(m, 200 + seed, d)
    labels = generator.integers(0, 12, n) * 7 - 3 if seed % 4 in (1, 2) else None
    whom = generator.integers(0, 9, m) + 100 if seed % 4 in (2, 3) else None
    thresholds = ((0.5, 0.7), (0.7, 0.1, 0.5), (-0.2,))[seed % 3]
    found = measure_leakage(
        synthetic, gallery, thresholds=thresholds, fmr=None, labels=labels, gallery_labels=whom
    )
    sides = [(synthetic, labels), (gallery, whom)]
    people = [np.arange(len(rows)) if who is None else who for rows, who in sides]
    means = [
        np.stack([rows[who == one].astype(np.float64).mean(0) for one in np.unique(who)])
        for (rows, _), who in zip(sides, people, strict=True)
    ]

    def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (a, b))
        return np.asarray(a @ b.T)

    for above, threshold in zip(found.above, thresholds, strict=True):
        rows, both = counted(cosines(synthetic, gallery), threshold, *people)
        assert (above.threshold, above.pairs.count, above.pairs.total) == (threshold, rows, n * m)
        assert above.pairs.share == rows / (n * m)
        if labels is None and whom is None:
            assert (above.people, above.centres) == (None, None)
            continue
        total = len(means[0]) * len(means[1])
        assert (above.people.count, above.people.total) == (both, total)
        assert (above.centres.count, above.centres.total) == ((cosines(*means) > threshold).sum(), total)


@pytest.mark.parametrize("dimension", [128, 512])
def test_a_pair_at_the_threshold_is_decided_in_float64(dimension: int) -> None:
    """Planted a few 1e-7 beside 0.5, which a product in float32 cannot tell; each is on its own side."""
    synthetic, gallery = vectors(400, 3, dimension), vectors(500, 4, dimension)
    for row in range(200):
        plant(synthetic, gallery, np.array([row]), 0.5 + (row - 100) * 1e-8, seed=row)
    a, b = (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (synthetic, gallery))
    cosines = a @ b.T
    close = np.abs(cosines - 0.5) < 1e-6
    assert close.sum() >= 150
    assert np.abs(cosines - 0.5)[close].min() > 1e-12  # so that no rounding of float64 decides
    single = (a.astype(np.float32) @ b.astype(np.float32).T > np.float32(0.5)).sum()
    found = measure_leakage(synthetic, gallery, thresholds=(0.5,), fmr=None)
    assert found.above[0].pairs.count == (cosines > 0.5).sum() != single
    assert found.decided >= 80  # of the rows whose nearest is above


def test_a_set_against_itself_is_said_and_its_selves_are_no_pairs() -> None:
    rows = vectors(60, 5, 8)
    labels = np.repeat(np.arange(20), 3)
    found = measure_leakage(rows, rows.copy(), thresholds=(0.5,), fmr=None, gallery_labels=labels)
    unit = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    cosines = unit @ unit.T
    count, people = counted(cosines, 0.5, labels, labels)
    above = found.above[0]
    assert found.same_set
    assert (above.pairs.count, above.pairs.total) == (count - 60, 60 * 59)
    assert (above.people.count, above.people.total) == (people - 20, 20 * 19)
    assert not measure_leakage(rows, rows[::-1].copy(), thresholds=(0.5,), fmr=None).same_set


def test_tables_and_files_of_features_stand_on_either_side(tmp_path: Path) -> None:
    """A table of `ids sample`, .npy, .npz and .safetensors; what each is stands in the record, labels count people."""
    table = sample_identities(40, source="gaussian", seed=1)
    table.save(tmp_path / "ids.safetensors")
    gallery = vectors(90, 6, 512)
    gallery[7] = 3 * table.vectors[4]
    np.save(tmp_path / "real.npy", gallery)
    np.savez(tmp_path / "real.npz", gallery.astype(np.float64))
    np.save(tmp_path / "who.npy", np.arange(90) // 3)
    for words, kinds in (
        (("ids.safetensors", "real.npy"), ("identity table", "features")),
        (("real.npz", "ids.safetensors", "--labels", "who.npy"), ("features", "identity table")),
    ):
        line = [str(tmp_path / word) if "." in word else word for word in words]
        out = tmp_path / f"{kinds[0]}.json"
        ended = CliRunner().invoke(app, ["evaluate", "leakage", *line, "--fmr", "0", "--out", str(out)])
        assert ended.exit_code == 0, ended.output + str(ended.exception)
        record = json.loads(out.read_text())
        assert (record["synthetic_kind"], record["gallery_kind"]) == kinds
        assert [above["pairs"]["count"] for above in record["above"]] == [1, 1]
        assert record["above"][0]["pairs"]["total"] == 3600
        assert f"1 of {3600:,} pairs of rows" in ended.output
        assert (record["above"][0]["people"] is None) == (len(words) == 2)
    assert record["above"][0]["people"] == {"count": 1, "total": 1200, "share": 1 / 1200}
    assert set(VECTORS) == set(dependent.VECTORS)

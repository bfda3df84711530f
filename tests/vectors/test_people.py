"""What a model says of vectors: their length is held, their kind is told, and rescaling is recorded."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from v2f_engine.errors import ArtefactError, ConfigError, V2FWarning, VectorError
from v2f_engine.models.registry import locate
from v2f_engine.options import IdentityOptions
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.people import DRAWN, MEDIAN, ROW, People, lengths
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import GaussianSource, StatisticsSource, find_source
from v2f_engine.vectors.statistics import fit_statistics, save_statistics

MINI = People.of(locate("mini", "generator"))
OWN = sample_identities(12, seed=4)


def table(rows: np.ndarray) -> Identities:
    return Identities.from_vectors(np.asarray(rows, np.float32))


def test_own_vectors_pass_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(3):
            rows = MINI.source.candidates(seed, 0, 3000)
            assert MINI.admitted(table(rows)).vectors is not None
            for row in rows[:200]:
                MINI.admitted(table(row[None]))
        assert MINI.admitted(OWN) is OWN
    assert (OWN.provenance["model"], OWN.provenance["source_sha256"]) == ("mini", MINI.source.sha256)


@pytest.mark.parametrize("scale", [1e-3, 0.01, 1 / 24.4, 0.1, 0.3, 0.55, 1.8, 3.0, 10.0, 1000.0])
def test_any_other_scale_is_refused_with_the_numbers(scale: float) -> None:
    median = float(np.median(lengths(OWN.vectors)) * scale)
    with pytest.raises(
        VectorError, match=rf"median length {re.escape(f'{median:.3g}')}, expected 24\.\d, .*--rescale"
    ):
        MINI.admitted(table(OWN.vectors * np.float32(scale)))


@pytest.mark.parametrize("scale", [1 / MEDIAN + 0.08, 0.8, 1.0, 1.2, MEDIAN - 0.15])
def test_scales_that_features_have_pass(scale: float) -> None:
    rows = OWN.vectors / lengths(OWN.vectors)[:, None] * MINI.length * scale
    MINI.admitted(table(rows))


def test_single_rows_outside_are_named() -> None:
    for factor in (ROW * 1.1, 1 / ROW / 1.1):
        rows = OWN.vectors / lengths(OWN.vectors)[:, None] * MINI.length
        rows[[3, 7]] *= factor
        with pytest.raises(VectorError, match=r"2 of 12 rows are outside .*: 3 \(.*\), 7 \("):
            MINI.admitted(table(rows))


def test_unit_vectors_are_called_so_and_rescaled_on_request() -> None:
    unit = table(OWN.vectors / lengths(OWN.vectors)[:, None])
    with pytest.raises(VectorError, match="12 of 12 rows .* They are unit vectors"):
        MINI.admitted(unit)
    found = MINI.admitted(unit, rescale=True)
    np.testing.assert_allclose(lengths(found.vectors), MINI.length, rtol=1e-6)
    assert found.provenance["rescaled_to"] == pytest.approx(MINI.length, abs=1e-3)
    np.testing.assert_array_equal(found.vectors, MINI.admitted(unit, rescale=True).vectors)


def test_foreign_vectors_warn_whether_they_say_so_or_not(tmp_path: Path) -> None:
    gaussian = sample_identities(9, source="gaussian", seed=1)
    with pytest.warns(V2FWarning, match="sampled from 'gaussian'"):
        MINI.admitted(gaussian)
    with pytest.warns(V2FWarning, match="85 % of these vectors lies outside|8. % of these vectors"):
        MINI.admitted(table(gaussian.vectors))
    with pytest.warns(V2FWarning, match="'mini', which is not the source of other"):
        People.of(SimpleNamespace(name="other", statistics="gaussian", max_cosine=0.3)).admitted(OWN)
    OWN.save(tmp_path / "t.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MINI.admitted(Identities.load(tmp_path / "t.safetensors"))


def statistics_of(scale: float) -> StatisticsSource:
    rows = MINI.source.candidates(9, 0, 3000) * np.float32(scale)
    return StatisticsSource(fit_statistics([(0, rows)], origin="mine"), "mine")


def test_statistics_of_another_length_are_refused_or_rescaled(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = statistics_of(0.9)
        assert MINI.admitted_source(mine) is mine
    unit = statistics_of(1 / MINI.length)
    with pytest.raises(VectorError, match=r"mine: draws vectors of median length 1, expected 24\.\d"):
        MINI.admitted_source(unit)
    found = MINI.admitted_source(unit, rescale=True)
    assert float(np.median(lengths(found.candidates(5, 0, DRAWN)))) == pytest.approx(MINI.length, rel=0.02)
    assert "times 2" in found.name
    assert found.sha256 != unit.sha256
    with pytest.raises(VectorError, match="draws vectors of 64 entries, expected 512"):
        MINI.admitted_source(GaussianSource(64))
    save_statistics(tmp_path / "s.safetensors", unit.statistics)
    assert unit.statistics.length == pytest.approx(1, abs=0.1)
    with pytest.raises(VectorError, match="median length 1"):
        sample_identities(3, model="mini", source=tmp_path / "s.safetensors")
    with pytest.raises(VectorError, match="median length 1"):
        IdentityOptions(3, source=tmp_path / "s.safetensors").for_model(MINI)


def test_an_export_without_statistics_samples_nobody() -> None:
    old = People.of(SimpleNamespace(name="mine", path="old.onnx", statistics=None, max_cosine=0.3))
    with pytest.raises(
        ArtefactError, match=r"old\.onnx: an export of before .*Export it again, or name a source"
    ):
        IdentityOptions(3).for_model(old)
    assert isinstance(IdentityOptions(3, source="gaussian").for_model(old).source, GaussianSource)


def test_given_identities_are_held_to_what_sampled_ones_are(tmp_path: Path) -> None:
    real = OWN.vectors[[2, 5]] + np.float32(0.1)
    np.save(tmp_path / "real.npy", real)
    given = table(OWN.vectors)
    with pytest.raises(VectorError, match=r"2 of 12 rows resemble one of 2 excluded people .*rows 2, 5"):
        IdentityOptions(identities=given, exclude=tmp_path / "real.npy").for_model(MINI)
    twins = table(np.concatenate([OWN.vectors, OWN.vectors[:2] * np.float32(1.1)]))
    with pytest.raises(VectorError, match=r"2 of 14 rows are like an earlier identity .*rows 12, 13"):
        IdentityOptions(identities=twins, max_cosine=0.9).for_model(MINI)
    known = find_source("mini").candidates(3, 0, 400)
    with pytest.raises(VectorError, match="2 of 14 rows are like an earlier identity"):
        IdentityOptions(identities=twins, fmr=0.01, calibration=known).for_model(MINI)
    apart = IdentityOptions(identities=given, exclude=known[:3], max_cosine=0.9).for_model(MINI).identities
    assert isinstance(apart, Identities)
    assert apart.provenance["held_apart"]["exclude"]["rows"] == 3
    assert apart.provenance["held_apart"]["max_cosine"] == 0.9
    plain = IdentityOptions(identities=given).for_model(MINI).identities
    assert isinstance(plain, Identities)
    assert plain.table_hash == given.table_hash
    for options in ({"source": "gaussian", "identities": given}, {"n_ids": 3, "rescale": True}):
        with pytest.raises(ConfigError, match="source|rescale"):
            IdentityOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="either max_cosine .* or fmr"):
        IdentityOptions(3, max_cosine=0.3, fmr=0.1)


ODD = ("10", 2.0, None, True, np.float32(3), [3], np.ones(2, int))


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_counts_of_other_types_are_named(value: object) -> None:
    with pytest.raises(ConfigError, match="number of identities must be a whole number, found"):
        sample_identities(value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed must be a whole number"):
        sample_identities(3, seed=value)  # type: ignore[arg-type]


def test_counts_of_numpy_are_counts() -> None:
    found = sample_identities(np.int32(3), seed=np.uint8(4), max_candidates=np.int64(5000))  # type: ignore[arg-type]
    assert found.table_hash == sample_identities(3, seed=4).table_hash
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        sample_identities(np.int8(0))  # type: ignore[arg-type]
    for odd in (None, 3, ["mini"]):
        with pytest.raises(ConfigError, match="source"):
            sample_identities(3, source=odd)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="exported file: Engine.load"):
        sample_identities(3, model="a.onnx")

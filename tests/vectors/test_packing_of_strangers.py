"""Tables that nobody sampled, packed: refused by name, or never worse than given, and finite."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.errors import BackendUnavailable, ConfigError, V2FError, VectorError
from v2f_engine.machine import Machine
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.labelled import fit_groups
from v2f_engine.vectors.packing import pack_identities, packing
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import GaussianSource, LabelledSource
from v2f_engine.vectors.statistics import Statistics

D = 12


def nearest(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1)[:, None]
    cosines = wide @ wide.T
    np.fill_diagonal(cosines, -2)
    return np.asarray(cosines.max(axis=1))


def low_rank(k: int, seed: int) -> Statistics:
    """A source that varies in the first k directions alone."""
    factor = np.zeros((D, k), np.float32)
    factor[:k, :k] = np.diag(np.random.default_rng(seed).uniform(0.5, 3, k))
    wide = factor.astype(np.float64)
    return Statistics(np.zeros(D), wide @ wide.T, 100, factor)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999), n=st.integers(2, 6), k=st.integers(1, D), held=st.integers(0, D),
    length=st.sampled_from([1e-5, 1.0, 1e5]), steps=st.integers(1, 6),
)  # fmt: skip
def test_any_table_in_any_measure_is_finite_and_never_worse(
    seed: int, n: int, k: int, held: int, length: float, steps: int
) -> None:
    """Vectors that are zero in the first entries lie where such a source does not vary at all."""
    rows = np.random.default_rng(seed).standard_normal((n, D))
    rows[:, : min(held, D - 2)] = 0
    table = Identities.from_vectors((rows * length).astype(np.float32))
    try:
        found = packing(table, source=low_rank(k, seed), steps=steps, max_drift=1e9)
    except VectorError as error:
        assert "duplicates" in str(error)
        return
    after, before = nearest(found.table.vectors), nearest(table.vectors)
    assert np.isfinite(found.table.vectors).all()
    assert after.max() <= before.max() + 1e-12
    assert after.mean() <= before.mean() + 1e-12
    lengths = [np.linalg.norm(one.vectors.astype(np.float64), axis=1) for one in (table, found.table)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-6)


def test_two_of_one_direction_are_named_since_no_push_parts_them() -> None:
    """The whole table came back as given, after all steps, on account of one such pair."""
    rows = np.random.default_rng(0).standard_normal((5, D)).astype(np.float32)
    for double in (2 * rows[1], rows[1] + np.float32(1e-5)):
        table = Identities.from_vectors(np.concatenate([rows, double[None]]))
        with pytest.raises(VectorError, match="row 5 repeats 1"):
            packing(table, source=GaussianSource(D))
    opposite = Identities.from_vectors(np.stack([rows[0], -rows[0]]))
    assert packing(opposite, source=GaussianSource(D)).step == 0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"steps": 2.5}, ConfigError, "steps must be a whole number"),
        ({"steps": True}, ConfigError, "steps"),
        ({"block": 2.5}, ConfigError, "block must be a whole number"),
        ({"max_drift": float("nan")}, ConfigError, "max_drift"),
        ({"device": "foo"}, ConfigError, "device 'foo' is not known"),
        ({"device": "meta"}, ConfigError, "device 'meta' is not known"),
        ({"device": 5}, ConfigError, "device must be text"),
        ({"device": f"cuda:{Machine.look().cuda_devices}"}, BackendUnavailable, "torch sees"),
        ({"progress": 5}, ConfigError, "progress must be a function"),
        ({"exclude": 5}, ConfigError, "exclude"),
        ({"source": dataclasses.replace(low_rank(1, 0), factor=np.zeros((D, 1), np.float32))}, ConfigError, "no cov"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_before_the_work(
    options: dict[str, object], error: type[V2FError], match: str
) -> None:
    table = Identities.from_vectors(np.random.default_rng(0).standard_normal((4, D)).astype(np.float32))
    for pack in (packing, pack_identities):
        with pytest.raises(error, match=match):
            pack(table, **{"source": GaussianSource(D), **options})  # type: ignore[operator]


def test_a_file_and_an_array_are_tables_as_well(tmp_path: Path) -> None:
    table = sample_identities(6, source=GaussianSource(D), max_cosine=0.7)
    table.save(tmp_path / "t.safetensors")
    packed = packing(table, source=GaussianSource(D), steps=3).table
    assert packing(tmp_path / "t.safetensors", source=GaussianSource(D), steps=3).table == packed
    of_rows = packing(table.vectors, source=GaussianSource(D), steps=3).table
    np.testing.assert_array_equal(of_rows.vectors, packed.vectors)
    with pytest.raises(ConfigError, match="table must be vectors"):
        packing(5)  # type: ignore[arg-type]
    with pytest.raises(VectorError, match="at most 1,024 entries"):
        packing(np.random.default_rng(0).standard_normal((3, 1025)), source=GaussianSource(1025))


def test_people_of_groups_are_refused_by_that_name() -> None:
    rows = np.random.default_rng(0).standard_normal((60, D)).astype(np.float32)
    source = LabelledSource.of(fit_groups([(0, rows)], ["old", "young"] * 30, covariance="pooled"), "g")
    table = sample_identities(5, source=source, mix="equal", max_cosine=None)
    with pytest.raises(VectorError, match="cannot be packed: its people are of groups"):
        packing(table, source=source)


def test_a_table_packed_twice_tells_of_both() -> None:
    """How far it may have gone from where it was drawn is known of each packing, not of the last alone."""
    table = sample_identities(20, source=GaussianSource(D), max_cosine=0.7)
    once = packing(table, source=GaussianSource(D), steps=3).table
    twice = packing(once, source=GaussianSource(D), steps=3).table
    told = twice.provenance["packed"]
    assert told["from"] == once.table_hash
    assert told["before"] == once.provenance["packed"]
    assert told["before"]["from"] == table.table_hash
    assert "before" not in once.provenance["packed"]

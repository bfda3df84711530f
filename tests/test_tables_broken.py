"""Tables and vectors that nobody would make on purpose: cut at random, empty, of other extractors and odd libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import v2f_engine as v2f
from v2f_engine.errors import RowError, VectorError
from v2f_engine.indexing import rows_of


@pytest.fixture(scope="module")
def engine() -> v2f.Engine:
    return v2f.Engine.load("mini", compute_batch=4)


@pytest.fixture(scope="module")
def people(engine: v2f.Engine) -> v2f.Identities:
    return engine.sample_identities(6, seed=3)


def test_cuts_of_cuts_choose_what_they_say(people: v2f.Identities, tmp_path: Path) -> None:
    """Sixty chains of slices, masks and row numbers, of tables whose candidates differ, are alike or are keys."""
    chance = np.random.default_rng(19)
    alike = np.zeros(6, np.int64)
    tables = (
        people,
        v2f.Identities(people.vectors, alike, {"noise": "candidate"}),
        v2f.Identities(people.vectors, alike),
    )
    for _ in range(60):
        whole = tables[chance.integers(3)]
        table, rows = whole, np.arange(6)
        for _ in range(3):
            start, stop = chance.integers(-7, 8, 2).tolist()
            mask = chance.random(len(rows)) < 0.7
            order = chance.permutation(len(rows))
            how = [
                slice(start, stop, int(chance.choice([-2, -1, 1, 2]))),
                mask,
                order,
                slice(None, None, -1),
            ][chance.integers(4)]
            table, rows = table[how], rows[how]
        assert np.array_equal(table.vectors, whole.vectors[rows])
        assert np.array_equal(table.keys, whole.keys[rows])
        table.save(tmp_path / "part.safetensors")
        assert v2f.load_identities(tmp_path / "part.safetensors") == table


def test_a_line_stays_one(people: v2f.Identities) -> None:
    many = v2f.Identities(people.vectors, people.candidate, {"source": "Person 1 of seed 0, " * 1000})
    assert len(repr(many)) < 400
    assert len(many._repr_html_()) < 3000


def test_a_range_counts_what_it_says() -> None:
    rows = np.arange(5)
    for numbers in (range(a, b, c) for a in range(5) for b in range(-1, 6) for c in (-2, -1, 1, 3)):
        assert rows[rows_of(numbers)].tolist() == [number for number in numbers if number < 5]


def test_an_odd_table_is_named_before_anything_is_made(engine: v2f.Engine, people: v2f.Identities) -> None:
    spoilt = people.vectors.copy()
    spoilt[1, 3] = np.nan
    for rescale in (False, True):
        with pytest.raises(VectorError, match="row 1"):
            engine.images(v2f.Identities(spoilt, people.candidate), 1, rescale=rescale)
    short = v2f.Identities(people.vectors[:, :128] * 2, people.candidate)
    with pytest.raises(VectorError, match="expected vectors of 512 entries, found 128"):
        engine.images(short, 1)
    assert sum(map(len, engine.images(people[:0], 2))) == 0
    assert sum(map(len, engine.images(people, 2, select=range(0, -1, -1)))) == 2
    with pytest.raises(RowError, match="masked"):
        people[np.ma.array([1, 2], mask=[False, True])]


@pytest.mark.filterwarnings("ignore")
def test_tensors_without_ordinary_entries(people: v2f.Identities) -> None:
    tensor = torch.from_numpy(people.vectors.copy())
    with torch._subclasses.FakeTensorMode():
        fake = torch.zeros(6, 512)
    refused = {
        "quantised": torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8),
        "meta": tensor.to("meta"),
        "nested": torch.nested.nested_tensor([tensor, tensor]),
        "fake": fake,
        "sparse": tensor.to_sparse_csr(),
        "complex": tensor.to(torch.complex64),
    }
    for vectors in refused.values():
        with pytest.raises(v2f.V2FError, match="expected|must be"):
            v2f.Identities.from_vectors(vectors)
    for vectors in (tensor.to(torch.float8_e4m3fn), np.matrix(people.vectors), torch._neg_view(tensor)):
        assert v2f.Identities.from_vectors(vectors).shape == (6, 512)

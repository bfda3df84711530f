"""Rows ranked by counting are rows ranked by stable sorting, ties included."""

from __future__ import annotations

import pytest
import torch

from v2f_engine.models.row_order import kept_rows, row_ranks


def noise(kind: str) -> torch.Tensor:
    drawn = torch.rand(33, 49, generator=torch.Generator().manual_seed(4))
    return {"uniform": drawn, "ties": (drawn * 6).floor() / 6, "all equal": torch.zeros(3, 49)}[kind]


@pytest.mark.parametrize("kind", ["uniform", "ties", "all equal"])
def test_ranks_are_those_of_a_stable_sort(kind: str) -> None:
    rows = noise(kind)
    assert torch.equal(row_ranks(rows), rows.argsort(dim=1, stable=True).argsort(dim=1))


@pytest.mark.parametrize("n_dropped", [0, 1, 5, 40, 48])
@pytest.mark.parametrize("kind", ["uniform", "ties", "all equal"])
def test_kept_rows_are_the_others_in_ascending_order(kind: str, n_dropped: int) -> None:
    rows = noise(kind)
    expected = rows.argsort(dim=1, stable=True)[:, n_dropped:].sort(dim=1).values
    assert torch.equal(kept_rows(row_ranks(rows), n_dropped), expected)

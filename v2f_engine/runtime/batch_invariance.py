"""Measures whether an image's bytes depend on how many others are made with it, or on its place among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.runtime import Inputs, Runner
from v2f_engine.runtime.micro_batch import rows_of, with_rows


@dataclass(frozen=True)
class BatchInvariance:
    """What `measure` found.

    Args:
        batch: rows of the runner.
        differing: rows a call -> images that differ in some bit, of `batch`.
        permuted: images that differ when the same rows are in another order.
    """

    batch: int
    differing: dict[int, int]
    permuted: int

    @property
    def invariant(self) -> bool:
        return not any(self.differing.values())

    def __str__(self) -> str:
        sizes = ", ".join(f"{rows}: {count}" for rows, count in self.differing.items())
        verdict = (
            "batch-invariant"
            if self.invariant
            else "not batch-invariant; bytes are fixed by the canonical batch"
        )
        return (
            f"{verdict} (batch {self.batch}; images of {self.batch} that differ, by rows a call: {sizes}; with rows "
            f"permuted: {self.permuted})"
        )


def measure(
    runner: Runner, inputs: Inputs, smaller: Callable[[Runner, int], Runner] = with_rows
) -> BatchInvariance:
    """Makes the same `runner.batch_size` images with other numbers of rows a call and in another order.

    Args:
        inputs: `batch_size` rows.
    """
    batch = runner.batch_size
    expected = runner(*inputs)
    order = np.random.default_rng(0).permutation(batch)
    permuted = runner(*rows_of(inputs, order))
    differing = {}
    for rows in sorted({1, 2, 3, 7, 31, max(1, batch // 2)} & set(range(1, batch))):
        small = smaller(runner, rows)
        made = np.concatenate(
            [small(*rows_of(inputs, slice(start, start + rows))) for start in range(0, batch, rows)]
        )
        differing[rows] = _differ(made, expected)
    return BatchInvariance(batch, differing, _differ(permuted, expected[order]))


def _differ(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    return int((left != right).reshape(len(left), -1).any(1).sum())

"""Measures whether an image's bytes depend on how many others are made with it, or on its place among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.runtime import Inputs, Runner, rows_of, with_rows


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


@dataclass(frozen=True)
class Begun:
    """The part of a measurement that needs the runner itself, done; the rest uses runners of its own.

    Args:
        runner: what is measured.
        inputs: its `batch_size` rows.
        expected: their images.
        permuted: images that differ when the same rows are in another order.
    """

    runner: Runner
    inputs: Inputs
    expected: NDArray[np.uint8]
    permuted: int


def begin(runner: Runner, inputs: Inputs) -> Begun:
    """Two calls of the runner.

    Args:
        inputs: `batch_size` rows.
    """
    expected = runner(*inputs)
    order = np.random.default_rng(0).permutation(runner.batch_size)
    permuted = runner(*rows_of(inputs, order))
    return Begun(runner, inputs, expected, _differ(permuted, expected[order]))


def finish(
    begun: Begun,
    smaller: Callable[[Runner, int], Runner] = with_rows,
    check: Callable[[], None] = lambda: None,
) -> BatchInvariance:
    """Makes the same images with other numbers of rows a call; may run in another thread than the runner.

    Args:
        smaller: gives the runner with other numbers of rows.
        check: called before each call; raises to end this early.
    """
    batch, differing = begun.runner.batch_size, {}
    for rows in sorted({1, 2, 3, 7, 31, max(1, batch // 2)} & set(range(1, batch))):
        small, made = smaller(begun.runner, rows), []
        for start in range(0, batch, rows):
            check()
            made.append(small(*rows_of(begun.inputs, slice(start, start + rows))))
        differing[rows] = _differ(np.concatenate(made), begun.expected)
    return BatchInvariance(batch, differing, begun.permuted)


def measure(
    runner: Runner, inputs: Inputs, smaller: Callable[[Runner, int], Runner] = with_rows
) -> BatchInvariance:
    """Makes the same `runner.batch_size` images with other numbers of rows a call and in another order.

    Args:
        inputs: `batch_size` rows.
    """
    return finish(begin(runner, inputs), smaller)


def _differ(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    return int((left != right).reshape(len(left), -1).any(1).sum())

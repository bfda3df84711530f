"""Rejection at thresholds that equal a real similarity: one answer for every block size, backend and thread count."""

from __future__ import annotations

import numpy as np
from v2f_kernels import _cosine
from v2f_kernels.reject_similar import OP

BLOCKS = (1, 2, 3, 7, 16, 31, 32, 64, 100, 160, 1000)


def test_forty_tie_thresholds_eleven_block_sizes() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((96, 48)).astype(np.float32)
    pairs = rng.choice(96, (40, 2))
    checked = 0
    for left, right in pairs:
        if left == right:
            right = (left + 1) % 96
        tie = float(_cosine.cosine(vectors[left : left + 1], vectors[right : right + 1])[0])
        expected = OP.backend("reference")(vectors, tie, block=1)
        for block in BLOCKS:
            for backend in ("reference", "native"):
                np.testing.assert_array_equal(OP.backend(backend)(vectors, tie, block=block), expected)
                checked += 1
    print(f"40 tie thresholds, {checked} answers, all equal")

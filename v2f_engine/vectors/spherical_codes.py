"""How far apart points on a sphere can be: the largest cosine that some two of n directions in d dimensions must reach.

Up to n = d + 1 a regular simplex is best: -1 / (n - 1). From d + 2 to 2 d some two are at a right angle or nearer
(Rankin 1955). Beyond, Levenshtein's linear programming bound: with P_k the Gegenbauer polynomials of the sphere,
P_k(1) = 1, a set whose cosines stay at s or below has at most

    L_(2k-1)(s) = C(k+d-3, k-1) [(2k+d-3)/(d-1) - (P_(k-1) - P_k) / ((1-s) P_k)]
    L_(2k)(s)   = C(k+d-2, k)   [(2k+d-1)/(d-1) - (1+s) (P_k - P_(k+1)) / ((1-s) (P_k + P_(k+1)))]

points, each on an interval of s of its own that ends at zeros of Jacobi polynomials (Levenshtein, Universal bounds for
codes and designs, Handbook of Coding Theory, 1998, chapter 6). It is reached by the icosahedron, the roots of E8 and
the shortest vectors of Leech's lattice. Welch's bound (1974) is of absolute values, and says nothing here.
"""

from __future__ import annotations

import math

import numpy as np

from v2f_engine.config import whole_number

HALVINGS = 60
"""Of an interval of cosines, at most 2 long: to 2e-18."""


def least_worst_cosine(n: int, dimension: int) -> float:
    """A lower bound on the largest cosine among `n` directions: no arrangement whatever has a smaller one.

    Args:
        n: directions, at least 2.
        dimension: of the space, at least 1.

    Raises:
        ConfigError: fewer.
    """
    n, d = whole_number("directions", n, 2), whole_number("dimension", dimension, 1)
    if d <= 2 or n <= d + 1:
        return -1 / (n - 1) if n <= d + 1 else 1.0 if d == 1 else math.cos(2 * math.pi / n)
    degree = 2
    while _designs(d, degree + 1) <= n:
        degree += 1
    k = (degree + 1) // 2
    sides = (_last_zero(d, k - 1, 1), _last_zero(d, k, 0)) if degree % 2 else (
        _last_zero(d, k, 0), _last_zero(d, k, 1)
    )  # fmt: skip
    low, high = sides
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(d, degree, middle) < n else (low, middle)
    return max(0.0, low)


def _designs(d: int, degree: int) -> int:
    """The bound at the beginning of an interval: as many points as a design of that strength has at least."""
    k = degree // 2
    return (
        2 * math.comb(d + k - 1, k) if degree % 2 else math.comb(d + k - 1, k) + math.comb(d + k - 2, k - 1)
    )


def _at_most(d: int, degree: int, s: float) -> float:
    """Levenshtein's L_degree(s)."""
    k = (degree + 1) // 2
    before, now = 1.0, s
    for j in range(1, k):
        before, now = now, ((2 * j + d - 2) * s * now - j * before) / (j + d - 2)
    if degree % 2:
        inside = (2 * k + d - 3) / (d - 1) - (before - now) / ((1 - s) * now)
        return math.comb(k + d - 3, k - 1) * inside
    after = ((2 * k + d - 2) * s * now - k * before) / (k + d - 2)
    inside = (2 * k + d - 1) / (d - 1) - (1 + s) * (now - after) / ((1 - s) * (now + after))
    return math.comb(k + d - 2, k) * inside


def _last_zero(d: int, k: int, right: int) -> float:
    """Largest zero of the Jacobi polynomial of degree k with exponents (d - 1)/2 and right + (d - 3)/2; -1 for k = 0.

    The largest eigenvalue of the recurrence's symmetric matrix (Golub and Welsch 1969).
    """
    if k == 0:
        return -1.0
    a, b = (d - 1) / 2, right + (d - 3) / 2
    j = np.arange(k)
    total = 2 * j + a + b
    diagonal = (b * b - a * a) / (total * (total + 2))
    j, total = j[1:], total[1:]
    beside = np.sqrt(4 * j * (j + a) * (j + b) * (j + a + b) / (total**2 * (total**2 - 1)))
    return float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))[-1])

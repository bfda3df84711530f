"""Are features of pictures worth measuring: finite, with a direction, and not all the same.

A recogniser that overflows gives NaN, a dead one zeros, a collapsed one the same row for every picture. Each of
them passes an equal error rate or a leakage table with good marks unless somebody looks at the rows first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError

ALIKE = 1e-5
"""1 - cosine below which two rows are one up to rounding: bfloat16 outputs of one picture differ by 2e-6, two JPEG
qualities of one face by 1e-3 (the embedded recogniser)."""
SHORTEST = 1e-12
"""Length below which a row has no direction; a float32 row of one denormal number is shorter."""
BLOCK = 4096
SHOWN = 10


@dataclass(frozen=True)
class FeatureHealth:
    """What is wrong with a table of features; nothing, if `sound`.

    Args:
        rows: in all.
        non_finite: int64, numbers of the rows that hold NaN or infinity.
        zero: int64, numbers of the rows without a direction.
        spread: the largest `1 - |cosine|` between a usable row and the first usable one; 0 where there are
            fewer than two.
    """

    rows: int
    non_finite: NDArray[np.int64]
    zero: NDArray[np.int64]
    spread: float

    @property
    def usable(self) -> int:
        """Rows that are finite and have a direction."""
        return self.rows - len(self.non_finite) - len(self.zero)

    @property
    def collapsed(self) -> bool:
        """Whether two usable rows or more all lie on one line, to within rounding."""
        return self.usable > 1 and self.spread < ALIKE

    @property
    def sound(self) -> bool:
        return not self.faults()

    def faults(self) -> list[str]:
        """One sentence a fault, with counts, row numbers and the likely cause; empty if there is none."""
        found = []
        if len(self.non_finite):
            found.append(
                f"{len(self.non_finite):,} of {self.rows:,} rows are not finite ({_rows(self.non_finite)}): the "
                "recogniser overflows, as in half precision, or gets pixels of another range (--mean, --std)"
            )
        if len(self.zero):
            found.append(
                f"{len(self.zero):,} of {self.rows:,} rows are zero ({_rows(self.zero)}) and have no direction: the "
                "recogniser is dead, or gets pixels of another range (--mean, --std)"
            )
        if self.collapsed:
            found.append(
                f"all {self.usable:,} usable rows are one direction (1 - |cosine| at most {self.spread:.1e}): the "
                "recogniser has collapsed, or all pictures are the same"
            )
        return found

    def check(self, what: str = "features") -> None:
        """Raises VectorError with every fault, naming `what`."""
        faults = self.faults()
        if faults:
            raise VectorError(f"{what}: {'; '.join(faults)}. Such rows measure nothing.")


def judge_features(features: NDArray[np.floating]) -> FeatureHealth:
    """The health of features of pictures that differ.

    Args:
        features: `[N, D]`, any floating dtype and lengths; may be a memory map (read in blocks).

    Raises:
        VectorError: not a table of floating-point numbers.
    """
    if features.ndim != 2 or features.dtype.kind != "f" or not features.shape[1]:
        raise VectorError(f"features: expected floats [N, D], found {features.dtype} {list(features.shape)}.")
    bad, zero, spread = [], [], 0.0
    first: NDArray[np.float64] | None = None
    for start in range(0, len(features), BLOCK):
        part = np.asarray(features[start : start + BLOCK], np.float64)
        finite = np.asarray(np.isfinite(part).all(axis=1))
        scale = np.abs(np.where(finite[:, None], part, 0.0)).max(
            axis=1
        )  # so that no square over- or underflows
        directed = finite & (scale >= SHORTEST)
        bad.append(np.flatnonzero(~finite) + start)
        zero.append(np.flatnonzero(finite & ~directed) + start)
        if not directed.any():
            continue
        unit = part[directed] / scale[directed, None]
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        first = unit[0] if first is None else first
        # |u - v|^2 / 2 is 1 - cosine without its cancellation
        apart = np.minimum(((unit - first) ** 2).sum(1), ((unit + first) ** 2).sum(1)) / 2
        spread = max(spread, float(apart.max()))
    empty = np.empty(0, np.int64)
    return FeatureHealth(len(features), np.concatenate([empty, *bad]), np.concatenate([empty, *zero]), spread)


def _rows(rows: NDArray[np.int64]) -> str:
    shown = ", ".join(map(str, rows[:SHOWN])) + (", ..." if len(rows) > SHOWN else "")
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}"

"""All pairs of directions above a cosine, by matrix products whose answer no block, thread or device can change.

Unit vectors are rounded to whole multiples of 1 / 4000. A product of two then is a sum of whole numbers that stays
below 2**24 however far it has come, so float32 holds every partial sum exactly, in any order: OpenBLAS, MKL and cuBLAS
give the same bits. The rounding moves a cosine by 1e-4 as a rule, and by less than 0.006 at 512 entries.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import SaturationError

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

UNIT = 4000
"""A length of 1. Rows of 1,024 entries are at most 4,016 long after rounding, and 4016**2 < 2**24."""
TILE = 4096
"""Rows and columns of a block of cosines: 64 MiB of float32, and as much for what is above."""


@dataclass(frozen=True)
class Neighbours:
    """Who is near whom.

    Args:
        starts: int64 `[N + 1]`; the neighbours of row i are `others[starts[i] : starts[i + 1]]`, ascending.
        others: int32 `[2 P]`: of each of P pairs either one at the other.
        nearest: int64 `[N]`: each row's largest cosine to another row, times `UNIT` squared.
        above: pairs whose cosine is above the one asked about.
    """

    starts: Int64
    others: NDArray[np.int32]
    nearest: Int64
    above: int

    @property
    def pairs(self) -> int:
        """P."""
        return len(self.others) // 2

    @property
    def cosines(self) -> NDArray[np.float64]:
        """float64 `[N]`: to the nearest other, as rounded."""
        return np.asarray(self.nearest / UNIT**2)


def codes_of(vectors: Float32) -> Float32:
    """The directions of `[N, D]` in whole numbers, D <= 1024, float32 `[N, D]`."""
    codes = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), TILE):
        rows = vectors[start : start + TILE].astype(np.float64)
        codes[start : start + TILE] = np.rint(rows * (UNIT / np.sqrt((rows * rows).sum(axis=1)))[:, None])
    return codes


def neighbours_of(
    codes: Float32, cosine: float, *, most: int, aim: int = 0, device: str = "cpu", block: int = TILE
) -> Neighbours:
    """All pairs with a cosine of `cosine` or more.

    Args:
        codes: what `codes_of` gave, at least two rows.
        most: pairs that may be kept, 24 bytes each.
        aim: cosine times `UNIT` squared, at least `cosine`: pairs above it are counted.
        device: torch's name of where products are computed.
        block: rows and columns at a time; never changes the answer.

    Raises:
        SaturationError: more pairs than `most`.
    """
    import torch

    n = len(codes)
    held = torch.from_numpy(codes).to(device)
    nearest = np.full(n, -(UNIT**2) * 2, np.int64)
    found: list[tuple[Any, Any]] = []
    pairs = above = 0
    cut = float(np.ceil(cosine * UNIT**2))
    with _whole_float32(), torch.inference_mode():
        for first in range(0, n, block):
            rows = held[first : first + block]
            for other in range(first, n, block):
                cosines = rows @ held[other : other + block].T
                if first == other:
                    cosines.fill_diagonal_(-float(UNIT**2))
                for start, axis in ((first, 1), (other, 0)):
                    best = cosines.amax(dim=axis).cpu().numpy().astype(np.int64)
                    here = nearest[start : start + len(best)]
                    np.maximum(here, best, out=here)
                near = cosines >= cut
                i, j = (near.triu_(1) if first == other else near).nonzero(as_tuple=True)
                above += int((cosines[i, j] > aim).sum())
                found.append(((i + first).int().cpu().numpy(), (j + other).int().cpu().numpy()))
                pairs += len(i)
                if pairs > most:
                    raise SaturationError(
                        f"More than {most:,} pairs of {n:,} identities have a cosine of {cosine:.4g} or more: that is "
                        "a crowd and no few that are too near. Give a larger target, or fewer identities."
                    )
    left, right = (np.concatenate([pair[side] for pair in found]) for side in (0, 1))
    who, others = np.concatenate([left, right]), np.concatenate([right, left])
    starts = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(who, minlength=n), out=starts[1:])
    return Neighbours(starts, others[np.lexsort((others, who))], nearest, above)


@contextlib.contextmanager
def _whole_float32() -> Iterator[None]:
    """No products of fewer bits: TF32 on a GPU and bf16 on a CPU are what `set_float32_matmul_precision` allows."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

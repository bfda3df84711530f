"""Images that came out constant are made once more, then recorded as failed.

A NaN or an infinity anywhere before the decoder's last GroupNorm spreads over the whole image through that norm's
statistics, and comes out as one grey level; so looking for constant images finds both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def constant(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """bool `[B]`: which images `[B, H, W, 3]` have the same colour everywhere."""
    # The first rows of pixels decide nearly always, at a hundredth of the reading; each pixel beside its neighbour is
    # one long comparison, where a comparison with the first pixel is 111 of three bytes (228 us a batch of 256).
    first = images[:, 0].reshape(len(images), -1)
    found: NDArray[np.bool_] = (first[:, 3:] == first[:, :-3]).all(1)
    for row in np.flatnonzero(found):
        found[row] = bool((images[row] == images[row, 0, 0]).all())
    return found


def again_if_empty(
    images: NDArray[np.uint8], remake: Callable[[], NDArray[np.uint8]]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(images, float32 `[B]` failed): constant images replaced by a second attempt, which may fail too.

    Args:
        remake: makes the same batch again.
    """
    failed = constant(images)
    if failed.any():
        images = images.copy()
        images[failed] = remake()[failed]
        failed &= constant(images)
    return images, failed.astype(np.float32)

"""Worst pairs of a leakage check, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.writing.contact_sheet import contact_sheet
from v2f_engine.evaluate.source import FeatureSource


def picture_pairs(
    made: FeatureSource, real: FeatureSource, pairs: Sequence[tuple[int, int, float]], path: Path
) -> bool:
    """Writes a sheet of the pairs, synthetic above, gallery below; False where neither has images."""
    if not pairs or (made.dataset is None and real.dataset is None):
        return False
    grey = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 225, np.uint8)
    columns = min(8, len(pairs))
    rows, captions = [], []
    for start in range(0, len(pairs), columns):
        some = pairs[start : start + columns]
        for source, side in ((made, 0), (real, 1)):
            found = [source.image(int(pair[side])) for pair in some]
            images = [grey if image is None else image for image in found]
            rows.append(images + [np.full_like(grey, 255)] * (columns - len(some)))
            captions.append(("made", "real")[side] + f" {some[0][2]:.2f}-{some[-1][2]:.2f}")
    contact_sheet(np.stack([np.stack(row) for row in rows]), path, captions=captions)
    return True

"""A rung with the host in the loop: its bytes brought over, and encoded and written into nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench import protocol
from bench.generation.rungs import Rung


def null_writer_seconds(runner: Any, images: int) -> float:
    """Wall seconds to make, encode and write `images` into nowhere."""
    import tempfile

    from v2f_engine.data.records.plan import Plan
    from v2f_engine.data.writing.encode import Encoder
    from v2f_engine.data.writing.write import write_dataset
    from v2f_engine.models.mask_schedule import MASK_SCHEDULES
    from v2f_engine.options import ImageOptions
    from v2f_engine.pipeline import Engine

    engine = Engine(None, runner, MASK_SCHEDULES["generate"])  # type: ignore[arg-type]
    vectors = np.random.default_rng(1).standard_normal((max(1, images // 50), 512), dtype=np.float32)
    per_id = min(images, 50)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_dataset(
            Path(folder) / "null",
            {"bench": "ladder"},
            Plan.of(len(vectors), per_id, None),
            lambda ids: engine.batches(vectors, ImageOptions(per_id), ids),
            format="null",
            encoder=Encoder(),
        )
        return time.perf_counter() - start


def host_seconds(runner: Any, images: int) -> float:
    """Wall seconds to draw inputs for `images`, make them and bring their bytes to the host."""
    from v2f_engine.models.mask_schedule import MASK_SCHEDULES
    from v2f_engine.options import ImageOptions
    from v2f_engine.pipeline import Engine

    engine = Engine(None, runner, MASK_SCHEDULES["generate"])  # type: ignore[arg-type]
    vectors = np.random.default_rng(1).standard_normal((max(1, images // 50), 512), dtype=np.float32)
    start = time.perf_counter()
    for _ in engine.batches(vectors, ImageOptions(min(images, 50))):
        pass
    return time.perf_counter() - start


def with_host(
    rung: Rung, runner: Any, images: int, words: str, digest: str
) -> tuple[list[protocol.Row], list[str]]:
    """Rows with the host in the loop; encoding only where the encoder is installed, else a note.

    Args:
        words: of the check that this runner has passed.
        digest: of the inputs of that check.
    """
    kinds: dict[str, Callable[[Any, int], float]] = {"ladder, bytes on the host": host_seconds}
    notes = []
    if find_spec("simplejpeg"):
        kinds["ladder, null writer"] = null_writer_seconds
    else:
        notes.append(f"null writer, rung {rung.name}: simplejpeg is not installed here")
    rows = []
    for section, seconds_of in kinds.items():
        timing = protocol.Timing.of([seconds_of(runner, images)], 1, "perf_counter")
        rows.append(
            protocol.Row(
                section, f"{images} images", rung.name, True, words, timing, items=images, inputs=digest
            )
        )
    return rows, notes

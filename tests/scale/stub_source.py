"""A source of stub images for workers in other processes, which can be told to misbehave.

Every shard that is begun leaves a line in `log`; `poison` kills the process that makes those identities;
`slow_s` is paid per batch; `wait_for` holds a shard until a file appears.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from stub_people import make_batches

from v2f_engine.batch import ImageBatch
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing.repair import MakeBatches


def open_stub(manifest: Manifest, root: Path, device: str, **how: Any) -> MakeBatches:
    size = int(how.get("batch", 4))
    plain = make_batches(manifest.plan.images_per_id, size)

    def make(identities: range) -> Iterator[ImageBatch]:
        log = how.get("log")
        if log is not None:
            with open(log, "a") as file:
                file.write(f"{identities.start} {os.getpid()}\n")
        if identities.start in how.get("poison", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        if identities.start in how.get("raising", ()):
            raise RuntimeError(f"no images of {identities.start} today")
        if identities.start in how.get("eating", ()):
            raise MemoryError
        for batch in plain(
            range(identities.start, identities.stop - (identities.start in how.get("skip", ())))
        ):
            time.sleep(float(how.get("slow_s", 0.0)))
            yield batch

    return make

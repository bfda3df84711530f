"""A real full disk: writes a dataset onto a tmpfs of 4 MiB, then makes room and resumes.

Runs as root of a mount namespace of its own: `unshare -rm python small_disk.py FOLDER`. Prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]

from stub_people import tree  # noqa: E402

from v2f_engine.batch import ImageBatch  # noqa: E402
from v2f_engine.data import Encoder, Plan, verify_dataset, write_dataset  # noqa: E402
from v2f_engine.errors import DiskFull  # noqa: E402


def noise(identities: range) -> Iterator[ImageBatch]:
    """Images that do not compress: about 17 kB each."""
    for identity in identities:
        images = np.random.default_rng(identity).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
        yield ImageBatch(images, np.full(4, identity), np.arange(4))


def write(root: Path, identities: int) -> None:
    write_dataset(
        root, {"seed": 1}, Plan.of(identities, 4, 40), noise, encoder=Encoder(quality=80), threads=1
    )


def main(base: Path) -> None:
    disk = base / "disk"
    disk.mkdir()
    write(base / "whole", 100)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    write(disk / "old", 10)
    old = tree(disk / "old")
    outcome: dict[str, object] = {"failed": False}
    try:
        write(disk / "set", 100)
    except DiskFull as error:
        outcome |= {"failed": True, "message": str(error), "exit_code": error.exit_code}
    outcome["old_intact"] = tree(disk / "old") == old and verify_dataset(disk / "old").ok
    outcome["shards_before"] = len(list((disk / "set").glob("*.tar")))
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    write(disk / "set", 100)
    outcome["equal"] = tree(disk / "set") == tree(base / "whole")
    print(json.dumps(outcome))
    subprocess.run(["umount", str(disk)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

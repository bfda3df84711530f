"""Interrupted, damaged, mended: the same bytes. A run stops in the middle, is taken up, loses a bit, and is repaired.

Every byte of a dataset is a function of its settings, so all of it can be made again: no backup is needed.
"""

import argparse
from hashlib import sha256
from pathlib import Path

import v2f_engine as v2f
from v2f_engine.data import verify_dataset


def bytes_of(folder: Path) -> str:
    """One hash of all shards."""
    return sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("shard-*.tar")))).hexdigest()[:12]


def main(out: Path) -> None:
    how = {"n_ids": 12, "images_per_id": 4, "format": "webdataset", "images_per_shard": 16, "seed": 0}
    undisturbed = v2f.generate(**how, out=out / "undisturbed")
    print("undisturbed", bytes_of(undisturbed.out))

    def stop_after_20(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    interrupted = out / "interrupted"
    try:
        v2f.generate(**how, out=interrupted, progress=stop_after_20)
    except KeyboardInterrupt:
        print("interrupted: a finished shard stays,", len(list(interrupted.glob("shard-*.tar"))), "of 3")
    resumed = v2f.generate(**how, out=interrupted)
    print(
        f"resumed     {bytes_of(interrupted)}, {resumed.written} of {resumed.images} images were still to be made"
    )

    shard = sorted(interrupted.glob("shard-*.tar"))[1]
    damaged = bytearray(shard.read_bytes())
    damaged[5000] ^= 1  # one bit, as a disk loses it
    shard.write_bytes(damaged)
    print("damaged    ", *sorted(verify_dataset(interrupted).broken_names))
    print("repaired    shards", v2f.repair(interrupted), bytes_of(interrupted))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("resume_and_repair"))
    main(parser.parse_args().out)

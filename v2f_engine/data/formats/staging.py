"""Staged shards: formats that keep everything in one file commit their shards as tar files first.

Staging makes single-file formats resumable and open to many writers: shards are committed in any order, and
the file is assembled from them once, in shard order. It costs the data's size again on disk until then.
"""

from __future__ import annotations

from collections.abc import Iterator

from v2f_engine.data import fs
from v2f_engine.data.formats import Place, Sample
from v2f_engine.data.formats.webdataset import TarWriter, read_tar
from v2f_engine.data.formats.webdataset import shard_name as shard_name
from v2f_engine.data.plan import Shard

WORK = ".v2f"
STAGING = "staging"


def staging_writer(place: Place, shard: Shard) -> TarWriter:
    """Writes `shard` into the staging folder."""
    folder = place.root / WORK / STAGING
    fs.make_folder(folder)
    return TarWriter(folder, place, shard)


def read_staged(place: Place, number: int) -> Iterator[Sample]:
    """The samples of a staged shard, in order."""
    return read_tar(place.root / WORK / STAGING / shard_name(number))

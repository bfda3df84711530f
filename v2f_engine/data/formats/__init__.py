"""Dataset formats: each a file or a folder, reader beside writer; one protocol, one table of names.

What nobody needs to write (`zip`, `list`) is read only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from v2f_engine.arguments import PATH, WORD, takes
from v2f_engine.config import one_of
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import Format, Readable
from v2f_engine.data.layout import MANIFEST, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.errors import DatasetError, MissingDependency
from v2f_engine.outside import admit

FORMATS: Mapping[str, str] = {
    "imagefolder": "v2f_engine.data.formats.folders.imagefolder:FORMAT",
    "webdataset": "v2f_engine.data.formats.tar.webdataset:FORMAT",
    "lmdb": "v2f_engine.data.formats.lmdb:FORMAT",
    "recordio": "v2f_engine.data.formats.recordio.format:FORMAT",
    "parquet": "v2f_engine.data.formats.parquet.format:FORMAT",
    "null": "v2f_engine.data.formats.null:FORMAT",
}
"""Name of a format that is written -> where it lives; imported when asked for."""

READERS: Mapping[str, str] = {
    "recordio": FORMATS["recordio"],
    "lmdb": FORMATS["lmdb"],
    "webdataset": FORMATS["webdataset"],
    "parquet": FORMATS["parquet"],
    "imagefolder": FORMATS["imagefolder"],
    "list": "v2f_engine.data.formats.lists.image_list:FORMAT",
    "zip": "v2f_engine.data.formats.folders.zips:FORMAT",
}
"""Name of a format that is read -> where it lives; the most telling files first: a folder may hold anything."""


def get_format(name: str) -> Format:
    """The format called `name`, to write.

    Raises:
        ConfigError: an unknown name; the message names the nearest one.
        MissingDependency: the format needs an optional package.
    """
    return cast(Format, _imported(FORMATS[one_of("format", name, FORMATS)]))


def _reader(name: str) -> Readable:
    return cast(Readable, _imported(READERS[name])) if name in READERS else get_format(name)


def _imported(place: str) -> object:
    module, attribute = place.split(":")
    return getattr(import_module(module), attribute)


def _is_ours(manifest: Path) -> bool:
    """Whether it is a manifest of this engine's, and no list of somebody's that bears the same name."""
    try:
        Manifest.load(manifest)
    except DatasetError:
        return False
    return True


def detect_format(path: Path) -> str:
    """The format of the dataset at `path`: as its manifest says, else as its files look.

    Raises:
        DatasetError: nothing there, an unfinished dataset, or no format that fits.
    """
    admit(path, DatasetError)
    if not path.exists():
        raise DatasetError(
            f"{path} does not exist; expected a dataset (a folder, or a .lmdb, .rec, .tar, .parquet file)."
        )
    if (path / MANIFEST).is_file():
        name = Manifest.load(path / MANIFEST).format
        if name not in FORMATS:
            raise DatasetError(f"{path / MANIFEST}: format {name!r} is not known; known: {sorted(FORMATS)}.")
        return name
    if (path / WORK).is_dir():
        raise DatasetError(
            f"{path} is not finished: its run was interrupted or still lasts. Repeat the command that makes "
            "it; it continues where it stopped."
        )
    if path.name == MANIFEST and _is_ours(path):
        raise DatasetError(f"{path} is the manifest of a set, which lies around it: give {path.parent}.")
    missing: MissingDependency | None = None
    for name in READERS:
        try:
            if _reader(name).recognises(path):
                return name
        except MissingDependency as error:
            missing = error
    if missing is not None and (path.suffix == ".parquet" or any(path.rglob("*.parquet"))):
        raise missing
    raise DatasetError(
        f"{path}: no dataset found. Expected train.rec + train.idx, an .lmdb file, .tar shards, .parquet "
        "files, a folder per identity with JPEG or PNG images, zips of such folders, or a text file of "
        "`path label`."
    )


@takes(path=PATH, format=WORD, split=WORD)
def open_dataset(path: str | Path, format: str | None = None, *, split: str | None = None) -> Dataset:
    """Opens a dataset for reading, whoever wrote it.

    Args:
        path: its folder, or the one file it consists of (`.lmdb`, `.rec`, `.tar`, `.parquet`, `.zip`, `.txt`).
        format: name in `FORMATS` or `READERS`; by default detected.
        split: which of several sets at `path` (`train`, `test`, ...); None where there is one.

    Returns:
        a `Dataset`: `len`, `labels`, `record(i) -> (bytes, label)`, iteration, `image(i)`, `images(indices)`.

    Raises:
        DatasetError: nothing that can be read; the message says what was expected.
        MissingDependency: the format needs an optional package.
    """
    path = Path(path)
    return _reader(format or detect_format(path)).open(path, split)

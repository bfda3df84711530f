"""Opening datasets for reading, whoever wrote them and in whatever format."""

from __future__ import annotations

from pathlib import Path

from v2f_engine.data.dataset import Dataset
from v2f_engine.data.foreign import READ_ONLY
from v2f_engine.data.formats import FORMATS, get_format
from v2f_engine.data.formats.staging import WORK
from v2f_engine.data.manifest import MANIFEST, Manifest
from v2f_engine.errors import DatasetError, MissingDependency
from v2f_engine.outside import admit

_ORDER = ("recordio", "lmdb", "webdataset", "parquet", "imagefolder")
"""By how telling their files are: a folder of images may hold anything."""


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
    missing: MissingDependency | None = None
    for name in _ORDER:
        try:
            if get_format(name).recognises(path):
                return name
        except MissingDependency as error:
            missing = error
    for name, (looks, _) in READ_ONLY.items():
        if looks(path):
            return name
    if missing is not None and (path.suffix == ".parquet" or any(path.rglob("*.parquet"))):
        raise missing
    raise DatasetError(
        f"{path}: no dataset found. Expected train.rec + train.idx, an .lmdb file, .tar shards, .parquet "
        "files, a folder per identity with JPEG or PNG images, zips of such folders, or a text file of "
        "`path label`."
    )


def open_dataset(path: str | Path, format: str | None = None) -> Dataset:
    """Opens a dataset for reading.

    Args:
        path: its folder, or the one file it consists of (`.lmdb`, `.rec`, `.tar`, `.parquet`, `.zip`, `.txt`).
        format: name in `formats.FORMATS` or `foreign.READ_ONLY`; by default detected.

    Returns:
        a `Dataset`: `len`, `labels`, `record(i) -> (bytes, label)`, iteration, `image(i)`, `images(indices)`.

    Raises:
        DatasetError: nothing that can be read; the message says what was expected.
        MissingDependency: the format needs an optional package.
    """
    path = Path(path)
    name = format or detect_format(path)
    return READ_ONLY[name][1](path) if name in READ_ONLY else get_format(name).open(path)

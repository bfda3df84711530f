"""Files in a finished set's folder that are none of its own: no manifest names them, and loaders may read them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.data.layout import CARD, CROISSANT, FORMER_CARDS, IMAGES, LMDB, MANIFEST, OLD_CARD, PARQUET
from v2f_engine.data.records.manifest import Manifest

BESIDE = frozenset({MANIFEST, CARD, CROISSANT, OLD_CARD, f"{LMDB}-lock"})
"""What a set's folder holds and its manifest does not name; the last is made by whoever reads an LMDB with locks."""
TAKEN_FOR_DATA: Mapping[str, str] = {
    "imagefolder": f"{IMAGES}/*",
    "webdataset": "*.tar",
    "parquet": f"{PARQUET}/*",
}
"""Format -> names that its loaders read without asking the manifest (`*` matches `/` too)."""


def find_strays(root: Path, manifest: Manifest) -> tuple[str, ...]:
    """Names of files and folders (ending in `/`) in `root` that are not the set's, sorted; hidden ones do not count."""
    pieces = [piece for record in manifest.shards for piece in record.pieces] + list(manifest.files)
    own = {piece.name for piece in pieces if not piece.folders} | BESIDE
    whole = {f"{piece.name}/{folder}" for piece in pieces for folder in piece.folders}
    parents = {
        parent.as_posix() for name in own | whole for parent in Path(name).parents if parent != Path(".")
    }
    return tuple(sorted(_strays(root, "", own | whole, parents)))


def _strays(folder: Path, prefix: str, own: set[str], parents: set[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if name in own or is_hidden(name) or fnmatchcase(name, FORMER_CARDS):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield name
            elif name in parents:
                yield from _strays(folder / entry.name, f"{name}/", own, parents)
            else:
                yield f"{name}/"


def taken_for_data(strays: tuple[str, ...], format: str) -> tuple[str, ...]:
    """Those of `strays` that loaders of `format` read as if they were the set's."""
    pattern = TAKEN_FOR_DATA.get(format)
    return tuple(name for name in strays if pattern is not None and fnmatchcase(name, pattern))

"""Checks every byte of a dataset against its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from v2f_engine.arguments import COUNT, PATH, WORD, takes
from v2f_engine.config import one_of, whole_number
from v2f_engine.data.layout import MANIFEST, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.pieces import Piece, check_piece
from v2f_engine.data.records.strays import find_strays, taken_for_data
from v2f_engine.errors import DatasetError

LEVELS = ("fast", "full")


@dataclass(frozen=True)
class VerifyReport:
    """What `verify_dataset` found.

    Args:
        shards, files: how many were checked; one in which several shards lie counts once.
        bytes: their size by the manifest.
        broken: numbers of the broken shards.
        broken_names: names of the broken files.
        faults: a line for each broken piece, those that belong to no shard included.
        strays: names of files in the folder that are not the set's.
        misleading: those of them that loaders of the format read as if they were.
    """

    shards: int
    files: int
    bytes: int
    broken: tuple[int, ...]
    broken_names: frozenset[str]
    faults: tuple[str, ...]
    strays: tuple[str, ...] = ()
    misleading: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def status(self) -> str:
        """`intact` or `broken`."""
        return "intact" if self.ok else "broken"


@takes(path=PATH, level=WORD, threads=COUNT)
def verify_dataset(path: str | Path, level: str = "full", threads: int = 2) -> VerifyReport:
    """Compares a finished dataset with its manifest.

    Args:
        path: the dataset's folder.
        level: `"fast"`: existence and sizes; `"full"`: every sha256 too, so that any flipped bit is found.
        threads: files hashed at a time.

    Raises:
        DatasetError: no manifest, an unfinished dataset, or a manifest that was changed after it was written.
        ConfigError: an unknown level.
    """
    one_of("level", level, LEVELS)
    whole_number("threads", threads, 1)
    root = Path(path)
    if not (root / MANIFEST).is_file():
        state = (
            "its run was interrupted or still lasts"
            if (root / WORK).is_dir()
            else f"it holds no {MANIFEST}, so there is nothing to compare it with"
        )
        raise DatasetError(f"{root} cannot be verified: {state}.")
    manifest = Manifest.load(root / MANIFEST)
    found = verify_manifest(root, manifest, level == "full", threads)
    strays = find_strays(root, manifest)
    return replace(found, strays=strays, misleading=taken_for_data(strays, manifest.format))


def verify_manifest(root: Path, manifest: Manifest, full: bool, threads: int = 2) -> VerifyReport:
    """Compares the files in `root` with `manifest`."""
    pieces = list(_all_pieces(manifest))
    with ThreadPoolExecutor(threads, "v2f-verify") as pool:
        results = list(pool.map(lambda item: check_piece(root, item[1], full=full), pieces))
    faults = [
        (number, piece.name, fault)
        for (number, piece), fault in zip(pieces, results, strict=True)
        if fault is not None
    ]
    faults += [(None, name, fault) for name, fault in _lengths(root, manifest)]
    return VerifyReport(
        shards=len(manifest.shards),
        files=_files(manifest),
        bytes=sum(piece.bytes for _, piece in pieces),
        broken=tuple(sorted({number for number, _, _ in faults if number is not None})),
        broken_names=frozenset(name for _, name, _ in faults),
        faults=tuple(fault if number is None else f"shard {number}: {fault}" for number, _, fault in faults),
    )


def _all_pieces(manifest: Manifest) -> Iterator[tuple[int | None, Piece]]:
    for shard in manifest.shards:
        for piece in shard.pieces:
            yield shard.number, piece
    for piece in manifest.files:
        yield None, piece


def _files(manifest: Manifest) -> int:
    """How many files the manifest vouches for."""
    pieces = [piece for _, piece in _all_pieces(manifest)]
    in_folders = sum(
        shard.count for shard in manifest.shards if any(piece.kind == "folders" for piece in shard.pieces)
    )
    return len({piece.name for piece in pieces if piece.kind != "folders"}) + in_folders


def _lengths(root: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Files made of regions must end where the last region ends."""
    ends: dict[str, int] = {}
    for _, piece in _all_pieces(manifest):
        if piece.kind == "region":
            ends[piece.name] = max(ends.get(piece.name, 0), piece.offset + piece.bytes)
    for name, end in ends.items():
        path = root / name
        found = path.stat().st_size if path.is_file() else None
        if found is not None and found > end:
            yield name, f"{name}: expected {end} bytes, found {found}"

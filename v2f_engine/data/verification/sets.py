"""A verification set in memory, and the readers of its published forms."""

from __future__ import annotations

import lzma
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine import npy
from v2f_engine.atomic import write_file
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.resize import Resized
from v2f_engine.data.verification.folder import FilePictures, PictureFolder
from v2f_engine.data.verification.pair_list import SUFFIXES, read_pair_list
from v2f_engine.data.verification.pickled import label_of, read_pickled
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.outside import admit

MAX_BYTES = 4 << 30
"""Of a decompressed set: the largest published one, IJB aside, has 100 MB."""


@dataclass(frozen=True)
class VerificationSet:
    """Pairs of faces; pair i is images 2i and 2i + 1.

    Args:
        name: for tables.
        same: bool `[N]`, one person or two.
        encoded: 2N encoded images, or None.
        pixels: uint8 `[2N, 3, S, S]` RGB (may be a memory map), or None.
        names: of the images, for messages, or None.
        folds: pairs in each fold, in order, where the set states folds of its own; None for ten equal ones.
        layout: how it is stored, for people.

    `resized` counts the images that were not 112x112 when they were read.

    Raises:
        DatasetError: no pair, or another number of images than two a pair.
    """

    name: str
    same: NDArray[np.bool_]
    encoded: Sequence[bytes] | None = None
    pixels: NDArray[np.uint8] | None = None
    names: Sequence[str] | None = None
    folds: tuple[int, ...] | None = None
    layout: str = ""

    def __post_init__(self) -> None:
        if len(self) != 2 * len(self.same) or not len(self.same):
            raise DatasetError(
                f"{self.name}: {len(self)} images for {len(self.same)} pairs; expected two images a pair."
            )

    def __len__(self) -> int:
        """Number of images, two a pair."""
        if self.encoded is not None:
            return len(self.encoded)
        return 0 if self.pixels is None else len(self.pixels)

    @cached_property
    def resized(self) -> Resized:
        return Resized(len(self))

    def where(self, number: int) -> str:
        """What to call image `number` in messages."""
        return f"{self.name}: image {number}" + (f" ({self.names[number]})" if self.names else "")

    def images(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Images `start` to `stop`: uint8 `[B, 112, 112, 3]`, RGB; square ones of another size are resized.

        Raises:
            DatasetError: an image is broken, or neither 112x112 nor square; its number is given.
        """
        stop = min(stop, len(self))
        batch = np.empty((stop - start, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for row, number in enumerate(range(start, stop)):
            where = self.where(number)
            if self.encoded is None:
                assert self.pixels is not None
                image: NDArray[np.uint8] = self.pixels[number].transpose(1, 2, 0)
            else:
                image = decode(self.encoded[number], where)
            batch[row] = self.resized.face(image, number, where)
        return batch

    def told(self) -> list[str]:
        """What a user has to know of how it was read: the layout of a list, and images that were resized."""
        said = []
        if self.names is not None:
            folds = "" if self.folds is None else f" in {len(self.folds)} folds of its own"
            one = int(self.same.sum())
            said.append(f"{self.layout}: {len(self.same):,} pairs{folds}, {one:,} of one person")
        if self.resized.counts:
            said.append(self.resized.line())
        return said

    def batches(self, size: int = 256) -> Iterator[NDArray[np.uint8]]:
        """All images in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.images(start, start + size)


def is_pair_list(path: str | Path) -> bool:
    """Whether `open_verification_set` takes this for a list of pairs, which needs a folder of pictures."""
    return Path(path).suffix.lower() in SUFFIXES


def check_pictures(paths: Sequence[Path], pictures: Path | None) -> None:
    """Whether lists of pairs have a folder of pictures, and a folder has lists: before anything is read.

    Raises:
        ConfigError: one without the other. DatasetError: the folder is none.
    """
    lists = [path for path in paths if is_pair_list(path)]
    if lists and pictures is None:
        raise ConfigError(f"{lists[0]} is a list of pairs; give the folder of its pictures with --images.")
    if pictures is not None and not lists:
        raise ConfigError(
            f"--images {pictures} is the folder of a list's pictures, and none of {', '.join(map(str, paths))} is a "
            f"list ({', '.join(SUFFIXES)})."
        )
    if pictures is not None and not pictures.is_dir():
        raise DatasetError(f"{pictures} is no folder; expected that of the pictures that the list names.")


def open_verification_set(path: str | Path, pictures: str | Path | None = None) -> VerificationSet:
    """Opens a verification set.

    Args:
        path: `.bin`, `.bin.xz` or `.xz`; a `.npy` (or its folder) with `issame.txt`; or a list of pairs
            (`pair_list`: `.txt`, `.csv`, ...).
        pictures: folder of the pictures that a list names.

    Raises:
        ConfigError: a list without a folder.
        DatasetError: nothing readable there, or a pickle that holds anything but data (with the byte offset).
    """
    path = Path(path)
    admit(path, DatasetError)
    if path.is_dir():
        arrays = sorted(path.glob("*.npy"))
        if len(arrays) != 1:
            raise DatasetError(f"{path}: expected one .npy with issame.txt beside it, found {len(arrays)}.")
        return _npy(arrays[0])
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist; expected a .bin, .bin.xz or .npy verification set, or a list of pairs."
        )
    if is_pair_list(path):
        return _listed(path, pictures)
    if path.suffix == ".npy":
        return _npy(path)
    name = path.name.removesuffix(".xz").removesuffix(".bin")
    return parse_bin(_decompressed(path) if path.suffix == ".xz" else path.read_bytes(), str(path), name)


def parse_bin(data: bytes, where: str, name: str) -> VerificationSet:
    """The set in the bytes of a `.bin`; nothing in them is executed.

    Raises:
        DatasetError: as in `open_verification_set`.
    """
    encoded, same = read_pickled(data, where)
    return VerificationSet(name, same, encoded=encoded, layout="pickle")


def write_bin(path: str | Path, encoded: Sequence[bytes], same: Sequence[bool] | NDArray[np.bool_]) -> None:
    """Writes a `.bin` as insightface's tools read it; replaced atomically.

    Args:
        encoded: 2N JPEG or PNG images.
        same: N booleans.
    """
    labels = [bool(item) for item in same]
    VerificationSet(Path(path).stem, np.asarray(labels), encoded=list(encoded))
    write_file(Path(path), pickle.dumps((list(encoded), labels), protocol=4), "verification")


def _listed(path: Path, pictures: str | Path | None) -> VerificationSet:
    if pictures is None:
        raise ConfigError(f"{path} is a list of pairs; give the folder of its pictures with --images.")
    listed = read_pair_list(path)
    folder = PictureFolder(Path(pictures))
    names = folder.all(listed.pictures, str(path))
    files = FilePictures([folder.root / name for name in names])
    return VerificationSet(
        path.stem, listed.same, encoded=files, names=names, folds=listed.folds, layout=listed.layout
    )


def _decompressed(path: Path) -> bytes:
    """Raises DatasetError where the file is damaged or unfolds to more than MAX_BYTES."""
    reader = lzma.LZMADecompressor(memlimit=1 << 30)
    parts: list[bytes] = []
    size = 0
    try:
        with open(path, "rb") as file:
            while not reader.eof:
                block = file.read(1 << 20) if reader.needs_input else b""
                if reader.needs_input and not block:
                    raise DatasetError(f"{path}: the compressed data ends early: the file is cut.")
                parts.append(reader.decompress(block, 1 << 24))
                size += len(parts[-1])
                if size > MAX_BYTES:
                    raise DatasetError(f"{path}: unfolds to more than {MAX_BYTES >> 30} GiB; refused.")
    except lzma.LZMAError as error:
        raise DatasetError(f"{path}: not an xz file that can be read ({error}).") from error
    return b"".join(parts)


def _npy(path: Path) -> VerificationSet:
    listing = path.with_name("issame.txt")
    if not listing.is_file():
        raise DatasetError(f"{listing} is missing; expected a 0 or 1 for each pair of {path.name}.")
    same: list[bool] = []
    for number, word in enumerate(listing.read_text(errors="replace").split(), start=1):
        label = label_of(word)
        if label is None:
            raise DatasetError(
                f"{listing}: word {number}: expected 0, 1, true or false, found {word[:20]!r}."
            )
        same.append(label)
    pixels = npy.map_file(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
        raise DatasetError(
            f"{path}: expected uint8 [2N, 3, {IMAGE_SIZE}, {IMAGE_SIZE}], found {pixels.dtype} {pixels.shape}."
        )
    return VerificationSet(path.stem, np.asarray(same, np.bool_), pixels=pixels, layout=".npy and issame.txt")

"""A verification set in memory, and the readers of its three published forms."""

from __future__ import annotations

import lzma
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import npy
from v2f_engine.atomic import write_file
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.pickle_calls import value_of
from v2f_engine.data.gate.pickle_reader import PickleReader
from v2f_engine.errors import DatasetError
from v2f_engine.outside import admit

MAX_BYTES = 4 << 30
"""Of a decompressed set: the largest published one, IJB aside, has 100 MB."""
WORDS = {"1": True, "0": False, "true": True, "false": False}


@dataclass(frozen=True)
class VerificationSet:
    """Pairs of faces; pair i is images 2i and 2i + 1.

    Args:
        name: for tables.
        same: bool `[N]`, one person or two.
        encoded: 2N encoded images, or None.
        pixels: uint8 `[2N, 3, 112, 112]` RGB (may be a memory map), or None.

    Raises:
        DatasetError: no pair, or another number of images than two a pair.
    """

    name: str
    same: NDArray[np.bool_]
    encoded: Sequence[bytes] | None = None
    pixels: NDArray[np.uint8] | None = None

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

    def images(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Images `start` to `stop`: uint8 `[B, 112, 112, 3]`, RGB.

        Raises:
            DatasetError: an image is broken or of another size; its number is given.
        """
        if self.encoded is None:
            assert self.pixels is not None
            return np.ascontiguousarray(self.pixels[start:stop].transpose(0, 2, 3, 1))
        stop = min(stop, len(self))
        batch = np.empty((stop - start, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for row, data in enumerate(self.encoded[start:stop]):
            image = decode(data, f"{self.name}: image {start + row}")
            if image.shape != batch.shape[1:]:
                raise DatasetError(
                    f"{self.name}: image {start + row}: {image.shape[0]}x{image.shape[1]} pixels; expected "
                    f"{IMAGE_SIZE}x{IMAGE_SIZE}."
                )
            batch[row] = image
        return batch

    def batches(self, size: int = 256) -> Iterator[NDArray[np.uint8]]:
        """All images in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.images(start, start + size)


def open_verification_set(path: str | Path) -> VerificationSet:
    """Opens a verification set: `.bin`, `.bin.xz` or `.xz`, or a `.npy` (or its folder) with `issame.txt`.

    Raises:
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
        raise DatasetError(f"{path} does not exist; expected a .bin, .bin.xz or .npy verification set.")
    if path.suffix == ".npy":
        return _npy(path)
    name = path.name.removesuffix(".xz").removesuffix(".bin")
    return parse_bin(_decompressed(path) if path.suffix == ".xz" else path.read_bytes(), str(path), name)


def parse_bin(data: bytes, where: str, name: str) -> VerificationSet:
    """The set in the bytes of a `.bin`; nothing in them is executed.

    Raises:
        DatasetError: as in `open_verification_set`.
    """
    value = PickleReader(data, where).read()
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise DatasetError(f"{where}: expected a pickle of (encoded images, labels), found {_kind(value)}.")
    images, same = (value_of(part) for part in value)
    if not isinstance(images, list | tuple) or not isinstance(same, list | tuple):
        raise DatasetError(
            f"{where}: expected lists of images and labels, found {_kind(images)} and {_kind(same)}."
        )
    if len(images) != 2 * len(same) or not same:
        raise DatasetError(
            f"{where}: {len(images)} images for {len(same)} labels; expected two images a label."
        )
    encoded = [value_of(item) for item in images]
    for number, item in enumerate(encoded):
        if not isinstance(item, bytes):
            raise DatasetError(f"{where}: image {number}: expected its bytes, found {_kind(item)}.")
    labels = np.empty(len(same), np.bool_)
    for number, item in enumerate(same):
        if not isinstance(item, bool) and item not in (0, 1):
            raise DatasetError(f"{where}: label {number}: expected true or false, found {_kind(item)}.")
        labels[number] = item
    return VerificationSet(name, labels, encoded=encoded)


def write_bin(path: str | Path, encoded: Sequence[bytes], same: Sequence[bool] | NDArray[np.bool_]) -> None:
    """Writes a `.bin` as insightface's tools read it; replaced atomically.

    Args:
        encoded: 2N JPEG or PNG images.
        same: N booleans.
    """
    labels = [bool(item) for item in same]
    VerificationSet(Path(path).stem, np.asarray(labels), encoded=list(encoded))
    write_file(Path(path), pickle.dumps((list(encoded), labels), protocol=4), "verification")


def _kind(value: Any) -> str:
    text = type(value).__name__
    return f"{text} of {len(value)}" if isinstance(value, list | tuple | bytes) else text


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
        if word.lower() not in WORDS:
            raise DatasetError(
                f"{listing}: word {number}: expected 0, 1, true or false, found {word[:20]!r}."
            )
        same.append(WORDS[word.lower()])
    pixels = npy.map_file(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (3, IMAGE_SIZE, IMAGE_SIZE):
        raise DatasetError(
            f"{path}: expected uint8 [2N, 3, {IMAGE_SIZE}, {IMAGE_SIZE}], found {pixels.dtype} {pixels.shape}."
        )
    return VerificationSet(path.stem, np.asarray(same, np.bool_), pixels=pixels)

"""The pickle of a verification set, (2N encoded pictures, N labels), in the dialects in which people write it.

Pictures: byte strings, bytearrays, uint8 arrays as `cv2.imencode` returns them (flat or a column), Python 2's byte
strings also where they were read as latin-1 text; in a list, a tuple or an array of objects, one by one or in twos.
Labels: booleans, the numbers 0 and 1 of Python or NumPy of any type, and those words as text; a list, tuple or array.
Some write the labels first. Nothing in the file is executed; whatever cannot be read exactly is refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.gate.decode import JPEG_MAGIC, PNG_MAGIC
from v2f_engine.data.gate.pickle_calls import plain
from v2f_engine.data.gate.pickle_reader import PickleReader
from v2f_engine.errors import DatasetError

_WORDS = {"true": True, "false": False}


def label_of(word: Any) -> bool | None:
    """The label that a text stands for: true, false, or a spelling of 1 or 0 (NumPy writes 1.0); None for others."""
    text = word.decode("latin1") if isinstance(word, bytes) else word
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        value = float(text)
    except ValueError:
        return _WORDS.get(text.lower())
    return bool(value) if value in (0, 1) else None


def read_pickled(data: bytes, where: str) -> tuple[list[bytes], NDArray[np.bool_]]:
    """(2N encoded pictures, bool `[N]`) of a pickle.

    Raises:
        DatasetError: it holds anything else; what was found is named, by number where it is one picture or label.
    """
    value = plain(PickleReader(data, where).read())
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DatasetError(f"{where}: expected a pickle of (encoded images, labels), found {_kind(value)}.")
    images, labels = (plain(part) for part in value)
    if not all(isinstance(part, list | tuple | np.ndarray) for part in (images, labels)):
        raise DatasetError(
            f"{where}: expected lists of images and labels, found {_kind(images)} and {_kind(labels)}."
        )
    if _begins_with_a_label(images) and not _begins_with_a_label(labels):
        images, labels = labels, images
    encoded, same = _pictures(images, where), _labels(labels, where)
    if len(encoded) != 2 * len(same) or not len(same):
        each = " (as many: is that a label a picture?)" if len(encoded) == len(same) > 0 else ""
        raise DatasetError(
            f"{where}: {len(encoded)} images for {len(same)} labels; expected two images a label{each}."
        )
    return encoded, same


def _begins_with_a_label(part: Any) -> bool:
    if isinstance(part, np.ndarray) and part.dtype.kind in "biuf":
        return part.size == max(part.shape, default=0)
    first = plain(part[0]) if len(part) else None
    return isinstance(first, bool | int | float) or label_of(first) is not None


def _pictures(part: Any, where: str) -> list[bytes]:
    if isinstance(part, np.ndarray) and part.dtype.kind == "S" and part.ndim <= 2:
        return [bytes(item) for item in part.reshape(-1).tolist()]
    if isinstance(part, np.ndarray):
        raise DatasetError(
            f"{where}: expected encoded images, found an array {part.dtype} {list(part.shape)}: decoded pixels say "
            "neither their codec nor their channel order. Save them as uint8 [2N, 3, 112, 112] RGB in a .npy beside "
            "issame.txt."
        )
    items = [plain(item) for item in part]
    if items and all(isinstance(item, list | tuple) and len(item) == 2 for item in items):
        items = [plain(item) for two in items for item in two]
    return [_picture(item, f"{where}: image {number}") for number, item in enumerate(items)]


def _picture(item: Any, where: str) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, np.ndarray) and item.dtype == np.uint8:
        if item.size == max(item.shape, default=0):
            return item.tobytes()
        raise DatasetError(
            f"{where}: expected its encoded bytes, found decoded pixels {list(item.shape)}, whose channel order nobody "
            "knows. Encode it (cv2.imencode), or save all as uint8 [2N, 3, 112, 112] RGB in a .npy beside issame.txt."
        )
    if isinstance(item, str):  # Python 2's bytes, read with encoding="latin1" and written again
        try:
            data = item.encode("latin1")
        except UnicodeEncodeError:
            data = b""
        if data.startswith((JPEG_MAGIC, PNG_MAGIC)):
            return data
    raise DatasetError(f"{where}: expected its bytes, found {_kind(item)}.")


def _labels(part: Any, where: str) -> NDArray[np.bool_]:
    if isinstance(part, np.ndarray):
        if part.size != max(part.shape, default=0):
            raise DatasetError(
                f"{where}: expected a label a pair, found an array {list(part.shape)} of labels."
            )
        part = part.reshape(-1).tolist()
    found = np.empty(len(part), np.bool_)
    for number, item in enumerate(part):
        found[number] = _label(plain(item), f"{where}: label {number}")
    return found


def _label(item: Any, where: str) -> bool:
    if isinstance(item, np.ndarray) and item.size == 1 and item.dtype.kind in "biuf":
        item = item.item()
    if isinstance(item, bool | int | float) and item in (0, 1):
        return bool(item)
    read = label_of(item)
    if read is not None:
        return read
    value = f" {item!r}" if isinstance(item, int | float) else ""
    raise DatasetError(f"{where}: expected true or false, or 1 or 0, found {_kind(item)}{value}.")


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {list(value.shape)}"
    text = type(value).__name__
    return f"{text} of {len(value)}" if isinstance(value, list | tuple | bytes) else text

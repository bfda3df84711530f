"""Encoded bytes to pixels, trusting nothing: two codecs, a size limit before memory is taken."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import DatasetError

MAX_SIDE = 4096
JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def codec_of(data: bytes, where: str) -> str:
    """`"jpeg"` or `"png"`, by the first bytes.

    Raises:
        DatasetError: neither.
    """
    if data.startswith(JPEG_MAGIC):
        return "jpeg"
    if data.startswith(PNG_MAGIC):
        return "png"
    raise DatasetError(
        f"{where}: expected a JPEG or PNG image, found {len(data)} bytes starting {data[:8]!r}."
    )


def decode(data: bytes, where: str) -> NDArray[np.uint8]:
    """The image in `data` as uint8 `[H, W, 3]`, RGB.

    Args:
        where: what to call the image in messages, e.g. `"train.rec: record 17"`.

    Raises:
        DatasetError: neither JPEG nor PNG, damaged, or a side above 4096 pixels.
    """
    return _DECODERS[codec_of(data, where)](data, where)


def _check_size(height: int, width: int, where: str) -> None:
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise DatasetError(f"{where}: {height}x{width} pixels; expected sides of 1 to {MAX_SIDE}.")


def _jpeg(data: bytes, where: str) -> NDArray[np.uint8]:
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(height, width, where)
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise DatasetError(f"{where}: damaged JPEG ({error}).") from error
    return image


def _png(data: bytes, where: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            _check_size(image.height, image.width, where)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where}: damaged PNG ({error}).") from error


_DECODERS = {"jpeg": _jpeg, "png": _png}

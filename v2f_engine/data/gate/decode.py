"""Encoded bytes to pixels, trusting nothing: four codecs, a size limit before memory is taken.

What the published loaders read (OpenCV's `imread` and `imdecode`, which mxnet calls too) is read to the same pixels:
16 bits keep their upper 8, grey becomes three equal channels, transparency is dropped, EXIF orientation is applied,
colour profiles and gamma are not, of an animation the first picture counts. JPEG goes through simplejpeg, the rest
through Pillow, which alone would clip 16-bit grey at 255 (its issues 2574 and 3011) and leave EXIF unapplied.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.gate import orientation
from v2f_engine.errors import DatasetError

MAX_SIDE = 4096
JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def codec_of(data: bytes, where: str) -> str:
    """`"jpeg"`, `"png"`, `"bmp"` or `"webp"`, by the first bytes.

    Raises:
        DatasetError: none of them.
    """
    if data.startswith(JPEG_MAGIC):
        return "jpeg"
    if data.startswith(PNG_MAGIC):
        return "png"
    if data.startswith(b"BM"):
        return "bmp"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    raise DatasetError(
        f"{where}: expected a JPEG or PNG image (BMP and WebP are read too), found {len(data)} bytes starting "
        f"{data[:8]!r}."
    )


def decode(data: bytes, where: str, max_side: int = MAX_SIDE) -> NDArray[np.uint8]:
    """The image in `data` as uint8 `[H, W, 3]`, RGB.

    Args:
        where: what to call the image in messages, e.g. `"train.rec: record 17"`.
        max_side: pixels that a side may have.

    Raises:
        DatasetError: of no codec that is read, damaged, or a side above `max_side`.
    """
    return _DECODERS[codec_of(data, where)](data, where, max_side)


def size_of(data: bytes, where: str) -> tuple[int, int]:
    """(height, width) of the image in `data`, by its header alone.

    Raises:
        DatasetError: as `decode`, where the header tells.
    """
    codec = codec_of(data, where)
    if codec == "jpeg":
        height, width = _jpeg_size(data, where)
        turned = orientation.turns_sides(orientation.of_jpeg(data))
        return (width, height) if turned else (height, width)
    height, width, turned = _pillow(data, where, codec, _pillow_size)
    return (width, height) if turned else (height, width)


def is_turned(data: bytes, where: str) -> bool:
    """Whether EXIF says that the picture stands otherwise than its pixels; readers that ignore EXIF see it turned.

    Raises:
        DatasetError: as `size_of`.
    """
    codec = codec_of(data, where)
    if codec == "jpeg":
        return orientation.of_jpeg(data) in orientation.TURNED
    if not any(mark in data for mark in (b"eXIf", b"EXIF", b"Raw profile type")):
        return False
    return _pillow(data, where, codec, lambda image: _stated_orientation(image.info)) in orientation.TURNED


def _check_size(height: int, width: int, where: str, max_side: int) -> None:
    if not (1 <= height <= max_side and 1 <= width <= max_side):
        raise DatasetError(f"{where}: {height}x{width} pixels; expected sides of 1 to {max_side}.")


def _jpeg_size(data: bytes, where: str, max_side: int = MAX_SIDE) -> tuple[int, int]:
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DatasetError(f"{where}: damaged JPEG ({error}).") from error
    _check_size(height, width, where, max_side)
    return height, width


def _jpeg(data: bytes, where: str, max_side: int) -> NDArray[np.uint8]:
    import simplejpeg

    _jpeg_size(data, where, max_side)
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise DatasetError(f"{where}: damaged JPEG ({error}).") from error
    return orientation.upright(image, orientation.of_jpeg(data))


def _pillow(data: bytes, where: str, codec: str, use: Callable[[Any], Any], max_side: int = MAX_SIDE) -> Any:
    """`use` of the image that Pillow opens as `codec`."""
    from PIL import Image

    if codec == "webp":
        _check_size(*_webp_size(data, where), where, max_side)
    try:
        with Image.open(io.BytesIO(data), formats=(codec.upper(),)) as image:
            _check_size(image.height, image.width, where, max_side)
            return use(image)
    except DatasetError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        KeyError,
        OverflowError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DatasetError(f"{where}: damaged {_NAMES[codec]} ({error}).") from error


def _pixels(image: Any) -> NDArray[np.uint8]:
    """RGB of an opened image, as OpenCV's IMREAD_COLOR gives it."""
    if image.mode.startswith(
        "I"
    ):  # 16-bit grey: the upper byte, as libpng strips it; convert() would clip at 255
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        pixels = np.repeat(grey[..., None], 3, axis=2)
    else:
        image.info.pop("transparency", None)  # dropped, and no warning that it is
        pixels = np.asarray(image.convert("RGB"))
    return orientation.upright(pixels, _stated_orientation(image.info))


def _pillow_size(image: Any) -> tuple[int, int, bool]:
    return image.height, image.width, orientation.turns_sides(_stated_orientation(image.info))


def _stated_orientation(info: Mapping[str, Any]) -> int:
    """Of PNG's eXIf chunk or WebP's EXIF chunk, else of the text in which ImageMagick keeps one."""
    exif = info.get("exif")
    if isinstance(exif, bytes):
        return orientation.of_tiff(exif)
    raw = info.get("Raw profile type exif")
    if isinstance(raw, str):
        try:
            return orientation.of_tiff(bytes.fromhex("".join(raw.split("\n")[3:])))
        except ValueError:
            return 1
    return 1


def _webp_size(data: bytes, where: str) -> tuple[int, int]:
    """(height, width) of a WebP's canvas, since Pillow takes its memory on opening (RFC 9649, 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if len(body) == 10:
        if kind == b"VP8X":
            width, height = (1 + int.from_bytes(body[start : start + 3], "little") for start in (4, 7))
            return height, width
        if kind == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
        if kind == b"VP8 ":
            width, height = struct.unpack("<HH", body[6:10])
            return height & 0x3FFF, width & 0x3FFF
    raise DatasetError(f"{where}: damaged WebP (a first chunk called {kind!r}).")


def _by_pillow(codec: str) -> Callable[[bytes, str, int], NDArray[np.uint8]]:
    def read(data: bytes, where: str, max_side: int) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = _pillow(data, where, codec, _pixels, max_side)
        return found

    return read


_NAMES = {"png": "PNG", "bmp": "BMP", "webp": "WebP"}
_DECODERS: Mapping[str, Callable[[bytes, str, int], NDArray[np.uint8]]] = {
    "jpeg": _jpeg,
    **{codec: _by_pillow(codec) for codec in _NAMES},
}

"""Pictures as cameras, editors and scripts encode them: one maker a kind, each with the pixels that it holds.

The pixels expected are those that OpenCV's IMREAD_COLOR gives: what the published loaders see.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Made = tuple[bytes, Pixels, int]
"""Encoded bytes, the RGB pixels they stand for, and by how many grey levels a decoder may differ from them."""


def png(pixels: NDArray[np.generic], colour: int, depth: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by the specification (ISO/IEC 15948): filter 0, one IDAT; `chunks` stand before it.

    Args:
        pixels: `[H, W, C]` of samples; of 16 bits where depth is 16, else each below 2 ** depth.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha.
    """
    height, width = pixels.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in pixels]
    elif depth == 8:
        rows = [row.astype(np.uint8).tobytes() for row in pixels]
    else:
        bits = np.unpackbits(pixels.astype(np.uint8)[..., None], axis=-1)[..., -depth:]
        rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def _grey(pixels: Pixels) -> Pixels:
    return pixels[..., 1]


def _three(grey: NDArray[np.generic]) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _wide(pixels: Pixels) -> NDArray[np.uint16]:
    """16-bit samples whose upper byte is the pixel; the lower one is noise."""
    low = np.random.default_rng(int(pixels.sum()) % 1000).integers(0, 256, pixels.shape)
    return (pixels.astype(np.uint16) << 8 | low.astype(np.uint16)).astype(np.uint16)


def _alpha(pixels: Pixels) -> NDArray[np.uint8]:
    return (pixels[..., :1] // 2 + pixels[..., 1:2] // 2).astype(np.uint8)


def grey_of_depth(depth: int) -> Callable[[Pixels], Made]:
    def make(pixels: Pixels) -> Made:
        samples = _grey(pixels) >> (8 - depth)
        return png(samples[..., None], 0, depth), _three(samples * (255 // (2**depth - 1))), 0

    return make


def grey16(pixels: Pixels) -> Made:
    return png(_wide(_grey(pixels))[..., None], 0, 16), _three(_grey(pixels)), 0


def grey_alpha8(pixels: Pixels) -> Made:
    both = np.concatenate([_grey(pixels)[..., None], _alpha(pixels)], axis=2)
    return png(both, 4, 8), _three(_grey(pixels)), 0


def grey_alpha16(pixels: Pixels) -> Made:
    both = np.concatenate([_grey(pixels)[..., None], _alpha(pixels)], axis=2)
    return png(_wide(both), 4, 16), _three(_grey(pixels)), 0


def rgb8(pixels: Pixels) -> Made:
    return png(pixels, 2, 8), pixels, 0


def rgb16(pixels: Pixels) -> Made:
    return png(_wide(pixels), 2, 16), pixels, 0


def rgba8(pixels: Pixels) -> Made:
    return png(np.concatenate([pixels, _alpha(pixels)], axis=2), 6, 8), pixels, 0


def rgba16(pixels: Pixels) -> Made:
    return png(_wide(np.concatenate([pixels, _alpha(pixels)], axis=2)), 6, 16), pixels, 0


def rgb_profiled(pixels: Pixels) -> Made:
    """With a gamma and a colour profile, which loaders of faces do not apply."""
    profile = b"odd\0\0" + zlib.compress(b"\0" * 200)
    return png(pixels, 2, 8, (b"gAMA", struct.pack(">I", 100_000)), (b"iCCP", profile)), pixels, 0


def palette(depth: int, transparent: bool) -> Callable[[Pixels], Made]:
    def make(pixels: Pixels) -> Made:
        colours = np.random.default_rng(depth).integers(0, 256, (2**depth, 3)).astype(np.uint8)
        samples = _grey(pixels) >> (8 - depth)
        chunks = [(b"PLTE", colours.tobytes())]
        if transparent:
            chunks.append((b"tRNS", bytes([0, 128])))
        return png(samples[..., None], 3, depth, *chunks), colours[samples], 0

    return make


def _pillow(pixels: Pixels, mode: str, kind: str, levels: int, **options: object) -> Made:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(buffer, kind, **options)
    return buffer.getvalue(), np.asarray(picture.convert("RGB")), levels


LOSS = 12
"""Grey levels that quality 98 without subsampling may be away at single pixels of a smooth picture."""


def jpeg(pixels: Pixels) -> Made:
    return _pillow(pixels, "RGB", "JPEG", LOSS, quality=98, subsampling=0)


def jpeg_progressive(pixels: Pixels) -> Made:
    return _pillow(pixels, "RGB", "JPEG", LOSS, quality=98, subsampling=0, progressive=True)


def jpeg_grey(pixels: Pixels) -> Made:
    return _pillow(pixels, "L", "JPEG", LOSS, quality=98)


def jpeg_cmyk(pixels: Pixels) -> Made:
    """With Adobe's marker, inverted, as Photoshop and Pillow write it."""
    return _pillow(pixels, "CMYK", "JPEG", LOSS, quality=98, subsampling=0)


def jpeg_cmyk_plain(pixels: Pixels) -> Made:
    """Without Adobe's marker: whether it is inverted is a guess, and OpenCV's, libjpeg's and Pillow's are the same."""
    data, _, _ = jpeg_cmyk(pixels)
    at = data.index(b"\xff\xee")
    return _as_pillow_reads(data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :])


def jpeg_ycck(pixels: Pixels) -> Made:
    """The same samples, declared YCCK by the last byte of Adobe's marker: other colours, the same for all readers."""
    data, _, _ = jpeg_cmyk(pixels)
    at = data.index(b"\xff\xee")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return _as_pillow_reads(data[: end - 1] + b"\x02" + data[end:])


def _as_pillow_reads(data: bytes) -> Made:
    with Image.open(io.BytesIO(data)) as picture:
        return data, np.asarray(picture.convert("RGB")), 1


def jpeg_rgb(pixels: Pixels) -> Made:
    """Samples stored as RGB, which Adobe's marker says."""
    return _pillow(pixels, "RGB", "JPEG", LOSS, quality=98, subsampling=0, keep_rgb=True)


def jpeg_with_trailing_bytes(pixels: Pixels) -> Made:
    data, expected, levels = jpeg(pixels)
    return data + b"\0" * 512, expected, levels


def turned(orientation: int, kind: str) -> Callable[[Pixels], Made]:
    """Stored lying, with the EXIF orientation that makes it upright."""
    stored: dict[int, Callable[[Pixels], Pixels]] = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip

    def make(pixels: Pixels) -> Made:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(stored[orientation](pixels))).save(
            buffer, kind, exif=exif, **options
        )
        return buffer.getvalue(), pixels, LOSS if kind == "JPEG" else 0

    return make


def animated_png(pixels: Pixels) -> Made:
    """Two pictures, of which the first counts."""
    buffer = io.BytesIO()
    second = Image.fromarray(255 - pixels)
    Image.fromarray(pixels).save(buffer, "PNG", save_all=True, append_images=[second])
    return buffer.getvalue(), pixels, 0


def bmp(pixels: Pixels) -> Made:
    return _pillow(pixels, "RGB", "BMP", 0)


def bmp_grey(pixels: Pixels) -> Made:
    return _pillow(pixels, "L", "BMP", 0)


def webp(pixels: Pixels) -> Made:
    return _pillow(pixels, "RGB", "WEBP", 0, lossless=True)


KINDS: tuple[tuple[str, Callable[[Pixels], Made]], ...] = (
    *((f"grey PNG of {depth} bit", grey_of_depth(depth)) for depth in (1, 2, 4, 8)),
    ("grey PNG of 16 bit", grey16),
    ("grey and alpha PNG", grey_alpha8),
    ("grey and alpha PNG of 16 bit", grey_alpha16),
    ("RGB PNG", rgb8),
    ("RGB PNG of 16 bit", rgb16),
    ("RGBA PNG", rgba8),
    ("RGBA PNG of 16 bit", rgba16),
    ("RGB PNG with profile and gamma", rgb_profiled),
    *((f"palette PNG of {depth} bit", palette(depth, False)) for depth in (1, 2, 4, 8)),
    ("palette PNG with transparency", palette(8, True)),
    ("animated PNG", animated_png),
    ("JPEG", jpeg),
    ("progressive JPEG", jpeg_progressive),
    ("grey JPEG", jpeg_grey),
    ("CMYK JPEG", jpeg_cmyk),
    ("CMYK JPEG without Adobe's marker", jpeg_cmyk_plain),
    ("YCCK JPEG", jpeg_ycck),
    ("RGB JPEG", jpeg_rgb),
    ("JPEG with bytes after its end", jpeg_with_trailing_bytes),
    *(
        (f"{kind} of EXIF orientation {n}", turned(n, kind))
        for kind in ("JPEG", "PNG", "WEBP")
        for n in range(1, 9)
    ),
    ("BMP", bmp),
    ("grey BMP", bmp_grey),
    ("WebP", webp),
)
"""(name, maker) of every kind of picture that is read."""

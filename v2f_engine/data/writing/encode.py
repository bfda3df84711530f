"""Pixels to JPEG or PNG in worker threads, order kept; the encoders leave the GIL."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.config import between, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.ranges import stage

CHUNK = 32
"""Images per task: 2 ms of work, so that handing tasks over costs nothing."""

SUBSAMPLING = ("444", "422", "420")
EXTENSIONS: Mapping[str, str] = {"jpeg": "jpg", "png": "png"}
LIBRARIES: Mapping[str, tuple[str, ...]] = {"jpeg": ("simplejpeg", "pillow"), "png": ("pillow",)}
"""Codec -> what encodes it, the usual one first. Below quality 96 simplejpeg takes libjpeg-turbo's fast DCT: half the
time (61 against 126 us a face), and pixels 0.5 levels from Pillow's in the mean at quality 75; from 96 on the same.
"""


@dataclass(frozen=True)
class Encoder:
    """How images become bytes.

    Args:
        codec: `"jpeg"`, or `"png"` (lossless; 20 times slower, 3 times larger).
        quality: JPEG quality, 1..100.
        subsampling: JPEG chroma subsampling: `"420"` as in the field's own data sets, `"422"`, `"444"`.
        library: in `LIBRARIES`; by default the first for the codec.

    Raises:
        ConfigError: a value outside these.
    """

    codec: str = "jpeg"
    quality: int = 95
    subsampling: str = "420"
    library: str = ""

    def __post_init__(self) -> None:
        one_of("codec", self.codec, EXTENSIONS)
        if type(self.quality) is not int:
            raise ConfigError(f"quality must be a whole number, found {self.quality!r}.")
        between("quality", self.quality, 1, 100)
        one_of("subsampling", self.subsampling, SUBSAMPLING)
        known = LIBRARIES[self.codec]
        object.__setattr__(self, "library", one_of("library", self.library or known[0], known))

    @property
    def extension(self) -> str:
        """`"jpg"` or `"png"`."""
        return EXTENSIONS[self.codec]

    def describe(self) -> dict[str, Any]:
        """For the manifest: codec, its settings, and the library whose version decides the bytes."""
        record: dict[str, Any] = {
            "codec": self.codec,
            "library": self.library,
            "version": metadata.version(self.library),
        }
        if self.codec == "jpeg":
            record |= {"quality": self.quality, "subsampling": self.subsampling}
        return record

    def function(self) -> Callable[[NDArray[np.uint8]], bytes]:
        """The encoding function: uint8 `[H, W, 3]` RGB, contiguous -> bytes."""
        return {"jpeg": self._jpeg, "png": self._png}[self.codec]()

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Encodes one image, uint8 `[H, W, 3]` RGB."""
        return self.function()(np.ascontiguousarray(image))

    def _jpeg(self) -> Callable[[NDArray[np.uint8]], bytes]:
        if self.library == "pillow":
            return self._pillow("JPEG", quality=self.quality, subsampling=":".join(self.subsampling))
        import simplejpeg

        encode, quality, subsampling = simplejpeg.encode_jpeg, self.quality, self.subsampling
        return lambda image: encode(image, quality, "RGB", subsampling, False)

    def _png(self) -> Callable[[NDArray[np.uint8]], bytes]:
        return self._pillow("PNG")

    def _pillow(self, kind: str, **how: Any) -> Callable[[NDArray[np.uint8]], bytes]:
        from PIL import Image

        def encode(image: NDArray[np.uint8]) -> bytes:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, kind, **how)
            return buffer.getvalue()

        return encode


def check_batch(batch: ImageBatch) -> None:
    """Raises ConfigError unless the batch is uint8 `[B, H, W, 3]` with identity and image `[B]`."""
    images = batch.images
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 3
    ):
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ConfigError(f"Images must be a uint8 array [B, H, W, 3], found {found}.")
    for name in ("identity", "image"):
        column = getattr(batch, name)
        if np.shape(column) != (len(images),) or np.asarray(column).dtype.kind not in "iu":
            raise ConfigError(
                f"{name} must be whole numbers [{len(images)}], found shape {np.shape(column)}."
            )


def submit(pool: Executor, encoder: Encoder, batch: ImageBatch) -> list[Future[list[bytes]]]:
    """Starts encoding a batch; the results, one after the other, are its images in order."""
    encode = encoder.function()
    images = np.ascontiguousarray(batch.images)

    def chunk(start: int) -> list[bytes]:
        with stage("encode"):
            return [encode(image) for image in images[start : start + CHUNK]]

    return [pool.submit(chunk, start) for start in range(0, len(images), CHUNK)]


def collect(encoded: list[Future[list[bytes]]]) -> list[bytes]:
    """The images of a submitted batch, in order; waits for the last part first, since a wait for each wakes this thread
    eight times a batch."""
    parts = [part.result() for part in reversed(encoded)]
    return [image for part in reversed(parts) for image in part]

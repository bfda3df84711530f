"""Encoded pictures on their way into a set of 112x112 faces: passed byte for byte, encoded anew, or refused by count.

Side files of the formats say 112x112 (RecordIO's `property`), and readers believe them; so nothing else passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.gate.decode import codec_of, decode, is_turned, size_of
from v2f_engine.data.gate.resize import check_square, line_of, record_of, resized
from v2f_engine.data.writing.encode import EXTENSIONS, Encoder
from v2f_engine.errors import DatasetError

FACE = (IMAGE_SIZE, IMAGE_SIZE)
SHOWN = 3


def kind_of(data: bytes, where: str) -> str:
    """The codec of a picture; with a word before it where what trainers read (Pillow, torchvision) is another picture.

    16-bit grey PNGs are white to Pillow's `convert("RGB")` (Pillow issues 2574, 3011), and nobody there turns a picture
    as EXIF says; we read both right, so they pass into a set only encoded anew.
    """
    codec = codec_of(data, where)
    if codec == "png" and data[24:25] == b"\x10":  # IHDR's bit depth
        return "16-bit png"
    return f"turned {codec}" if is_turned(data, where) else codec


@dataclass
class Survey:
    """What pictures are, by their headers.

    Args:
        pictures: how many there are.
        sizes: those of another size than 112x112, by size.
        codecs: all, by codec, those apart that other readers see otherwise.
        odd: what the first pictures are called that cannot pass.
    """

    pictures: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, pictures: Iterable[tuple[bytes, str]]) -> Survey:
        """Of (encoded picture, what to call it), all of them."""
        found = cls()
        for data, where in pictures:
            found.add(data, where)
        return found

    def add(self, data: bytes, where: str) -> None:
        size, codec = size_of(data, where), kind_of(data, where)
        self.pictures += 1
        self.codecs[codec] += 1
        if size != FACE:
            self.sizes["{}x{}".format(*size)] += 1
        if (size != FACE or codec not in EXTENSIONS) and len(self.odd) < SHOWN:
            self.odd.append(where)

    @property
    def codec(self) -> str:
        """That of most pictures, of those that formats hold; JPEG where they have none."""
        known = [(count, codec) for codec, count in self.codecs.items() if codec in EXTENSIONS]
        return max(known)[1] if known else "jpeg"

    def foreign(self, passing: Container[str] = EXTENSIONS) -> dict[str, int]:
        """Pictures of codecs that do not pass."""
        return {codec: count for codec, count in self.codecs.items() if codec not in passing}

    def check(self, where: str, anew: str = "--resize") -> None:
        """Raises DatasetError, with counts, where a picture cannot pass; `anew` is what would encode it."""
        if self.odd:
            found = [f"{count:,} of {size}" for size, count in self.sizes.most_common()]
            found += [f"{count:,} {codec}" for codec, count in self.foreign().items()]
            face = f"{IMAGE_SIZE}x{IMAGE_SIZE}"
            raise DatasetError(
                f"{where}: {', '.join(found)} among {self.pictures:,} pictures, such as {', '.join(self.odd)}; "
                f"expected JPEG or PNG of {face}, which pass byte for byte. {anew} encodes the others anew at {face}."
            )

    def check_square(self, where: str) -> None:
        """Raises DatasetError, with counts, where a picture cannot be resized."""
        for size, count in self.sizes.items():
            height, width = map(int, size.split("x"))
            check_square(height, width, f"{where}: {count:,} of {self.pictures:,} pictures")

    def lines(self, passing: Container[str] = EXTENSIONS) -> list[str]:
        """For people: what is encoded anew; empty for nothing."""
        said = [line_of(self.sizes)] if self.sizes else []
        return said + [f"encoded anew: {count:,} {codec}" for codec, count in self.foreign(passing).items()]

    def record(self, passing: Container[str] = EXTENSIONS) -> dict[str, Any]:
        """For manifests: nothing where all pass."""
        foreign = self.foreign(passing)
        return record_of(self.sizes) | ({"encoded_anew": foreign} if foreign else {})


def face_bytes(data: bytes, where: str, encoder: Encoder, passing: Container[str] = EXTENSIONS) -> bytes:
    """`data` itself where it is 112x112 and of a codec that passes, else a 112x112 face encoded anew.

    Raises:
        DatasetError: broken, or not square.
    """
    if size_of(data, where) == FACE and kind_of(data, where) in passing:
        return data
    image = decode(data, where)
    if image.shape[:2] != FACE:
        check_square(image.shape[0], image.shape[1], where)
        image = resized(image)
    return encoder.encode(image)

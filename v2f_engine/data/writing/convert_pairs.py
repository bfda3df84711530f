"""Any verification set as a `.bin`, which the published tools read: a list of pairs over a folder becomes one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from v2f_engine.data.verification.sets import VerificationSet, open_verification_set, write_bin
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.face_bytes import Survey, face_bytes


@dataclass(frozen=True)
class PairsReport:
    """What `convert_pairs` did: pairs written, how many of one person, and what a user should know."""

    pairs: int
    same: int
    told: tuple[str, ...]


def convert_pairs(
    source: str | Path, target: str | Path, pictures: str | Path | None = None, *, resize: bool = False
) -> PairsReport:
    """Writes a verification set as a `.bin`; encoded pictures pass byte for byte.

    Args:
        source, pictures: as for `open_verification_set`.
        target: the `.bin`, replaced atomically.
        resize: encodes pictures of another size, or neither JPEG nor PNG, anew at 112x112.

    Raises:
        DatasetError: broken pictures, or, with counts, pictures of another size without `resize`.
    """
    opened = open_verification_set(source, pictures)
    told = opened.told()
    if opened.encoded is None:
        png = Encoder("png")  # pixels lose nothing
        encoded = [png.encode(image) for batch in opened.batches() for image in batch]
        told = opened.told()
    else:
        survey = Survey.of((data, opened.where(number)) for number, data in enumerate(opened.encoded))
        if resize:
            survey.check_square(str(source))
        else:
            survey.check(str(source))
        told += survey.lines()
        encoded = _faces(opened)
    write_bin(target, encoded, opened.same)
    return PairsReport(len(opened.same), int(opened.same.sum()), tuple(told))


def _faces(opened: VerificationSet) -> list[bytes]:
    assert opened.encoded is not None
    encoder = Encoder()
    return [face_bytes(data, opened.where(number), encoder) for number, data in enumerate(opened.encoded)]

"""Verification sets: pairs of faces and whether they are one person, in the forms they are published in.

name.bin       pickle of (2N encoded images, N labels); pair i is images 2i and 2i + 1
name.bin.xz    the same, compressed
name/name.npy  uint8 [2N, 3, 112, 112] RGB, with issame.txt beside it
pairs.txt      a list of pairs over a folder of pictures: LFW, SLLFW, CALFW, CPLFW, DoppelVer, `path path label`
"""

from v2f_engine.data.verification.sets import (
    VerificationSet,
    check_pictures,
    is_pair_list,
    open_verification_set,
    write_bin,
)

__all__ = ["VerificationSet", "check_pictures", "is_pair_list", "open_verification_set", "write_bin"]

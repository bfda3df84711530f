"""Verification sets: pairs of faces and whether they are one person, in the three forms they are published in.

name.bin       pickle of (2N encoded images, N booleans); pair i is images 2i and 2i + 1
name.bin.xz    the same, compressed
name/name.npy  uint8 [2N, 3, 112, 112] RGB, with issame.txt beside it
"""

from v2f_engine.data.verification.sets import VerificationSet, open_verification_set, write_bin

__all__ = ["VerificationSet", "open_verification_set", "write_bin"]

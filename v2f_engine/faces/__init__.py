"""Photographs in: raw pictures to aligned 112x112 faces, by dlib's CC0 models (extra `[align]`).

from v2f_engine.faces import AlignOptions, align

report = align("photographs", "faces", AlignOptions(several="largest"), processes=4)
report.counts  # {"aligned": 96, "no face": 3, ...}
"""

from v2f_engine.faces.align import Alignment, AlignOptions, align, align_picture
from v2f_engine.faces.finder import Face, Finder

__all__ = ["AlignOptions", "Alignment", "Face", "Finder", "align", "align_picture"]

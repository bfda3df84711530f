"""Does a public face detector, which never saw our training, find a face? dlib, extra `[judge]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from v2f_kernels._extras import install

from v2f_engine.errors import MissingDependency

BORDER = 28
"""Pixels of replicated edge around an aligned crop, which cuts the hair and chin that detectors expect."""
SCALE = 2
"""dlib's frontal detector slides an 80x80 window; an aligned face fills about 90 of the 112 pixels."""


@dataclass(frozen=True)
class FaceFinder:
    """dlib's HOG frontal detector, and its convolutional one for what that misses.

    Build it with `FaceFinder.load`.
    """

    hog: Any
    cnn: Any

    @classmethod
    def load(cls) -> FaceFinder:
        """Raises MissingDependency with the install line when dlib or its models are absent."""
        try:
            import dlib
            import face_recognition_models as models
        except ImportError as error:
            raise MissingDependency(
                f"Detecting faces needs {error.name}; install it with: {install('judge')}"
            ) from error
        cnn = dlib.cnn_face_detection_model_v1(models.cnn_face_detector_model_location())
        return cls(dlib.get_frontal_face_detector(), cnn)

    def __call__(self, image: NDArray[np.uint8]) -> str:
        """Which detector found a face in uint8 `[112, 112, 3]` RGB: `"hog"`, asked first, `"cnn"` or `""`."""
        large = enlarged(image)
        if len(self.hog(large, 0)):
            return "hog"
        return "cnn" if len(self.cnn(large, 0)) else ""


def enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with its edge replicated by BORDER pixels, SCALE times as large, bicubic."""
    padded = np.pad(image, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
    side = padded.shape[0] * SCALE
    return np.array(Image.fromarray(padded).resize((side, side), Image.Resampling.BICUBIC))

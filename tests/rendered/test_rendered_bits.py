"""A change for speed changes no bit: hashes of the pictures that the plain kernels, one loop per pixel, gave.

Other processors and libraries may round an exponential or a blur differently, so where the functions that the
renderer is made of give other bits than where the hashes were made, this says so and skips; the frozen worlds of
`test_rendered_people.py` hold there, within a grey level.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="extra [rendered] is not installed")
pytest.importorskip("cv2", reason="extra [rendered] is not installed")

import cv2
import numba

from v2f_engine.rendered import make_person, render_person

HASHES = json.loads((Path(__file__).parent / "picture_hashes.json").read_text())


def _hash(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:16]


@numba.njit
def _library(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = x[i] ** np.float32(0.4545) + np.exp(-x[i]) + np.sin(x[i]) + np.cos(x[i])
    return out


def rounding():
    """What the processor and the libraries make of the functions used, on numbers that are not random."""
    x = ((np.arange(40_000, dtype=np.float32) * np.float32(0.618)) % np.float32(7)).astype(np.float32)
    square = x.reshape(200, 200)
    blurs = [cv2.GaussianBlur(square, (0, 0), s) for s in (0.7, 1.8)]
    large = cv2.resize(square, (640, 288), interpolation=cv2.INTER_CUBIC)
    shear = cv2.warpAffine(square, np.array([[1, 0.3, -30], [0, 1, 0]], np.float32), (200, 200))
    wide = np.exp(-x.astype(np.float64)), np.sin(x.astype(np.float64)), x.astype(np.float64) ** 2.2
    return _hash(_library(x), np.exp(-x), *blurs, large, shear, *wide, square @ square[:, :3])


@pytest.mark.parametrize("world", ["1", "2"])
def test_no_bit_of_a_picture_changed(world):
    if rounding() != HASHES["rounding"]:
        pytest.skip("this processor or these libraries round differently from where the hashes were made")
    for identity, expected in enumerate(HASHES["pictures"][world]):
        images = render_person(make_person(31, identity, world=int(world)), range(4)).images
        assert [_hash(image) for image in images] == expected, identity

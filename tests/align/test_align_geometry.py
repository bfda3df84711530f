"""The similarity, the places of the five points, and the crop: closed forms, and OpenCV's area resampling beside."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from v2f_engine.faces.finder import PLACES
from v2f_engine.faces.geometry import TEMPLATE, inverse, moved, reduced_matrix, similarity, warp, warp_by_area


def matrix_of(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)) * scale, np.sin(np.radians(degrees)) * scale
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


@pytest.mark.parametrize(("scale", "degrees"), [(0.05, 0), (0.7, 30), (3.0, -170)])
def test_a_similarity_is_found_again_in_float64(scale: float, degrees: float) -> None:
    true = matrix_of(scale, degrees, (17.5, -4.25))
    found = similarity(moved(TEMPLATE, inverse(true)))
    assert found.dtype == np.float64
    assert found == pytest.approx(true, abs=1e-11)


def test_it_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    points = TEMPLATE + rng.normal(0, 3, (5, 2))
    best = similarity(points)
    error = ((moved(points, best) - TEMPLATE) ** 2).sum()
    for _ in range(200):
        a, b, x, y = rng.normal(0, 1e-3, 4)
        assert ((moved(points, best + np.array([[a, -b, x], [b, a, y]])) - TEMPLATE) ** 2).sum() > error


def test_places_are_those_of_a_symmetric_face_around_the_template() -> None:
    middle = (TEMPLATE[0] + TEMPLATE[1])[0] / 2
    assert PLACES[:4, 0] + PLACES[[3, 2, 1, 0], 0] == pytest.approx(2 * middle, abs=0.3)
    eyes = np.stack([PLACES[:2].mean(0), PLACES[2:4].mean(0)])
    assert eyes == pytest.approx(TEMPLATE[:2], abs=1.7)
    assert TEMPLATE[2, 1] < PLACES[4, 1] < TEMPLATE[3, 1], (
        "the foot of the nose lies between its tip and the mouth"
    )


@pytest.mark.parametrize("scale", [1 / 3, 1 / 8, 1 / 21])
def test_every_pixel_counts_where_the_picture_is_larger(scale: float) -> None:
    """Stripes a pixel wide become grey; four pixels of each place would keep them, as `warp` alone does."""
    side = round(112 / scale)
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    matrix = matrix_of(scale, 11.0, (0, 0))
    matrix[:, 2] = 55.5 - matrix[:, :2] @ np.full(2, (side - 1) / 2)
    middle = slice(30, 82)
    ours = warp_by_area(stripes, matrix)[middle, middle].astype(float)
    assert abs(ours.mean() - 127.5) < 1.5
    assert ours.std() < 20, "a box three wide keeps a fifth of a period of two"
    assert warp(stripes, matrix)[middle, middle].std() > 4 * ours.std()


@pytest.mark.parametrize("block", [2, 5, 12])
def test_upright_it_is_opencvs_area_resampling(block: int) -> None:
    rng = np.random.default_rng(block)
    image = cv2.GaussianBlur(rng.integers(0, 256, (112 * block, 112 * block, 3), np.uint8), (0, 0), block / 2)
    oracle = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA).astype(int)
    matrix = matrix_of(1 / block, 0, ((1 / block - 1) / 2,) * 2)
    ours = warp_by_area(image, matrix).astype(int)
    inner = (slice(1, -1), slice(1, -1))  # at the very edge ours reaches over it
    assert np.abs(ours - oracle)[inner].mean() < 2.5
    assert np.abs((ours - oracle)[inner].mean()) < 0.2, "no shift of brightness; OpenCV rounds halves up"


def test_a_pixel_stays_in_its_place() -> None:
    """A blot's centre of mass lies where the similarity puts it, whatever the reduction."""
    for scale in (2.0, 0.9, 0.31, 0.07):
        true = matrix_of(scale, 25.0, (0, 0))
        where = np.array([40.25, 71.5])
        size = max(40, int(150 / scale))
        at = np.array([size / 2, size / 2])
        true[:, 2] = where - true[:, :2] @ at
        y, x = np.mgrid[0:size, 0:size]
        blot = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * (3 / scale) ** 2))
        crop = warp_by_area(np.repeat(blot[..., None], 3, 2).astype(np.uint8), true)[..., 0].astype(float)
        grid = np.mgrid[0:112, 0:112][::-1]
        centre = (grid * crop).sum((1, 2)) / crop.sum()
        assert centre == pytest.approx(where, abs=0.06), scale


def test_blocks_keep_the_place_of_a_pixel() -> None:
    whole = matrix_of(0.1, 7, (3, 4))
    corner = np.array([[2.0, 2.0]])  # the middle of the first block of five
    assert moved(np.zeros((1, 2)), reduced_matrix(whole, 5)) == pytest.approx(moved(corner, whole))

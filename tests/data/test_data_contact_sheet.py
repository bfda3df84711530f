"""Contact sheets: images where they belong, labels beside them, white around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub_people import make_batches, picture

from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.layout import SHEET
from v2f_engine.data.writing.contact_sheet import GAP, MARGIN, contact_sheet
from v2f_engine.errors import ConfigError

IMAGES = np.stack([[picture(row, column) for column in range(4)] for row in range(3)])


def find(sheet: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """(y, x) of the only place where `image` lies in `sheet`."""
    corner = (sheet[:-111, :-111] == image[0, 0]).all(axis=2)
    places = [
        (y, x) for y, x in np.argwhere(corner) if np.array_equal(sheet[y : y + 112, x : x + 112], image)
    ]
    assert len(places) == 1
    return int(places[0][0]), int(places[0][1])


def test_layout(tmp_path: Path) -> None:
    contact_sheet(
        IMAGES, tmp_path / "s.png", title="A title", captions=["one", "two", "three"], columns=list("abcd")
    )
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    places = np.array([[find(sheet, IMAGES[row, column]) for column in range(4)] for row in range(3)])
    assert (np.diff(places[:, :, 0], axis=0) == 112 + GAP).all()
    assert (np.diff(places[:, :, 1], axis=1) == 112 + GAP).all()
    assert (np.diff(places[:, :, 0], axis=1) == 0).all()
    top, left = places[0, 0]
    assert (sheet[:, :, :][top + 112 : top + 112 + GAP, left : left + 112] == 255).all(), "white gaps"
    for row in range(3):
        assert (sheet[places[row, 0, 0] :][:112, :left] < 128).any(), "a label beside each row"
    assert (sheet[:top, :] < 128).any(), "title and column labels"
    assert (sheet[:, -MARGIN:] == 255).all()


def test_without_labels(tmp_path: Path) -> None:
    contact_sheet(IMAGES[:1, :1], tmp_path / "s.png")
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (112 + 2 * MARGIN, 112 + 2 * MARGIN, 3)


def test_beside_every_dataset(tmp_path: Path) -> None:
    write_dataset(
        tmp_path / "d", {}, Plan.of(12, 11, 22), make_batches(11), encoder=Encoder("png"), format="lmdb"
    )
    sheet = np.asarray(Image.open(tmp_path / "d" / SHEET))
    places = [find(sheet, picture(identity, image)) for identity, image in ((0, 0), (0, 9), (9, 0), (9, 9))]
    assert places[3] == (places[2][0], places[1][1])
    assert sheet.shape[0] == 10 * (112 + GAP) - GAP + 2 * MARGIN


@pytest.mark.parametrize(
    ("images", "options"),
    [
        (IMAGES[0], {}),
        (IMAGES.astype(np.float32), {}),
        (IMAGES[:0], {}),
        (IMAGES, {"captions": ["a"]}),
        (IMAGES, {"columns": ["a"] * 5}),
    ],
)
def test_wrong_arguments(tmp_path: Path, images: np.ndarray, options: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigError, match="contact sheet"):
        contact_sheet(images, tmp_path / "s.png", **options)  # type: ignore[arg-type]

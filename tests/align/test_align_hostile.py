"""Folders that nobody would make on purpose: thin pictures, colliding names, bad accounts, faces among photographs."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dlib")
pytest.importorskip("face_recognition_models")

from PIL import Image

from v2f_engine.errors import DatasetError, OutputFolderError
from v2f_engine.faces import align
from v2f_engine.faces.finder import Finder
from v2f_engine.faces.outcomes import HEADER, Row, lines_of, rows_in
from v2f_engine.faces.photographs import photographs_at


def test_no_shape_ends_the_process() -> None:
    """dlib's network throws on pictures thinner than 12 pixels, and the next question to it then ends the process."""
    finder = Finder.load()
    for height, width in ((1, 1), (1, 400), (400, 2), (6, 7), (11, 300)):
        assert finder(np.zeros((height, width, 3), np.uint8)) == []


def test_no_two_photographs_share_a_face_and_none_is_called_as_a_folder(tmp_path: Path) -> None:
    """Forty albums of few letters, so that names, folders, endings and cases meet; with one and with several faces."""
    chance = np.random.default_rng(19)
    names = [f"{a}{b}" for a in ("a", "A", "a_0", "a_jpg", "b" * 251) for b in (".jpg", ".PNG", ".png", "")]
    for album in range(40):
        root = tmp_path / str(album)
        for _ in range(8):
            folder = root.joinpath(*(names[i] for i in chance.integers(0, 16, chance.integers(3))))
            path = folder / f"{names[chance.integers(len(names))]}.jpg"
            if any(one.is_file() for one in (*path.parents,)) or len(path.name) > 255 or path.is_dir():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if not root.exists():
            continue
        for ending in (".png", "_0.png", "_12.jpg"):
            faces = [f"{one.target}{ending}".lower() for one in photographs_at(root)]
            folders = {parent.as_posix() for face in faces for parent in Path(face).parents}
            assert len(set(faces)) == len(faces)
            assert folders.isdisjoint(faces)
            assert max(len(part.encode()) for face in faces for part in face.split("/")) <= 255


def test_any_name_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    table = tmp_path / "pictures.csv"
    names = ["a\nb", "c\rd", "e\r\n", 'f"g,h', "=1+1", " i ", "ü🙂", "\ud800", "end"]
    text = ",".join(HEADER) + "\n" + lines_of(Row(name, -1, "no face", why=name) for name in names)
    table.write_bytes(text.encode(errors="backslashreplace"))
    assert [*rows_in(table)][:7] == names[:7]
    assert len(list(csv.reader(io.StringIO(text)))) == len(names) + 1
    for cut in range(0, len(text), 7):  # a kill
        table.write_bytes(text.encode(errors="backslashreplace")[:cut])
        assert [*rows_in(table)] == names[: len(rows_in(table))]
    table.write_bytes(b"\xff\xfe\0,\r garbage\n" * 3)
    assert rows_in(table) == {}


def test_accounts_and_folders_of_others_stay(tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    Image.new("RGB", (9, 9)).save(album / "wall.png")
    with open(os.fsencode(album) + b"/\xff.png", "wb") as odd:
        odd.write(b"")
    mine = tmp_path / "faces.alignment"
    mine.mkdir()
    (mine / "pictures.csv").write_text("mine\n")
    with pytest.raises(OutputFolderError, match=r"pictures\.csv in it"):
        align(album, tmp_path / "faces")
    assert (mine / "pictures.csv").read_text() == "mine\n"
    assert sorted(row.picture for row in align(album, tmp_path / "out").rows) == ["\\xff.png", "wall.png"]
    (tmp_path / "out.alignment" / "settings.json").write_text("{")
    with pytest.raises(OutputFolderError, match=re.escape("settings.json is damaged")):
        align(album, tmp_path / "out")
    with pytest.raises(OutputFolderError, match="root of a disk"):
        align(album, "/")


def test_faces_that_lie_among_the_photographs_are_none(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "wall.png")
    for _ in range(2):
        assert [row.picture for row in align(tmp_path, tmp_path / "faces").rows] == ["wall.png"]
        Image.new("RGB", (9, 9)).save(tmp_path / "faces" / "wall.png")
    assert [row.picture for row in align(tmp_path, tmp_path / "other").rows] == ["wall.png"]


def test_links_pipes_and_circles_are_accounted_for(tmp_path: Path) -> None:
    """People that are links to another disk are read, a broken link and a pipe have their row, a circle is refused."""
    disk, album = tmp_path / "disk", tmp_path / "album"
    for folder in (disk / "ann", album / "bob"):
        folder.mkdir(parents=True)
        Image.new("RGB", (200, 200), "grey").save(folder / "0.jpg")
    (album / "ann").symlink_to(disk / "ann")
    (album / "1.jpg").symlink_to(disk / "ann/0.jpg")
    (album / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(album / "pipe.jpg")
    found = {row.picture: row.outcome for row in align(album, tmp_path / "out").rows}
    assert found == {
        "1.jpg": "no face",
        "ann/0.jpg": "no face",
        "bob/0.jpg": "no face",
        "gone.jpg": "unreadable",
        "pipe.jpg": "unreadable",
    }
    (album / "bob/again").symlink_to(album)
    with pytest.raises(DatasetError, match="a folder in which it lies"):
        photographs_at(album)

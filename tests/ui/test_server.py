"""What the server answers: limits, mistakes in words, uploads, who is nearest, the tray."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from ui_page import TABLE, Line, images

from v2f_engine.data.gate.decode import decode
from v2f_engine.errors import MissingDependency
from v2f_engine.models.registry import CARD, MINI
from v2f_engine.ui import app, uploads
from v2f_engine.ui.asked import Who
from v2f_engine.ui.gallery import FACES, Gallery
from v2f_engine.ui.studio import Studio

Row = Callable[..., list[Line]]


def encoded(side: int | tuple[int, int], kind: str = "PNG", seed: int = 0) -> bytes:
    """A picture of noise, rows and columns."""
    height, width = (side, side) if isinstance(side, int) else side
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind)
    return held.getvalue()


def test_the_state_says_what_there_is(client: TestClient) -> None:
    state = client.get("/api/state").json()
    assert state["model"] == "mini"
    assert state["pose_model"]
    assert state["table"] == TABLE
    assert state["limit"] == pytest.approx(
        json.loads((MINI / CARD).read_text())["features"]["max_cosine"], abs=5e-4
    )
    assert state["sliders"]["yaw"]["low"] == -60
    assert set(state["formats"]) == {"imagefolder", "webdataset", "lmdb", "recordio", "parquet"}
    assert str(Path.cwd()) not in json.dumps(state)


def test_a_row_is_judged_and_named(row: Row) -> None:
    lines = row({"number": 4})
    assert lines[0]["who"]["name"] == "Person 4 of seed 0"
    assert lines[0]["way"] == "plain"
    shown = images(lines)
    assert len(shown) == 8
    assert all(0.5 < one["cosine"] <= 1 and one["same"] and not one["failed"] for one in shown)
    assert 0.4 < lines[-1]["likeness"] < 1


def test_images_far_from_their_person_are_said_to_be(row: Row) -> None:
    near, far = (images(row(spread="cosine", level=level, images=24)) for level in (1.0, 0.5))
    mean = [np.mean([one["cosine"] for one in shown]) for shown in (near, far)]
    assert mean[0] > mean[1] + 0.15
    assert any(not one["same"] for one in far)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("row", {"settings": {"yaw": 900}}, "yaw must lie between -60 and 60"),
        ("row", {"settings": {"images": 2.5}}, "images must be a whole number"),
        ("row", {"settings": {"sharpness": 1}}, "unknown sharpness"),
        ("row", {"settings": [1]}, "expected an object"),
        ("row", {"who": {"kind": "stranger"}}, "not known"),
        ("row", {"who": {"number": -1}}, "between 0 and"),
        ("keep", {"who": {"number": 9000}}, "draw that person first"),
        ("keep", {}, "expected an object"),
        ("export", {"format": "zip", "settings": {}}, "known: imagefolder"),
        ("export", {"format": "imagefolder", "images": 0}, "between 1 and"),
        ("export", {"format": "imagefolder", "out": "/etc"}, "unknown out"),
    ],
)
def test_mistakes_are_told_in_words(client: TestClient, path: str, body: Any, words: str) -> None:
    answer = client.post(f"/api/{path}", json=body)
    assert answer.status_code == 400
    assert words in answer.json()["words"]


@pytest.mark.parametrize("who", [{"kind": "table", "number": 500}, {"kind": "face", "number": 50}])
def test_somebody_who_is_not_there(row: Row, who: Line) -> None:
    (*_, last) = row(who)
    assert last["kind"] == "error"
    assert "counted from 0" in last["words"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"[" * 50_000, b'{"a": ' + b"[" * 40_000])
def test_no_json_object(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/row", content=body)
    assert (answer.status_code, answer.json()["words"]) == (400, "This request holds no JSON object.")


def test_requests_and_pictures_have_a_limit(client: TestClient) -> None:
    for path, most in (("row", app.MOST), ("face", uploads.MOST)):
        answer = client.post(f"/api/{path}", content=b" " * (most + 1))
        assert answer.status_code == 413
        assert "at most" in answer.json()["words"]


def test_an_error_without_a_name_shows_nothing_of_the_machine(
    client: TestClient, studio: Studio, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/home/somebody/secret.py broke")

    monkeypatch.setattr(studio, "row", broken)
    monkeypatch.setattr(studio, "upload", broken)
    row = json.loads(client.post("/api/row", json={}).text.splitlines()[-1])
    face = client.post("/api/face", content=encoded(112))
    assert face.status_code == 500
    for told in (row, face.json()):
        assert told["kind"] == "error"
        assert "no name yet" in told["words"]
        assert "secret" not in json.dumps(told)
    assert "secret.py broke" in capsys.readouterr().err  # whoever runs the server is told


def test_an_uploaded_face_is_a_person(client: TestClient, row: Row, studio: Studio) -> None:
    """A picture of person 6, uploaded, gives images that are person 6 to the recogniser."""
    source = images(row({"number": 6}))[0]["src"]
    answer = client.post("/api/face", content=base64.b64decode(source.partition(",")[2])).json()
    assert answer["told"] == []
    assert answer["src"].startswith("data:image/jpeg")
    lines = row(answer["who"])
    assert lines[-1]["nearest"]["who"]["name"] == "Person 6 of seed 0"
    centres = studio.sheet(Who.of(answer["who"])).centre, studio.sheet(Who("own", 6)).centre
    assert float(centres[0] @ centres[1]) > 0.8


@pytest.fixture
def without_align(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra that finds faces."""

    def absent() -> None:
        raise MissingDependency("install it with: pip install 'v2f-engine[align]'")

    monkeypatch.setattr(uploads, "_finder", absent)


def shown(row: Row, width: int, height: int) -> bytes:
    """The face of person 2 as a photograph of that size, grey around it."""
    own = decode(base64.b64decode(images(row({"number": 2}))[0]["src"].partition(",")[2]), "own")
    photograph = Image.new("RGB", (width, height), (128, 128, 128))
    side = min(width, height) - 20
    photograph.paste(Image.fromarray(own).resize((side, side)), ((width - side) // 2, (height - side) // 2))
    held = io.BytesIO()
    photograph.save(held, "PNG")
    return held.getvalue()


def test_another_size_is_resized_and_said(client: TestClient, row: Row, without_align: None) -> None:
    (told, *_) = client.post("/api/face", content=shown(row, 224, 224)).json()["told"]
    assert told.startswith(
        "your picture has 224x224 pixels: taken for an aligned face and resized to 112x112"
    )
    assert "v2f-engine[align]" in told


def test_a_photograph_is_aligned_where_that_is_installed(client: TestClient, row: Row) -> None:
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    answer = client.post("/api/face", content=shown(row, 300, 380)).json()
    assert answer["told"][0] == "your picture has 300x380 pixels: its face was found and aligned."
    refused = client.post("/api/face", content=encoded((112, 90)))
    assert (refused.status_code, "no face was found in it" in refused.json()["words"]) == (400, True)
    two = Image.new("RGB", (400, 200))
    for left in (0, 200):
        two.paste(Image.open(io.BytesIO(shown(row, 200, 200))), (left, 0))
    held = io.BytesIO()
    two.save(held, "PNG")
    refused = client.post("/api/face", content=held.getvalue())
    assert (refused.status_code, "several faces" in refused.json()["words"]) == (400, True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"GIF89a...", "expected a JPEG or PNG"),
        (
            encoded((112, 90)),
            "90x112 pixels, expected an aligned face of 112x112: finding its face needs more",
        ),
        (encoded(8), "8x8 pixels"),
        (encoded(112)[:300], "your picture"),
        (encoded(112, "JPEG")[:400] + b"\0" * 10, "your picture"),
        (
            b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\1\0\0" * 2 + b"\x08\2\0\0\0" + b"\0" * 30,
            "your picture",
        ),
    ],
)
def test_what_is_no_aligned_face_is_refused(
    client: TestClient, without_align: None, data: bytes, words: str
) -> None:
    answer = client.post("/api/face", content=data)
    assert answer.status_code == 400
    assert words in answer.json()["words"]


def test_an_upload_is_never_written(
    client: TestClient, without_align: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Path(tempfile.mkdtemp(dir=Path.cwd()))
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    opened = []
    real = open

    def watched(file: Any, mode: str = "r", *rest: Any, **how: Any) -> Any:
        if set(mode) & set("wax+"):
            opened.append(file)
        return real(file, mode, *rest, **how)

    monkeypatch.setattr("builtins.open", watched)
    big = encoded((1500, 1500))
    assert 2_000_000 < len(big) < uploads.MOST
    assert client.post("/api/face", content=big).status_code in (200, 400)
    assert opened == []
    assert list(spool.iterdir()) == []


def test_faces_are_held_up_to_a_number(studio: Studio) -> None:
    gallery = Gallery(studio.gallery.people)
    for _ in range(FACES):
        gallery.add_face(np.ones(512, np.float32))
    with pytest.raises(Exception, match=f"{FACES} faces"):
        gallery.add_face(np.ones(512, np.float32))


def test_the_nearest_is_that_of_the_op(row: Row, studio: Studio) -> None:
    """Among those drawn and the table, never the person itself; the same by plain arithmetic."""
    for number in range(3):
        row({"number": number}, images=1)
    found = row({"number": 1}, images=1)[-1]["nearest"]
    assert found["who"]["name"] == "Row 5 of the table"  # where the same vector stands
    assert found["cosine"] == pytest.approx(1.0)
    assert found["rejected"]
    gallery, who = studio.gallery, Who("table", 3)
    row(who.to_json(), images=1)
    near = gallery.nearest(who)
    assert near is not None
    assert gallery.table is not None
    others = [(one, gallery._drawn[one]) for one in gallery._drawn if one != who]
    others += [(Who("table", n), gallery.table.vectors[n]) for n in range(TABLE) if n != 3]
    query = gallery.vector(who).astype(np.float64)

    def cosine(vector: np.ndarray) -> float:
        return float(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector.astype(np.float64)))

    best = max(others, key=lambda pair: cosine(pair[1]))
    assert (near.who, near.cosine) == (best[0], pytest.approx(cosine(best[1]), abs=1e-6))
    assert not near.rejected


def test_alone_there_is_no_nearest(studio: Studio) -> None:
    gallery = Gallery(studio.gallery.people)
    gallery.note_drawn(Who())
    assert gallery.nearest(Who()) is None


def test_the_tray_outlives_a_reload(client: TestClient, row: Row) -> None:
    who = {"kind": "own", "number": 3, "seed": 1}
    row(who, images=1)
    for _ in range(2):  # twice is once
        answer = client.post("/api/keep", json={"who": who}).json()
    assert answer["card"]["name"] == "Person 3 of seed 1"
    tray = client.get("/api/state").json()["tray"]
    assert [one["name"] for one in tray] == ["Person 3 of seed 1"]
    assert tray[0]["src"].startswith("data:image/jpeg;base64,")
    client.post("/api/drop", json={"who": who})
    assert client.get("/api/state").json()["tray"] == []


def test_nothing_is_written_while_nobody_is_kept(client: TestClient) -> None:
    answer = client.post("/api/export", json={"format": "imagefolder"})
    assert answer.status_code == 400
    assert "Nobody is kept yet" in answer.json()["words"]
    assert not Path("sets").exists()

"""A set of kept people: the bytes of the command line beside it, and the very pictures that were on the page."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.main import get_command
from ui_page import Line, images

from v2f_engine.cli.main import app
from v2f_engine.data.formats import open_dataset
from v2f_engine.pipeline import generation

Row = Callable[..., list[Line]]
PEOPLE = ({"number": 4}, {"number": 2, "seed": 3}, {"kind": "table", "number": 1})


@pytest.fixture
def kept(client: TestClient, row: Row) -> Iterator[None]:
    """Three people in the tray."""
    for who in PEOPLE:
        row(who, images=1)
        assert client.post("/api/keep", json={"who": who}).status_code == 200
    yield
    for who in PEOPLE:
        assert client.post("/api/drop", json={"who": who}).status_code == 200


def exported(client: TestClient, **order: Any) -> Line:
    """How an export ended."""
    answer = client.post("/api/export", json=order)
    assert answer.status_code == 200, answer.text
    while (state := client.get("/api/export").json())["status"] == "running":
        time.sleep(0.05)
    return state  # type: ignore[no-any-return]


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a set."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("format", "settings"),
    [
        ("imagefolder", {"variation": 5, "spread": "sigma", "level": 0.45, "masks": 0.4}),
        ("webdataset", {"yaw": 25}),
        ("lmdb", {"spread": "cosine", "level": 0.8}),
    ],
)
def test_the_bytes_are_those_of_the_command(
    client: TestClient, kept: None, row: Row, format: str, settings: Line
) -> None:
    state = exported(client, settings=settings, images=3, format=format)
    assert state["status"] == "complete", state
    assert (state["done"], state["total"]) == (9, 9)
    assert state["words"].startswith("3 people, 9 pictures")
    words = shlex.split(state["command"])
    assert words[:2] == ["v2f", "generate"]
    assert words[words.index("--out") + 1] == state["folder"]
    words[words.index("--out") + 1] = "again"
    get_command(app)(words[1:], standalone_mode=False)
    ours, theirs = files(Path(state["folder"])), files(Path("again"))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    get_command(app)(["verify", state["folder"], "--full"], standalone_mode=False)
    if format == "imagefolder":
        pictures = [data for name, data in ours.items() if name.endswith(".jpg")]
        shown = [
            base64.b64decode(image["src"].partition(",")[2])
            for who in PEOPLE
            for image in images(row(who, images=3, **settings))
        ]
        assert sorted(shown) == sorted(pictures), "the set holds other pictures than the page showed"


def test_a_second_set_gets_a_place_of_its_own(client: TestClient, kept: None) -> None:
    Path("sets").mkdir()
    for name in ("set-1", "set-2.safetensors"):  # somebody's
        (Path("sets") / name).write_bytes(b"somebody's")
    state = exported(client, images=1, format="imagefolder")
    assert state["status"] == "complete"
    assert state["folder"] == "sets/set-3"
    assert (Path("sets") / "set-1").read_bytes() == (Path("sets") / "set-2.safetensors").read_bytes()
    assert (Path("sets") / "set-1").read_bytes() == b"somebody's"


def test_one_set_at_a_time_and_one_may_be_stopped(
    client: TestClient, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = generation.run

    def slow(request: generation.Request, progress: Any, notify: Any) -> Any:
        def slower(done: int, total: int) -> None:
            time.sleep(0.2)
            progress(done, total)

        return real(request, slower, notify)

    with monkeypatch.context() as patch:
        patch.setattr(generation, "run", slow)
        first = client.post("/api/export", json={"images": 40, "format": "webdataset"}).json()
        assert first["status"] == "running"
        second = client.post("/api/export", json={"images": 1, "format": "webdataset"})
        assert second.status_code == 400
        assert "being written" in second.json()["words"]
        client.post("/api/export/stop", json={})
        while (state := client.get("/api/export").json())["status"] == "running":
            time.sleep(0.05)
    assert state["status"] == "stopped"
    assert "the command goes on" in state["words"]
    assert state["done"] < state["total"] == 120
    get_command(app)(shlex.split(state["command"])[1:], standalone_mode=False)
    get_command(app)(["verify", first["folder"], "--full"], standalone_mode=False)
    assert len(open_dataset(Path(first["folder"]))) == 120


def test_a_folder_that_cannot_be_written_is_said(client: TestClient, kept: None) -> None:
    Path("sets").write_bytes(b"a file")
    answer = client.post("/api/export", json={"images": 1, "format": "imagefolder"})
    assert answer.status_code == 400
    assert "sets cannot be written" in answer.json()["words"]
    assert str(Path.cwd()) not in answer.text


def test_a_run_that_fails_is_told_in_words(
    client: TestClient, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from v2f_engine.errors import DiskFull

    def full(*_: object) -> None:
        raise DiskFull("/srv/disk/sets: 3 bytes are free.")

    monkeypatch.setattr(generation, "run", full)
    state = exported(client, images=1, format="imagefolder")
    assert (state["status"], state["words"]) == ("failed", "sets: 3 bytes are free.")

"""Who may ask: names that are this machine's, and pages of the server itself."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from ui_page import HOST

from v2f_engine.options import EngineOptions
from v2f_engine.ui.app import PAGE, Page, application
from v2f_engine.ui.begun import Begun
from v2f_engine.ui.guard import Guard, host_of, is_loopback
from v2f_engine.ui.words import without_places


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("127.0.0.1:8000", "127.0.0.1"),
        ("LOCALHOST", "localhost"),
        ("[::1]:80", "::1"),
        ("a.b:1", "a.b"),
        ("", ""),
    ],
)
def test_the_host_of_an_authority(authority: str, host: str) -> None:
    assert host_of(authority) == host


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "127.8.9.1:8765"])
def test_names_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.1.4:8765",
        "8.8.8.8",
        "",
    ],
)
def test_a_name_pointed_here_is_refused(client: TestClient, host: str) -> None:
    """DNS rebinding: the browser believes that it talks to the stranger's own server."""
    for path in ("/", "/api/state", "/app.js"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 421
        assert "does not go by the name" in answer.json()["words"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8765"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_posts_of_other_pages_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    before = client.get("/api/state").json()
    for path in ("row", "face", "keep", "drop", "export", "export/stop"):
        answer = client.post(f"/api/{path}", content=b"{}", headers=headers)
        assert answer.status_code == 403, path
        assert "only the page of `v2f ui`" in answer.json()["words"]
    assert client.get("/api/state").json() == before


def test_posts_of_the_page_itself_and_of_a_script_are_answered(client: TestClient) -> None:
    for headers in ({"origin": HOST, "sec-fetch-site": "same-origin"}, {}):
        answer = client.post("/api/drop", json={"who": {"number": 99}}, headers=headers)
        assert answer.status_code == 200


def test_every_answer_forbids_what_is_not_ours(client: TestClient) -> None:
    for path in (*PAGE, "/api/state", "/nowhere"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/nowhere").status_code == 404


def test_the_files_name_no_other_server(client: TestClient) -> None:
    for path in PAGE:
        text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")  # a name, which nobody asks
        assert "://" not in text, path
        assert "@import" not in text
        assert "url(" not in text


def test_on_another_address_anybody_may_ask_but_not_under_any_name() -> None:
    guard = Guard(lambda *_: None, "0.0.0.0")  # type: ignore[arg-type,return-value]
    assert guard.open
    assert all(map(guard.knows, ("192.168.1.4:8765", "10.0.0.1", "[fe80::1]:8765", "localhost:8765")))
    assert not guard.knows("evil.example:8765")
    named = Guard(lambda *_: None, "faces.lan")  # type: ignore[arg-type,return-value]
    assert named.knows("faces.lan:8765")
    assert not is_loopback("0.0.0.0")
    assert is_loopback("::1")
    assert is_loopback("localhost")


def test_an_application_is_guarded_from_the_start() -> None:
    assert isinstance(application(Page(Begun(EngineOptions()))), Guard)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/home/somebody/faces/a.png: damaged", "a.png: damaged"),
        ("no such file: '/srv/x y/w.npy'", "no such file: 'x y/w.npy'"),
        ("108 images/s, 50/50 and a/b stay", "108 images/s, 50/50 and a/b stay"),
        ("~/weights.pth is no file", "weights.pth is no file"),
        ("sets/set-1 is there", "sets/set-1 is there"),
        ("see https://example.org/page", "see https://example.org/page"),
    ],
)
def test_words_name_no_place_of_this_machine(said: str, shown: str) -> None:
    assert without_places(said) == shown

"""Trouble at one request of a push and of a pull: a named error or none, and the same command ends it well."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fake_hub import FakeHub
from sets_to_push import made, tree
from test_push_and_pull import run

from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.errors import V2FError
from v2f_engine.hub import push

TROUBLE = {2: 200, 3: 302, 5: 500, 7: 200, 8: 302}
"""Number of the request -> what is answered; 200 and 302 are those of a proxy that answers everything itself."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("shards") / "set", "webdataset")


def troubled(hub: FakeHub, number: int, status: int, *words: object) -> bool:
    """Whether the command ended well though its request `number` was answered so."""
    before = len(hub.asked)
    hub.trouble = lambda method, path, count: status if len(hub.asked) - before - 1 == number else None
    try:
        run(*words)
    except V2FError as error:
        assert "hf_of_ada" not in str(error)
        return False
    finally:
        hub.trouble = lambda method, path, count: None
    return True


def test_requests_may_fail(
    hub: FakeHub, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits before it asks again
    monkeypatch.setattr(push, "PER_COMMIT", 3)
    for number, status in TROUBLE.items():
        name = f"ada/faces{number}"
        troubled(hub, number, status, "push", shards, name, "--yes")
        run("push", shards, name, "--yes")
        assert hub.files(name) == tree(shards)
        out = tmp_path / f"{number}"
        troubled(hub, number, status, "pull", name, "--out", out)
        run("pull", name, "--out", out)
        assert tree(out) == tree(shards)
        assert verify_dataset(out).ok

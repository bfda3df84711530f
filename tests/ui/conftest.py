"""The page's server as tests ask it: one engine for all of them, a folder each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from ui_page import HOST, TABLE, Line

from v2f_engine.options import EngineOptions
from v2f_engine.pipeline import identities_from
from v2f_engine.ui.app import Page, application
from v2f_engine.ui.begun import Begun
from v2f_engine.ui.studio import Studio
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.sampling import sample_identities

TABLE_SEED = 77


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People of `mini` whom seed 0 does not know, and one whom it does: its person 1, in row 5."""
    from v2f_engine.pipeline.given import people_of

    people = people_of("mini")
    own = sample_identities(2, max_cosine=people.max_cosine, seed=0, source=people.require_source())
    other = sample_identities(
        TABLE, max_cosine=people.max_cosine, seed=TABLE_SEED, source=people.require_source()
    )
    vectors = other.vectors.copy()
    vectors[5] = own.vectors[1]
    path = tmp_path_factory.mktemp("table") / "people.safetensors"
    Identities(vectors, np.arange(TABLE, dtype=np.int64), {"source": "two seeds"}).save(path)
    assert identities_from(path) is not None
    return path


@pytest.fixture(scope="session")
def page(table: Path) -> Page:
    return Page(Begun(EngineOptions("mini", "cpu"), vectors=table, out=Path("sets")))


@pytest.fixture(scope="session")
def client(page: Page) -> Iterator[TestClient]:
    with TestClient(application(page), base_url=HOST, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def studio(client: TestClient, page: Page) -> Studio:
    client.get("/api/state")
    assert page._loaded is not None
    return page._loaded.result()[0]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets go to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def row(client: TestClient) -> Callable[..., list[Line]]:
    """`row(who, yaw=30)`: the lines that a row answers."""

    def ask(who: Line | None = None, **settings: Any) -> list[Line]:
        answer = client.post("/api/row", json={"who": who or {}, "settings": settings})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    return ask

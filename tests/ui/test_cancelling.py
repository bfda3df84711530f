"""One request is computed at a time; a newer one cancels the older, and nothing piles up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from ui_page import Line

from v2f_engine.ui.desk import Check, Desk, Emit, Superseded
from v2f_engine.ui.studio import Studio


async def heard(desk: Desk, work: Callable[[Emit, Check], None]) -> list[Line]:
    """All lines of a job, begun now."""
    job = desk.begin()
    return [line async for line in desk.lines(job, work)]


def test_the_newest_wins_and_those_between_never_begin() -> None:
    begun: list[int] = []
    inside = threading.Event()

    def work(number: int) -> Callable[[Emit, Check], None]:
        def run(emit: Emit, check: Check) -> None:
            begun.append(number)
            emit({"number": number})
            inside.set()
            while number == 0:  # until somebody newer comes
                check()
                time.sleep(0.002)

        return run

    async def play() -> list[Any]:
        desk = Desk()
        first = asyncio.create_task(heard(desk, work(0)))
        while not inside.is_set():
            await asyncio.sleep(0.002)
        rest = [asyncio.create_task(heard(desk, work(number))) for number in (1, 2, 3)]
        ended = await asyncio.wait_for(asyncio.gather(first, *rest, return_exceptions=True), 10)
        desk.close()
        return ended

    ended = asyncio.run(play())
    assert [type(one) for one in ended[:3]] == [Superseded] * 3
    assert ended[3] == [{"number": 3}]
    assert begun == [0, 3]


def test_a_job_whose_asker_has_gone_ends() -> None:
    ended = threading.Event()

    def run(emit: Emit, check: Check) -> None:
        emit({})
        try:
            while True:
                check()
                time.sleep(0.002)
        finally:
            ended.set()

    async def play() -> None:
        desk = Desk()
        lines = desk.lines(desk.begin(), run)
        assert await anext(lines) == {}
        await lines.aclose()
        assert await asyncio.to_thread(ended.wait, 10)
        desk.close()

    asyncio.run(play())


def test_an_error_reaches_whoever_asked() -> None:
    def run(emit: Emit, check: Check) -> None:
        raise ValueError("seen")

    async def play() -> None:
        desk = Desk()
        with pytest.raises(ValueError, match="seen"):
            await heard(desk, run)
        assert await desk.run(desk.begin(), lambda check: 7) == 7
        desk.close()

    asyncio.run(play())


def test_steering_tells_its_iterations_and_yields_to_a_newer_row(client: TestClient, studio: Studio) -> None:
    """A row that is steered for up to 40 iterations ends within one of them when a slider moves."""
    steered: list[Line] = []
    told = threading.Event()
    real = studio.row

    def watched(who: Any, settings: Any, emit: Emit, check: Check) -> None:
        def noted(line: Line) -> None:
            emit(line)
            if line.get("kind") == "progress" and line["iteration"] == 2:
                told.set()

        real(who, settings, noted, check)

    studio.row = watched  # type: ignore[method-assign]
    try:

        def ask() -> None:
            answer = client.post("/api/row", json={"settings": {"quality": 36, "images": 2}})
            steered.extend(json.loads(line) for line in answer.text.splitlines())

        thread = threading.Thread(target=ask)
        thread.start()
        assert told.wait(120)
        since = time.perf_counter()
        answer = client.post("/api/row", json={"settings": {"images": 2}})
        plain = [json.loads(line) for line in answer.text.splitlines()]
        thread.join(60)
    finally:
        studio.row = real  # type: ignore[method-assign]
    assert plain[-1]["kind"] == "end"
    assert len([line for line in plain if line["kind"] == "image"]) == 2
    assert steered[0]["way"] == "steering"
    progress = [line for line in steered if line["kind"] == "progress"]
    assert [line["iteration"] for line in progress[:2]] == [1, 2]
    assert all(line["most"] == 40 and 0 <= line["left"] <= 2 for line in progress)
    assert steered[-1] == {"kind": "superseded"}
    assert len(progress) < 20, "it went on though nobody waited"
    assert time.perf_counter() - since < 60


def test_a_steered_row_comes_to_its_end(client: TestClient) -> None:
    """A goal that its image has already: an iteration, a verdict, and what was reached."""
    answer = client.post("/api/row", json={"settings": {"quality": 20, "images": 1}})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["kind"] == "end", lines[-1]
    (image,) = [line for line in lines if line["kind"] == "image"]
    assert (image["verdict"], image["iterations"]) == ("MET", 1)
    assert image["reached"]["quality"] >= 19
    assert [line["iteration"] for line in lines if line["kind"] == "progress"] == [1]

"""Draws made ahead in a thread: order, bounds, and that no stop and no error is lost."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Generator, Iterator

import pytest

from v2f_engine.pipeline.ahead import made_ahead


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "v2f-draw"]


def soon(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within five seconds."""
    end = time.monotonic() + 5
    while not true() and time.monotonic() < end:
        time.sleep(0.002)
    return true()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not threads()


def test_items_come_in_order_and_from_another_thread() -> None:
    def numbers() -> Generator[tuple[int, str]]:
        for number in range(50):
            yield number, threading.current_thread().name

    assert list(made_ahead(numbers())) == [(number, "v2f-draw") for number in range(50)]
    assert list(made_ahead(iter(range(0)))) == []


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_than_so_many_are_made_ahead(ahead: int) -> None:
    made: list[int] = []

    def numbers() -> Generator[int]:
        for number in range(20):
            made.append(number)
            yield number

    items = made_ahead(numbers(), ahead)
    for taken in range(1, 6):
        assert next(items) == taken - 1
        assert soon(lambda: len(made) == taken + ahead)  # noqa: B023
        time.sleep(0.01)
        assert len(made) == taken + ahead
    items.close()


def test_an_error_arrives_after_what_was_made_before_it() -> None:
    def broken() -> Generator[int]:
        yield 1
        yield 2
        raise ValueError("the third draw")

    items = made_ahead(broken())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="the third draw") as told:
        next(items)
    assert told.traceback[-1].name == "broken"


def test_an_error_before_the_first_item_is_told() -> None:
    def broken() -> Generator[int]:
        raise KeyboardInterrupt
        yield 1

    with pytest.raises(KeyboardInterrupt):
        next(made_ahead(broken()))


@pytest.mark.parametrize("how", ["close", "throw", "drop"])
def test_stopped_early_the_source_is_closed_in_its_thread(how: str) -> None:
    closed: list[str] = []

    def endless() -> Generator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    items = made_ahead(endless())
    next(items)
    if how == "close":
        items.close()
    elif how == "throw":
        with pytest.raises(ZeroDivisionError):
            items.throw(ZeroDivisionError())
    else:
        del items
        gc.collect()
    assert closed == ["v2f-draw"]


def test_never_started_it_costs_no_thread() -> None:
    items = made_ahead(iter(range(3)))
    assert not threads()
    items.close()

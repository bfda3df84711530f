"""The start of a run: what is told of it, kernels announced once, the self-test beside generation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.pipeline import Engine, generate, generation, self_test
from v2f_engine.pipeline.start_up import STAGES, Clock, StartUp
from v2f_engine.ranges import Recorded, recorded, stage
from v2f_engine.runtime import Inputs, Runner, compiling

WAIT_S = 20.0
"""How long a test waits for what should happen at once, before it fails."""


def batch(count: int) -> ImageBatch:
    place = np.zeros(count, np.int64)
    return ImageBatch(np.zeros((count, 2, 2, 3), np.uint8), place, place)


# What is told


def test_stages_are_heard_in_every_thread_by_everyone_who_listens() -> None:
    with recorded() as outer:
        with stage("a"):
            pass
        with recorded() as inner:

            def work() -> None:
                with stage("b"):
                    pass

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        with pytest.raises(ZeroDivisionError), stage("c"):
            _ = 1 / 0
    with stage("after"):
        pass
    assert list(outer.seconds) == ["a", "b", "c"]
    assert list(inner.seconds) == ["b"]
    assert all(seconds > 0 for seconds in outer.seconds.values())


def test_the_report_of_an_imagined_run() -> None:
    now, heard, seen = [100.0], Recorded(), list[tuple[int, int]]()
    clock = Clock(heard, lambda: now[0])
    heard.add("identities", 1.0)
    heard.add("load weights", 2.0)
    heard.add("encode", 99.0)  # no stage of the start
    heard.add("self-test", 4.0)
    now[0] = 104.0
    clock.writing()
    progress = clock.progress(lambda done, total: seen.append((done, total)))
    progress(1000, 2000)  # 1,000 of an earlier run
    now[0] = 104.5
    batches = clock.batches(batch(10) for _ in range(3))
    next(batches)
    now[0] = 106.5
    next(batches)
    progress(1010, 2000)
    progress(1110, 2000)
    now[0] = 108.0
    progress(1110, 2000)  # nothing new
    told = clock.report(3)
    assert told.seconds == {"load weights": 2.0, "identities": 1.0, "first batch": 0.5, "other": 1.0}
    assert sum(told.seconds.values()) == 4.5  # until the first batch
    assert told.steady_images_per_second == 100 / 2.0
    assert (told.finish, told.self_test, told.compiled) == (1.5, 4.0, 3)
    assert seen == [(1000, 2000), (1010, 2000), (1110, 2000), (1110, 2000)]
    assert told.lines(before=0.25) == [
        "start-up       4.8 s: import 0.2, load weights 2.0, identities 1.0, first batch 0.5, other 1.0,"
        " (3 kernels compiled, once)",
        "then           50.0 images/s; finishing 1.5 s, self-test 4.0 s",
    ]
    warm = StartUp({"warm up": 7.0}, compiled=24)
    assert warm.lines() == ["start-up       7.0 s: warm up 7.0 (24 kernels compiled, once)"]


def test_a_run_that_makes_nothing_has_no_rate() -> None:
    clock = Clock(Recorded())
    assert clock.report(0).steady_images_per_second == 0.0
    clock.progress(None)(5, 5)
    told = clock.report(0)
    assert (told.steady_images_per_second, told.finish, list(told.seconds)) == (0.0, 0.0, ["other"])


# A run by an imitated runner


@dataclass
class Imitated:
    """Answers at once; looks like a runner on a device, with a network that has smaller runners."""

    device: str = "cpu"
    batch_size: int = 8
    n_dropped: int = 5
    model: object = field(
        default_factory=lambda: SimpleNamespace(im_decoder=SimpleNamespace(rounding="nearest"))
    )
    on_batch: Callable[[], None] = lambda: None
    choice: Any = field(init=False)

    def __post_init__(self) -> None:
        self.choice = SimpleNamespace(device=self.device)

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        images = np.zeros((len(vectors), 112, 112, 3), np.uint8)
        images[:, 0, 0] = n_masked[:, None]
        images[:, 0, 1] = 255
        return images

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        for inputs in batches:
            self.on_batch()
            yield self(*inputs)

    def describe(self) -> dict[str, Any]:
        return {"runner": "imitated", "precision": "fp32"}


def engine_of(runner: Imitated) -> Engine:
    loaded = SimpleNamespace(name="imitated", sha256="0" * 64, max_cosine=0.9, statistics="gaussian")
    return Engine(loaded, runner, MASK_SCHEDULES["generate"])  # type: ignore[arg-type]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Imitated], None]:
    """Makes `Engine.open` give an engine with this runner."""

    def install(runner: Imitated) -> None:
        monkeypatch.setattr(Engine, "open", classmethod(lambda cls, *_, **__: engine_of(runner)))

    return install


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("v2f-")]


def smaller(runner: Runner, rows: int) -> Runner:
    return Imitated(batch_size=rows)


def test_a_gpu_s_self_test_runs_beside_generation(
    load: Callable[[Imitated], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Test and generation wait for each other: done one after the other, in either order, neither would end."""
    generating, testing = threading.Event(), threading.Event()
    met: list[bool] = []

    def on_batch() -> None:
        generating.set()
        met.append(testing.wait(WAIT_S))

    def small(runner: Runner, rows: int) -> Runner:
        testing.set()
        met.append(generating.wait(WAIT_S))
        return smaller(runner, rows)

    load(Imitated("cuda", on_batch=on_batch))
    monkeypatch.setattr(self_test, "with_rows", small)
    monkeypatch.setattr(generation, "WORTH_A_SELF_TEST", 2)
    report = generate(2, 20, tmp_path / "set", executor="inline")
    assert met
    assert all(met)
    assert report.self_test.startswith(
        "batch-invariant (batch 8; images of 8 that differ, by rows a call: 1: 0"
    )
    assert report.start_up.self_test > 0
    assert set(report.start_up.seconds) <= {*STAGES, "other"}
    assert {"import", "identities", "self-test begun", "first batch", "other"} <= set(report.start_up.seconds)
    assert 0 < sum(report.start_up.seconds.values()) < report.seconds
    assert report.start_up.steady_images_per_second > 0


def test_a_cpu_s_self_test_runs_when_generation_is_over(
    load: Callable[[Imitated], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []

    def small(runner: Runner, rows: int) -> Runner:
        order.append(f"test {threading.current_thread().name}")
        return smaller(runner, rows)

    load(Imitated(on_batch=lambda: order.append("batch")))
    monkeypatch.setattr(self_test, "with_rows", small)
    monkeypatch.setattr(generation, "WORTH_A_SELF_TEST", 2)
    report = generate(2, 20, tmp_path / "set", executor="inline")
    assert order == ["batch"] * 5 + ["test MainThread"] * 5
    assert report.self_test.startswith("batch-invariant")


def test_the_self_test_changes_no_byte_and_no_manifest(
    load: Callable[[Imitated], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(self_test, "with_rows", smaller)
    load(Imitated("cuda"))
    trees = []
    for name, worth in (("with", 2), ("without", 10**9)):
        monkeypatch.setattr(generation, "WORTH_A_SELF_TEST", worth)
        report = generate(2, 20, tmp_path / name, executor="inline")
        assert (report.self_test == "not measured") == (name == "without")
        folder = tmp_path / name
        trees.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert trees[0] == trees[1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_self_test_that_fails_says_why_and_costs_no_image(
    load: Callable[[Imitated], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str
) -> None:
    def broken(runner: Runner, rows: int) -> Runner:
        raise RuntimeError("no room for 1 row")

    load(Imitated(device))
    monkeypatch.setattr(self_test, "with_rows", broken)
    monkeypatch.setattr(generation, "WORTH_A_SELF_TEST", 2)
    report = generate(2, 20, tmp_path / "set", executor="inline")
    assert report.self_test == "not measured: RuntimeError: no room for 1 row"
    assert report.written == 40


def test_generation_that_fails_ends_the_self_test_and_keeps_its_own_error(
    load: Callable[[Imitated], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun, calls = threading.Event(), list[int]()

    class Slow(Imitated):
        def __call__(self, *inputs: Any) -> NDArray[np.uint8]:
            calls.append(len(inputs[0]))
            begun.set()
            time.sleep(0.05)
            return super().__call__(*inputs)

    def on_batch() -> None:
        assert begun.wait(WAIT_S)
        raise RuntimeError("the device is lost")

    load(Imitated("cuda", on_batch=on_batch))
    monkeypatch.setattr(self_test, "with_rows", lambda runner, rows: Slow(batch_size=rows))
    monkeypatch.setattr(generation, "WORTH_A_SELF_TEST", 2)
    with pytest.raises(RuntimeError, match="the device is lost"):
        generate(2, 20, tmp_path / "set", executor="inline")
    assert 1 <= len(calls) < 8 + 4 + 3 + 2 + 2  # calls of a whole test: rows 1, 2, 3, 4 and 7 of 8


# Kernels


def fake_compile(*hits: bool) -> None:
    """What Triton does at the end of each compilation."""
    from triton import knobs

    for hit in hits:
        if knobs.compilation.listener is not None:
            knobs.compilation.listener(src=None, metadata={}, metadata_group={}, times=None, cache_hit=hit)


def test_compiling_is_said_once_and_other_listeners_still_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton import knobs

    heard, said = list[bool](), list[str]()
    monkeypatch.setattr(knobs.compilation, "listener", lambda **told: heard.append(told["cache_hit"]))
    before = knobs.compilation.listener
    with compiling.watched(said.append) as kernels:
        fake_compile(True, True)
        assert said == []
        fake_compile(False, True, False)
        assert len(said) == 1
    assert "compiling kernels, once; they are kept in " in said[0]
    assert str(knobs.cache.dir) in said[0]
    assert (kernels.compiled, kernels.found) == (2, 3)
    assert heard == [True, True, False, True, False]
    assert knobs.compilation.listener is before
    with compiling.watched(said.append, on=False) as kernels:
        fake_compile(False)
    assert kernels.compiled == 0
    assert len(said) == 1


def test_generate_tells_of_compiling_where_it_was_asked_to(
    load: Callable[[Imitated], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    load(Imitated(on_batch=lambda: fake_compile(False)))
    generate(1, 8, tmp_path / "cpu", notify=said.append)
    assert said == []
    monkeypatch.setattr(generation, "_may_compile", lambda device: True)
    report = generate(1, 16, tmp_path / "gpu", notify=said.append)
    assert len(said) == 1
    assert report.start_up.compiled == 2


# The command


def test_the_command_prints_where_the_seconds_went_and_what_it_waits_for(
    load: Callable[[Imitated], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from v2f_engine.cli.main import app

    load(Imitated(on_batch=lambda: fake_compile(False)))
    monkeypatch.setattr(generation, "_may_compile", lambda device: True)
    asked = [
        "generate",
        "--ids",
        "2",
        "--images",
        "8",
        "--source",
        "gaussian",
        "--out",
        str(tmp_path / "set"),
    ]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert done.output.count("compiling kernels, once; they are kept in") == 1
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert lines == ["2", "identities", "published", "start-up", "then", "contact", "manifest"]
    assert "(2 kernels compiled, once)" in done.stdout

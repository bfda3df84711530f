"""Threads that sleep while they wait where others run, and as many as the machine allows: `v2f_engine.threads` and
`v2f_engine.runtime.shared_cores`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from v2f_engine.runtime import shared_cores
from v2f_engine.runtime.shared_cores import SharedCores, Taken
from v2f_engine.threads import COUNT, LOOKS, WAITING, Cores, others_run, settle

ROOT = Path(__file__).parents[1]
SPINS = WAITING["GOMP_SPINCOUNT"]


def child(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a process in which nothing but `variables` says how threads wait."""
    clean = {name: value for name, value in os.environ.items() if name not in (COUNT, *WAITING)}
    paths = f"{ROOT}:{ROOT / 'kernels'}"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": paths, "OMP_DISPLAY_ENV": "VERBOSE", **variables},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def neighbour() -> Iterator[None]:
    """Somebody else who is running."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        yield
        busy.kill()


def said_by_openmp(stderr: str, name: str) -> set[str]:
    """What the OpenMP libraries that were loaded say of `name`: the variables as they understood them."""
    lines = (line.replace("[host]", "").strip() for line in stderr.splitlines())
    return {line.partition("=")[2].strip().strip("'").upper() for line in lines if line.startswith(name)}


@pytest.mark.usefixtures("neighbour")
def test_openmp_itself_says_that_its_threads_sleep_beside_others() -> None:
    """The library that torch brings is asked, not our variables."""
    done = child("import v2f_engine, torch; torch.ones(9).sum(); import v2f_engine.data.formats")
    assert said_by_openmp(done.stderr, "GOMP_SPINCOUNT") == {SPINS}
    unset = child("import torch; torch.ones(9).sum()")
    assert said_by_openmp(unset.stderr, "GOMP_SPINCOUNT") == {"300000"}  # 3 ms: what is being mended


@pytest.mark.usefixtures("neighbour")
def test_the_compiled_kernels_wait_alike() -> None:
    done = child("import v2f_engine; from v2f_kernels import _native")
    assert said_by_openmp(done.stderr, "GOMP_SPINCOUNT") == {SPINS}


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "4711")])
def test_what_the_user_has_set_stays(name: str, value: str) -> None:
    done = child("import v2f_engine, torch; torch.ones(9).sum()", **{name: value})
    assert said_by_openmp(done.stderr, name) == {value}
    assert said_by_openmp(done.stderr, "GOMP_SPINCOUNT") != {
        SPINS
    }  # the other variable is left alone as well


def test_a_process_that_loaded_torch_first_is_told_so() -> None:
    done = child("import torch, v2f_engine.threads as t; print(t.settled().waiting)")
    assert "torch was loaded first" in done.stdout


@pytest.mark.usefixtures("neighbour")
def test_a_child_process_inherits_it() -> None:
    done = child(
        "import v2f_engine, subprocess, sys; subprocess.run([sys.executable, '-c', "
        "'import torch; torch.ones(9).sum()'], check=True)"
    )
    assert said_by_openmp(done.stderr, "GOMP_SPINCOUNT") == {SPINS}


def test_affinity_is_what_torch_takes() -> None:
    core = min(os.sched_getaffinity(0))
    done = child(
        f"import os; os.sched_setaffinity(0, {{{core}}}); import v2f_engine, torch; print(torch.get_num_threads())"
    )
    assert done.stdout.split() == ["1"]


@pytest.mark.parametrize(
    ("cores", "environment", "count"),
    [
        (Cores(8, None), {}, None),
        (Cores(8, 16.0), {}, None),
        (Cores(8, 3.0), {}, "3"),
        (Cores(8, 1.5), {}, "1"),
        (Cores(8, 0.25), {}, "1"),
        (Cores(8, 2.0), {COUNT: "5"}, "5"),
    ],
)
def test_a_quota_limits_the_threads_unless_the_user_says_otherwise(
    cores: Cores, environment: dict[str, str], count: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "v2f_kernels._C"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    variables = dict(environment)
    settle(variables, cores, shared=lambda: True)
    assert variables.get(COUNT) == count
    assert {name: variables[name] for name in WAITING} == WAITING


def cgroup(root: Path, line: str, **files: str) -> float | None:
    """The quota seen where /proc/self/cgroup holds `line` and /sys/fs/cgroup those files (`a__b` is a/b)."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line + "\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return Cores.look(root).quota


def test_version_2_takes_the_smallest_of_a_group_and_its_parents(tmp_path: Path) -> None:
    found = cgroup(
        tmp_path,
        "0::/jobs/one",
        jobs__cpu_DOT_max="150000 100000",
        jobs__one__cpu_DOT_max="400000 100000",
    )
    assert found == 1.5


def test_version_2_inside_a_container_whose_group_has_another_name_outside(tmp_path: Path) -> None:
    assert cgroup(tmp_path, "0::/docker/0f3a", cpu_DOT_max="200000 100000") == 2.0


def test_version_2_without_a_limit(tmp_path: Path) -> None:
    assert cgroup(tmp_path, "0::/", cpu_DOT_max="max 100000") is None


def test_version_1(tmp_path: Path) -> None:
    found = cgroup(
        tmp_path,
        "4:cpu,cpuacct:/docker/0f3a",
        **{
            "cpu,cpuacct__cpu_DOT_cfs_quota_us": "50000",
            "cpu,cpuacct__cpu_DOT_cfs_period_us": "100000",
        },
    )
    assert found == 0.5


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    assert (
        cgroup(tmp_path, "1:cpu:/", cpu__cpu_DOT_cfs_quota_us="-1", cpu__cpu_DOT_cfs_period_us="100000")
        is None
    )


def test_a_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert Cores.look(tmp_path).quota is None


def alone(monkeypatch: pytest.MonkeyPatch, *, shared: bool) -> dict[str, str]:
    """What is set in a process that has loaded nothing, with and without others."""
    for name in ("torch", "v2f_kernels._C"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    variables: dict[str, str] = {}
    settle(variables, Cores(8, None), lambda: shared)
    return variables


def test_threads_spin_only_where_nobody_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert alone(monkeypatch, shared=True) == WAITING
    assert alone(monkeypatch, shared=False) == {}


@pytest.mark.parametrize(
    ("text", "others"), [("0.1 0.2 0.3 1/97 811\n", False), ("0 0 0 3/97 811\n", True), ("", True)]
)
def test_who_is_running_is_what_the_system_says(tmp_path: Path, text: str, others: bool) -> None:
    (tmp_path / "loadavg").write_text(text)
    assert others_run(tmp_path / "loadavg") is others


def test_a_system_that_does_not_say_counts_as_shared(tmp_path: Path) -> None:
    assert others_run(tmp_path / "nothing") is True


def test_somebody_who_is_gone_at_the_next_look_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ["0 0 0 2/97 811"] * (LOOKS - 1) + ["0 0 0 1/97 811"]
    monkeypatch.setattr(Path, "read_text", lambda self: told.pop(0))
    assert others_run() is False
    assert not told


class Others:
    """A machine of `cores` on which others take so many cores, in a second for each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
        self.taken, self.own, self.cores, self.now, self.by_all = 0.0, 1.5, cores, 100.0, 0.0
        monkeypatch.setattr(shared_cores.time, "monotonic", lambda: self.now)

    def look(self) -> Taken:
        return Taken(self.now, self.by_all, self.by_own)

    @property
    def by_own(self) -> float:
        return (self.now - 100.0) * self.own

    def passes(self, seconds: float, others: float) -> None:
        self.now += seconds
        self.by_all += seconds * (others + self.own)


def threads_of(shared: SharedCores) -> int:
    """With how many a batch is made, the last time it is made."""
    used: list[int] = []

    def batch() -> torch.Tensor:
        used.append(torch.get_num_threads())
        return torch.ones(3)

    shared.run(batch)
    return used[-1]


@pytest.fixture
def eight_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("eight_threads")
@pytest.mark.parametrize(
    ("others", "threads"), [(0.0, 8), (0.25, 8), (0.5, 7), (1.0, 7), (5.9, 2), (8.0, 1), (30.0, 1)]
)
def test_as_many_threads_as_find_a_core_free(
    others: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Others(monkeypatch, cores=8)
    shared = SharedCores(8, 8, machine.look)
    assert threads_of(shared) == 8
    machine.passes(0.4, others)
    assert threads_of(shared) == 8  # too soon to say
    machine.passes(0.4, others)
    assert threads_of(shared) == threads
    assert torch.get_num_threads() == 8  # torch's own number is as before
    machine.passes(1, 0.0)
    assert threads_of(shared) == 8  # they went


@pytest.mark.usefixtures("eight_threads")
def test_the_number_stays_where_it_would_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Others(monkeypatch, cores=8)
    shared = SharedCores(8, 8, machine.look)
    made: list[int] = []

    def batch() -> torch.Tensor:
        made.append(torch.get_num_threads())
        return torch.tensor([float(made[-1])])

    for _ in range(3):
        machine.passes(1, 6.0)
        assert shared.run(batch).item() == 8
    assert made == [8, 2, 8, 8]


def test_a_number_that_the_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (COUNT, *WAITING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert SharedCores.of_this_process(torch.device("cpu")).most == 4
    assert SharedCores.of_this_process(torch.device("meta")).most == 1
    for name in (COUNT, *WAITING):
        with monkeypatch.context() as patch:
            patch.setenv(name, "3")
            assert SharedCores.of_this_process(torch.device("cpu")).most == 1


def test_what_the_system_counts_is_ours_and_others() -> None:
    before = shared_cores.look()
    assert before is not None
    sum(range(3_000_000))
    after = shared_cores.look()
    assert after is not None
    assert after.own > before.own
    assert after.all >= before.all
    assert after.at > before.at


def test_only_the_cores_of_the_affinity_mask_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "cpu  900 9 900 9 9 9 9 0 0 0",
        "cpu0 100 20 30 4000 500 6 7 8 0 0",
        "cpu1 1000 1 1 1 1 1 1 1 1 1",
    ]
    (tmp_path / "stat").write_text("\n".join([*lines, "intr 5 5"]) + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: {0})
    taken = shared_cores.look(tmp_path / "stat")
    assert taken is not None
    assert taken.all == pytest.approx((100 + 20 + 30 + 6 + 7) / os.sysconf("SC_CLK_TCK"))
    assert shared_cores.look(tmp_path / "nothing") is None

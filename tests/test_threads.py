"""Threads that sleep while they wait, and as many as the machine allows: `v2f_engine.threads`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from v2f_engine.threads import COUNT, WAITING, Cores, settle

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


def said_by_openmp(stderr: str, name: str) -> set[str]:
    """What the OpenMP libraries that were loaded say of `name`: the variables as they understood them."""
    lines = (line.replace("[host]", "").strip() for line in stderr.splitlines())
    return {line.partition("=")[2].strip().strip("'").upper() for line in lines if line.startswith(name)}


def test_openmp_itself_says_that_its_threads_sleep() -> None:
    """The library that torch brings is asked, not our variables."""
    done = child("import v2f_engine, torch; torch.ones(9).sum(); import v2f_engine.data.formats")
    assert said_by_openmp(done.stderr, "GOMP_SPINCOUNT") == {SPINS}
    unset = child("import torch; torch.ones(9).sum()")
    assert said_by_openmp(unset.stderr, "GOMP_SPINCOUNT") == {"300000"}  # 3 ms: what is being mended


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
    settle(variables, cores)
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

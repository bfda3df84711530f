"""`make gpu` rehearsed on a CPU: every stage's code runs, and no death costs what was written before or beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import __main__ as command
from bench.gpu import faults, planning, report, stages
from bench.gpu.store import FILE, Store, read, unpacked
from bench.kernels import ops
from bench.kernels.cases import cases
from v2f_engine.backends import TABLE, TUNED, op_named

BOUND = tuple(op for op, row in TABLE.items() if TUNED in row)
"""The ops that a network binds."""
ROOT = Path(__file__).resolve().parents[1]
LADDER = (
    "1 published style, eager fp32",
    "2 no gradients, half precision, channels-last",
    "4b the folds alone",
)


def start(folder: Path, *options: str, fault: dict[str, str] | None = None) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
        "V2F_TEST": str(folder),
        faults.VARIABLE: json.dumps(fault or {}),
    }
    call = [sys.executable, "-m", "bench.gpu", "--rehearse", "--out", str(folder), *options]
    return subprocess.Popen(call, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of_a_hang(folder: Path) -> list[int]:
    """Processes that an injected hang of this test left behind: they ignore SIGTERM and sleep."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words, mine = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            ours = f"V2F_TEST={folder}\0".encode() in mine
            if ours and b"signal.SIG_IGN); time.sleep(1000)" in words and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_the_rehearsal_runs_every_stage_and_loses_nothing_to_three_deaths(tmp_path: Path) -> None:
    """One job kills itself after its first row, one poisons its context between two checks, one rung hangs."""
    fault = {
        "batches/batch sizes": "kill@1",
        "correctness/attention": "poison@5",  # of eight rows: the second process has two left
        f"ladder/{LADDER[1]}": "hang",
        f"ladder/{LADDER[2]}": "poison",
    }
    began = time.monotonic()
    child = start(tmp_path, "--at-most", "18", "--minutes", "6", fault=fault)
    out, _ = child.communicate(timeout=420)
    took = time.monotonic() - began
    table = json.loads((tmp_path / "gpu.json").read_text())
    rows = {(row["section"], row["case"], row["contender"]): row for row in table["rows"]}
    failed = {key: row["check"] for key, row in rows.items() if not row["passed"]}

    # Exactly the injected deaths failed, each in its own words, and the exit status says so.
    assert child.returncode == 1, out
    killed = failed.pop(("batches", "the job", "batches/batch sizes"))
    assert "killed by SIGKILL" in killed
    hung = failed.pop(("ladder, device only", "batch 2", LADDER[1]))
    assert hung.startswith("hung: killed after 18")
    poisoned = failed.pop(("ladder, device only", "batch 2", LADDER[2]))
    assert faults.WORDS in poisoned
    attention = {key: words for key, words in failed.items() if "attention" in key[1]}
    assert len(attention) == 1, failed  # the check that met the poison; the rest went on in another process
    assert faults.WORDS in next(iter(attention.values()))
    assert failed == attention
    assert children_of_a_hang(tmp_path) == []

    # Rows written before a death, and beside it, are all there.
    assert ("batch sizes", "batch 1", "4b the folds alone") in rows
    assert rows["ladder, device only", "batch 2", LADDER[0]]["timing"]
    raw = [unpacked(r["row"]) for r in read(tmp_path / FILE) if r["kind"] == "row"]
    checks = [row for row in raw if row.section == "correctness" and row.case.startswith("attention")]
    wanted = sum(
        (1 + bool(case.gradients)) * len(ops.contenders(case, "cpu")[0])
        for case in cases("tiny")
        if case.op == "attention"
    )
    assert len(checks) == len({row.case for row in checks}) == wanted
    assert sum(row.passed for row in checks) == wanted - 1

    # All stages ran, and within the plan.
    sections = {row["section"] for row in table["rows"]}
    assert {"correctness", "training step", "shares of a step", "device time, generation"} <= sections
    assert {"device time, a training step", "batch sizes", "ladder, bytes on the host"} <= sections
    assert "choice of backends" in sections
    assert all(
        any(op in row["case"] for row in table["rows"] if row["section"] == "correctness") for op in BOUND
    )
    assert set(table["ceilings"]) == {"copy bytes/s", "matmul FLOP/s"}
    assert "NOT a measurement" in table["title"]
    assert any("needs a GPU" in note for note in table["notes"])
    assert any(
        "no NVIDIA GPU" in note for note in table["notes"]
    )  # tests/gpu went through pytest and were skipped
    assert took < 360
    assert str(ROOT) not in (tmp_path / FILE).read_text() + (tmp_path / "gpu.md").read_text()
    assert len(list(tmp_path.iterdir())) <= 8
    for name in ("torch", "triton", "commit", "time"):
        assert table["environment"][name]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_is_ended_leaves_what_was_told_and_no_process(
    tmp_path: Path, how: signal.Signals
) -> None:
    name = f"ladder/{LADDER[1]}"
    child = start(tmp_path, "--only", "ceilings", "--only", "ladder", fault={name: "hang"})
    deadline = time.monotonic() + 120
    while not children_of_a_hang(tmp_path):  # the second rung is reached, the first has written
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(child.pid, how)
    child.communicate()
    assert child.returncode == (-9 if how is signal.SIGKILL else 1)
    assert (tmp_path / "gpu.json").exists() == (how is signal.SIGTERM)  # which leaves time for the report
    assert command.main(["--report", str(tmp_path)]) == 1
    table = json.loads((tmp_path / "gpu.json").read_text())
    timed = [row["contender"] for row in table["rows"] if row["timing"]]
    assert timed == [LADDER[0]]
    assert set(table["ceilings"]) == {"copy bytes/s", "matmul FLOP/s"}
    cut = next(row for row in table["rows"] if row["section"] == "run")
    assert cut["check"] == f"cut off: 2 of 4 jobs were over; next: {name}"
    for pid in children_of_a_hang(
        tmp_path
    ):  # the hung job died with its parent; what it had started is ours to end
        os.kill(pid, signal.SIGKILL)


def test_a_fresh_python_a_job_gives_the_same_rows(tmp_path: Path) -> None:
    """The way taken where CUDA does not bear a fork."""
    child = start(tmp_path, "--only", "ceilings", "--fresh")
    out, _ = child.communicate(timeout=240)
    assert child.returncode == 0, out
    table = json.loads((tmp_path / "gpu.json").read_text())
    assert set(table["ceilings"]) == {"copy bytes/s", "matmul FLOP/s"}


@pytest.mark.slow
def test_the_longer_stages_rehearse(tmp_path: Path) -> None:
    """`compiled` with the tracer alone: that the whole network becomes one graph is what a CPU can show."""
    child = start(tmp_path, "--only", "steady", "--only", "compiled", "--only", "kernels")
    out, _ = child.communicate(timeout=240)
    assert child.returncode == 0, out
    table = json.loads((tmp_path / "gpu.json").read_text())
    names = {row["contender"] for row in table["rows"] if row["passed"] and row["timing"]}
    assert "13 the folds, whole network under torch.compile max-autotune" in names
    assert any("14 rung 6" in note and "needs a GPU" in note for note in table["notes"])
    steadied = [row for row in table["rows"] if row["section"].startswith("steady state")]
    assert len(steadied) == 2
    assert all("energy not measured: cpu has no NVML" in row["check"] for row in steadied)
    assert {f"{op}, forward" for op in BOUND} <= {row["section"] for row in table["rows"]}


def test_what_forks_jobs_never_asks_for_a_gpu() -> None:
    """CUDA cannot be used in a process forked from one that has initialised it."""
    script = (
        "import torch\n"
        "def asked(*_): raise SystemExit('asked for a GPU')\n"
        "torch.cuda.is_available = torch.cuda.init = torch.cuda._lazy_init = asked\n"
        "import os, threading\n"
        "from bench.gpu import __main__, inference, planning\n"
        "planning.planned([], False, 480, 12)\n"
        "inference.network(True)\n"
        "assert threading.active_count() == 1\n"
        "assert os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] == '1'\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0


def test_a_bare_machine_gets_a_plan_and_is_told_what_it_lacks() -> None:
    script = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Bare:\n"
        "    lacking = {'pytest', 'msgpack', 'simplejpeg', 'matplotlib', 'PIL', 'typer', 'tqdm', 'nvtx', 'lmdb'}\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        return None if name.partition('.')[0] in cls.lacking else PathFinder.find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Bare\n"
        "from bench.gpu import inference, others, planning, report\n"
        "plan = planning.planned([], False, 480, 12)\n"
        "print(*(job.name for job in plan.jobs), *plan.notes, sep='\\n')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", script]
    done = subprocess.run(call, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert {f"correctness/{op}" for op in BOUND} <= set(lines)
    assert "ladder/8 what backends.choose takes, CUDA graph" in lines
    assert "tests/gpu: pytest is not installed here; every op is judged without it" in lines
    assert any(line.startswith("training/6 one CUDA graph") for line in lines)  # its data is made, not read


def test_the_plan_fits_eight_minutes_of_sixteen_cores_and_shorter_ones_keep_the_most_valuable() -> None:
    wide = planning.width(16)
    plan = planning.planned([], False, 480, wide)
    assert planning.wall(plan.jobs, wide) <= 480 - planning.REPORT_S
    stages_kept = {job.stage for job in plan.jobs}
    assert stages_kept >= {"correctness", "ladder", "profile", "training", "rejection", "sizes"}
    assert {
        "choice/backends by shape",
        "choice/upper levels in chunks",
        "choice/8-bit convolutions",
        "sizes/host and null writer",
    } <= {job.name for job in plan.jobs}
    assert plan.spare[-1].name == "search/launches by shape"  # it takes what is left
    names = [job.name for job in (*plan.jobs, *plan.spare)]
    assert len(names) == len(set(names))
    before = planning.wall(plan.jobs, wide)
    for minutes in (6, 4, 2):
        fewer = planning.planned([], False, 60 * minutes, wide)
        assert planning.wall(fewer.jobs, wide) <= 60 * minutes - planning.REPORT_S
        assert {job.name for job in (*fewer.jobs, *fewer.spare)} == set(names)
        kept = planning.wall(fewer.jobs, wide)  # seconds: of jobs there may be as many, side by side
        assert 0 < kept < before
        before = kept
        assert fewer.jobs[0].stage == "correctness"
        assert all(f"if time is left: {job.name}" in str(fewer) for job in fewer.spare)


def test_spare_jobs_run_if_time_is_left_and_are_named_if_not(tmp_path: Path) -> None:
    child = start(tmp_path, "--only", "ceilings", "--only", "rejection", "--minutes", "0.25")
    child.communicate(timeout=120)
    records = [record for record in read(tmp_path / FILE) if record["kind"] in ("job", "note")]
    over = {record["job"] for record in records if record["kind"] == "job"}
    missed = {record["job"] for record in records if record.get("text", "").startswith("not reached")}
    plan = planning.planned(["ceilings", "rejection"], True, 15, 2)
    assert plan.spare
    assert over | missed == {job.name for job in (*plan.jobs, *plan.spare)}
    assert not over & missed


def test_every_test_for_a_gpu_is_in_exactly_one_shard() -> None:
    from bench.gpu.pytest_rows import shard_of

    nodes = [*(f"a.py::one[{i}]" for i in range(13)), "a.py::two", *(f"a.py::four[{i}]" for i in range(3))]
    for of in (1, 2, 5, 7):
        parts = [shard_of(nodes, shard, of) for shard in range(of)]
        assert sorted(index for part in parts for index in part) == list(range(len(nodes)))
        assert max(map(len, parts)) - min(map(len, parts)) <= 4
    files = {path.name for path in (ROOT / "tests" / "gpu").glob("test_*.py")}
    jobs = stages.test_jobs(sorted((ROOT / "tests" / "gpu").glob("test_*.py")), "correctness")
    assert {Path(job.arguments["path"]).name for job in jobs} == files
    for name in files:
        mine = [job.arguments for job in jobs if Path(job.arguments["path"]).name == name]
        assert sorted(a["shard"] for a in mine) == list(range(mine[0]["of"]))


def test_a_test_that_kills_its_process_is_blamed_and_the_others_run(tmp_path: Path) -> None:
    """Through the plugin, in a process that runs jobs, as on a card."""
    file = tmp_path / "test_deadly.py"
    file.write_text(
        "import os, signal, pytest\n"
        "@pytest.mark.parametrize('n', range(4))\n"
        "def test_number(n):\n"
        "    if n == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    assert n != 2, 'two'\n"
        "def test_last(): pass\n"
    )
    script = (
        "import sys, time, pathlib\n"
        "from bench.gpu.job import Job\nfrom bench.gpu.launch import Launcher\nfrom bench.gpu.store import Store\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "job = Job('correctness/deadly', 'correctness', 'correctness:tests', "
        "{'path': sys.argv[2], 'shard': 0, 'of': 1}, 5.0, 60.0, False, 4)\n"
        "Launcher(Store(folder / 'rows.jsonl', 'r'), folder, 'cpu', True, time.time() + 60, 2).run([job])\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", script, str(tmp_path), str(file)]
    subprocess.run(call, check=True, env=environment, cwd=ROOT, timeout=120)
    rows = [unpacked(r["row"]) for r in read(tmp_path / FILE) if r["kind"] == "row"]
    found = {row.case.rpartition("::")[2]: row for row in rows}
    assert {name: row.passed for name, row in found.items()} == {
        "test_number[0]": True,
        "test_number[1]": False,
        "test_number[2]": False,
        "test_number[3]": True,
        "test_last": True,
    }
    assert "SIGKILL" in found["test_number[1]"].check
    assert "two" in found["test_number[2]"].check


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE, "r")
    store.add("note", text="before")
    with store.path.open("ab") as file:
        file.write(b'{"kind": "row", "ru')  # killed in the middle of a write
    store.add("note", text="after /a/folder/of/this/machine.py")
    assert [record["text"] for record in read(store.path)] == ["before", "after machine.py"]


def test_runs_of_another_commit_are_not_told_together(tmp_path: Path) -> None:
    from bench.gpu.store import packed
    from bench.protocol import Row

    for run, commit, passed in (("a", "1", True), ("b", "2", False), ("c", "2", True)):
        store = Store(tmp_path / FILE, run)
        store.add("run", environment={"commit": commit}, rehearsal=True, plan=[])
        store.add("row", job="j", row=packed(Row("s", "both", "x", passed, run)))
        store.add("row", job="j", row=packed(Row("s", f"only {run}", "x", True, run)))
        store.add("end")
    made = report.make(tmp_path)
    assert sorted((row.case, row.check) for row in made.rows) == [
        ("both", "c"),
        ("only b", "b"),
        ("only c", "c"),
    ]
    assert any("1 runs" in note for note in made.notes)


@pytest.mark.parametrize("op", ["attention", "group_norm_silu", "to_uint8"])
def test_a_wrong_kernel_fails_its_check_and_gets_no_time(op: str) -> None:
    case = next(case for case in cases("tiny") if case.op == op)
    torch_form = op_named(op).backend("torch")

    def wrong(*args: object, **kwargs: object) -> torch.Tensor:
        made: torch.Tensor = torch_form(*args, **kwargs)
        return made + 2 if made.dtype == torch.uint8 else made * 1.001

    inputs = case.inputs(0, "cpu", torch.float32)
    assert ops.compare(case, ops.run_forward, torch_form, inputs)[0]
    assert not ops.compare(case, ops.run_forward, wrong, inputs)[0]


def test_without_a_gpu_nothing_is_run_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("about machines without a GPU")
    assert command.main(["--out", str(tmp_path / "never")]) == 2
    assert "Nothing was run" in capsys.readouterr().out
    assert not (tmp_path / "never").exists()

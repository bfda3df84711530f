"""Faults in numbers: kills, power loss, flipped bits, a full disk, a resumed run. Each test prints its count."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from stub_people import make_batches, tree

from v2f_engine.data import Encoder, Plan, repair_dataset, verify_dataset, write_dataset
from v2f_engine.data.records.manifest import Manifest, software_versions
from v2f_engine.data.writing import contact_sheet
from v2f_engine.errors import DatasetError
from v2f_engine.scale.identity import Worker
from v2f_engine.scale.job import Limits
from v2f_engine.scale.queue import ShardQueue

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FORMATS = ("webdataset", "imagefolder", "lmdb", "recordio", "parquet")


def script(name: str, *arguments: object, before: tuple[str, ...] = ()) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    command = [*before, sys.executable, str(HERE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(said)
    return said


def test_every_way_gives_the_same_shards() -> None:
    said = script("queue_harness.py", "combinations")
    assert said["combinations"] >= 50
    assert said["wrong"] == []


def test_a_worker_killed_at_each_operation() -> None:
    said = script("queue_harness.py", "operations")
    assert said["kills"] >= said["operations"] - 5  # a worker that starts late may need a few looks less
    assert (said["unequal"], said["most_remade"]) == (0, 1)


def test_a_killed_coordinator() -> None:
    said = script("queue_harness.py", "coordinator", 10, 4)
    assert said["kills"] >= 5
    assert said["unequal"] == 0


def test_sigterm_finishes_the_shards_in_hand() -> None:
    said = script("queue_harness.py", "terminate")
    assert said["status"] == -15  # as a shell expects of a terminated process
    assert 3 <= said["begun"] == said["committed"] < 24
    assert said["equal"]


def test_a_storm_of_kills_ends_by_itself() -> None:
    said = script("queue_harness.py", "storm", 25, 1)
    assert said["kills"] + said["stops"] == 25
    assert said["unequal"] == 0
    assert said["most_remade_over_kills"] <= 0  # at most one shard made again for each kill


@pytest.mark.slow
def test_a_long_storm_of_kills() -> None:
    said = script("queue_harness.py", "storm", 200, 5)
    assert (said["kills"] + said["stops"], said["unequal"]) == (200, 0)
    assert said["most_remade_over_kills"] <= 0


@pytest.mark.parametrize("format", ["webdataset", "lmdb"])
def test_power_loss(format: str) -> None:
    said = script("power_loss.py", format, 120, 3)
    assert said["accepted"] > 60
    assert (said["wrong"], said["by_name"], said["unequal"], said["refused"]) == (0, 0, 0, 0)


def test_the_power_loss_model_would_notice() -> None:
    """Without fsync, files stand under their names with wrong bytes; hashes still keep them out."""
    said = script("power_loss.py", "webdataset", 100, 3, "careless")
    assert said["by_name"] > 10
    assert said["wrong"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_power_loss_at_length(format: str) -> None:
    said = script("power_loss.py", format, 2100, 7)
    assert said["states"] == 2100
    assert (said["wrong"], said["unequal"], said["refused"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_thousand_random_kills(format: str) -> None:
    said = script("../data/crash_harness.py", format, 0, 300, 11)
    assert said["points"] == said["operations"]
    assert (said["unequal"], said["torn"]) == (0, 0)


@pytest.mark.slow
def test_the_real_command_killed_twenty_times() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "kill_generate.py"), "20", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def flips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> dict[str, int]:
    """Flips one random bit of a random file, verifies, repairs, compares; `count` times over all formats."""
    monkeypatch.setattr(contact_sheet, "ROWS", 1)
    monkeypatch.setattr(contact_sheet, "COLUMNS", 1)
    dice = random.Random(seed)
    said = {"flipped": 0, "found": 0, "repaired": 0, "manifests": 0}
    encoder = Encoder(quality=80)
    for format in FORMATS:
        root = tmp_path / format
        write_dataset(root, {}, Plan.of(3, 2, 2), make_batches(2), format=format, encoder=encoder)
        whole = tree(root)
        listed = {piece.name for s in Manifest.load(root / "manifest.json").shards for piece in s.pieces}
        listed |= {piece.name for piece in Manifest.load(root / "manifest.json").files} | {"manifest.json"}
        files = [
            p
            for p in root.rglob("*")
            if p.is_file() and any(str(p.relative_to(root)).startswith(n) for n in listed)
        ]
        for _ in range(count // len(FORMATS)):
            path = dice.choice(sorted(files))
            data = bytearray(path.read_bytes())
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            path.write_bytes(data)
            said["flipped"] += 1
            if path.name == "manifest.json":
                with pytest.raises(DatasetError, match=r"manifest\.json"):
                    verify_dataset(root)
                said["found"] += 1
                said["manifests"] += 1
            else:
                said["found"] += not verify_dataset(root).ok
            repair_dataset(root, make_batches(2), encoder)
            said["repaired"] += tree(root) == whole
    print(said)
    return said


def test_flipped_bits_are_found_and_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = flips(tmp_path, monkeypatch, 60, 1)
    assert said["found"] == said["flipped"] == 60
    assert said["repaired"] == 60


@pytest.mark.slow
def test_a_thousand_flipped_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = flips(tmp_path, monkeypatch, 1000, 2)
    assert said["found"] == said["flipped"] == 1000
    assert said["repaired"] == 1000


def test_a_real_full_disk(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    probe = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o size=4m tmpfs {tmp_path}"]
    if unshare is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    said = script("small_disk.py", tmp_path, before=("unshare", "-rm"))
    assert said["failed"]
    assert said["exit_code"] != 0
    assert "bytes) more needed" in said["message"]
    assert "bytes) free" in said["message"]
    assert said["old_intact"]
    assert 0 < said["shards_before"] < 10
    assert said["equal"]


def test_a_million_shards_are_planned_at_once(tmp_path: Path) -> None:
    plan = Plan(1_000_000, 1, 1)
    started = time.perf_counter()
    queue = ShardQueue(tmp_path, plan, Worker.here(), Limits())
    queue.make()
    taken = [queue.claim() for _ in range(3)]
    seconds = time.perf_counter() - started
    print(f"{plan.shards:,} shards planned and three claimed in {seconds:.2f} s")
    assert taken == [0, 1, 2]
    assert seconds < 5


def test_leases_of_the_dead_and_the_silent(tmp_path: Path) -> None:
    plan = Plan(3, 1, 1)
    dead = ShardQueue(tmp_path, plan, Worker("dead", Worker.here().machine, 2**22 + 5, 1), Limits())
    far = ShardQueue(tmp_path, plan, Worker("far", "another machine", 1, 1), Limits())
    mine = ShardQueue(tmp_path, plan, Worker.here("mine"), Limits(lease_s=0.3, poll_s=0.1, crashes=2))
    dead.make()
    assert (far.claim(), dead.claim()) == (0, 1)
    assert mine.claim() == 1  # its process is not there: taken over at once
    assert not dead.holds(1)
    assert mine.claim() == 2
    assert mine.claim() is None  # the far worker may be alive
    deadline = time.monotonic() + 20
    while (taken := mine.claim()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert taken == 0  # and is given up after lease_s of silence
    assert not far.holds(0)
    far.release(0)
    assert mine.holds(0)  # a worker that wakes up late does not take the lease away
    mine.fail(1, "no")
    assert mine.poisoned() == [1]
    assert mine.reasons(1) == ["died", "no"]
    (mine.leases / "000002").write_bytes(b"broken")
    time.sleep(0.5)
    deadline = time.monotonic() + 20
    while (taken := mine.claim()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert taken == 2


def test_what_a_manifest_names_is_checked(tmp_path: Path) -> None:
    from v2f_engine.scale.shard import encoder_of

    plan = Plan.of(2, 2, 2)
    encoder = Encoder(quality=80).describe()
    good = Manifest("webdataset", {}, plan, encoder, {}, software_versions())
    assert encoder_of(good) == Encoder(quality=80)
    other = Manifest("webdataset", {}, plan, {**encoder, "version": "0.0.1"}, {}, software_versions())
    with pytest.raises(DatasetError, match=r"0\.0\.1.*gives other bytes"):
        encoder_of(other)

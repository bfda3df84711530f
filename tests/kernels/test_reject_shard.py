"""Rejection divided over processes: everyone gets the whole answer and holds a part of the accepted vectors."""

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from v2f_kernels.reject_similar import OP, Kept
from v2f_kernels.reject_similar.shard import Shard

pytest.importorskip("v2f_kernels._C", reason="the compiled extension is not built")
reference, native = OP.backend("reference"), OP.backend("native")


def clustered(n, d, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // 8, d), dtype=np.float32)
    return centres[rng.integers(0, len(centres), n)] + 0.7 * rng.standard_normal((n, d), dtype=np.float32)


class Threads:
    """The all-reduce of as many threads as there are shards."""

    def __init__(self, size):
        self.size, self.barrier, self.flags = size, threading.Barrier(size, timeout=60), [None] * size

    def shard(self, rank):
        def unite(flags):
            self.flags[rank] = flags.copy()
            self.barrier.wait()
            np.maximum.reduce(self.flags, out=flags)
            self.barrier.wait()

        return Shard(rank, self.size, unite)


@pytest.mark.parametrize(("size", "block"), [(1, 100), (2, 64), (3, 37), (3, 5000)])
def test_every_process_gets_the_whole_answer(size, block):
    vectors = clustered(700, 40)
    expected = reference(vectors, 0.4)
    threads = Threads(size)
    stores = [Kept(40) for _ in range(size)]

    def run(rank, shard):
        first = native(vectors[:300], 0.4, kept=stores[rank], block=block, threads=1, shard=shard)
        second = native(vectors[300:], 0.4, kept=stores[rank], block=block, threads=1, shard=shard)
        return np.concatenate([first, 300 + second])

    with ThreadPoolExecutor(size) as pool:
        answers = list(pool.map(run, range(size), [threads.shard(r) for r in range(size)]))
    for answer in answers:
        assert np.array_equal(answer, expected)
    held = np.concatenate([s.vectors for s in stores])
    assert np.array_equal(np.unique(held, axis=0), np.unique(vectors[expected], axis=0))
    assert len(held) == len(expected)


def test_a_rank_outside_is_refused():
    with pytest.raises(ValueError, match=r"rank must lie in \[0, 2\)"):
        Shard(2, 2, lambda flags: None)


def test_under_torch_distributed(tmp_path):
    code = textwrap.dedent(
        """
        import sys
        import numpy as np
        from torch import distributed
        from v2f_kernels.reject_similar import OP, Kept
        from v2f_kernels.reject_similar.shard import Shard

        rank = int(sys.argv[1])
        distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/rendezvous", rank=rank, world_size=2)
        rows = np.load(sys.argv[2] + "/rows.npy")
        kept, shard = Kept(32), Shard.of_group()
        parts = [rows[:200], rows[200:]]  # a second call extends the divided state
        first, second = [
            OP.backend("native")(part, 0.4, kept=kept, block=50, threads=1, shard=shard) for part in parts
        ]
        np.save(f"{sys.argv[2]}/{rank}.npy", np.concatenate([first, 200 + second]))
        np.save(f"{sys.argv[2]}/held{rank}.npy", kept.vectors)
        distributed.barrier()  # gloo aborts a rank whose peer ends first
        distributed.destroy_process_group()
        """
    )
    rows = clustered(500, 32)
    np.save(tmp_path / "rows.npy", rows)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'kernels'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    expected = reference(rows, 0.4)
    assert np.array_equal(native(rows, 0.4), expected)
    for rank in range(2):
        assert np.array_equal(np.load(tmp_path / f"{rank}.npy"), expected)
    held = [np.load(tmp_path / f"held{rank}.npy") for rank in range(2)]
    assert min(len(part) for part in held) > 0.3 * len(expected)
    assert sum(len(part) for part in held) == len(expected)

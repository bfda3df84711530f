"""A rejection state on disk: saved, memory-mapped, extended, and refused when it is not what it says."""

import json
import shutil

import numpy as np
import pytest
from v2f_kernels.reject_similar import OP, Kept

pytest.importorskip("v2f_kernels._C", reason="the compiled extension is not built")

from v2f_kernels.reject_similar import panels as panels_module
from v2f_kernels.reject_similar import state

reference, native = OP.backend("reference"), OP.backend("native")


def clustered(n, d, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // 8, d), dtype=np.float32)
    return centres[rng.integers(0, len(centres), n)] + 0.7 * rng.standard_normal((n, d), dtype=np.float32)


@pytest.mark.parametrize("memory_map", [True, False])
def test_saved_mapped_and_extended_twice(tmp_path, memory_map):
    vectors = clustered(900, 36)
    whole = reference(vectors, 0.4)
    kept, parts = Kept(36), []
    for k, cut in enumerate([0, 350, 351, 700]):
        end = [350, 351, 700, 900][k]
        parts.append(cut + native(vectors[cut:end], 0.4, kept=kept, threads=1))
        state.save_state(kept, tmp_path / f"state-{k}")
        kept = state.load_state(tmp_path / f"state-{k}", memory_map=memory_map)
        chunk = kept.derived["native"].chunks[0]
        assert chunk.panels.flags.writeable is not memory_map
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(kept.vectors, vectors[whole])
    assert not list(tmp_path.glob(".*"))


def test_opening_computes_no_panels(tmp_path, monkeypatch):
    kept = Kept(24)
    native(clustered(400, 24), 0.4, kept=kept)
    state.save_state(kept, tmp_path / "s")
    monkeypatch.setattr(panels_module, "CHUNK", 1)  # any catching up would now open one chunk a vector
    again = state.load_state(tmp_path / "s")
    native(np.empty((0, 24), np.float32), 0.4, kept=again)
    assert len(again.derived["native"].chunks) == 1
    assert np.array_equal(again.norms, kept.norms)


def test_an_empty_state(tmp_path):
    state.save_state(Kept(12), tmp_path / "s")
    vectors = clustered(200, 12)
    kept = state.load_state(tmp_path / "s")
    assert np.array_equal(native(vectors, 0.5, kept=kept), reference(vectors, 0.5))


def test_nothing_is_overwritten(tmp_path):
    state.save_state(Kept(12), tmp_path / "s")
    with pytest.raises(FileExistsError, match="a state is written to a new folder"):
        state.save_state(Kept(12), tmp_path / "s")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def another_format(folder):
    described = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**described, "format": 99}))


def smaller_bounds(folder):
    numbers = np.load(folder / "numbers-0.npy")
    numbers[1] *= 0.5
    np.save(folder / "numbers-0.npy", numbers)


def nan_scale(folder):
    numbers = np.load(folder / "numbers-0.npy")
    numbers[0, 5] = np.nan
    np.save(folder / "numbers-0.npy", numbers)


def other_vectors(folder):
    np.save(folder / "vectors.npy", np.load(folder / "vectors.npy")[::-1].copy())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "panels-0.npy").unlink(), "not a complete rejection state"),
        (lambda f: (f / "state.json").unlink(), "not a complete rejection state"),
        (lambda f: cut(f / "panels-0.npy"), "not a complete rejection state"),
        (lambda f: cut(f / "vectors.npy"), "not a complete rejection state"),
        (another_format, "format 99, and this version reads 1"),
        (smaller_bounds, "made from other vectors"),
        (nan_scale, "finite and positive"),
        (other_vectors, "made from other vectors"),
    ],
)
def test_refusals(tmp_path, damage, message):
    kept = Kept(24)
    native(clustered(400, 24), 0.4, kept=kept)
    state.save_state(kept, tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    damage(tmp_path / "bad")
    with pytest.raises(ValueError, match=message):
        state.load_state(tmp_path / "bad")

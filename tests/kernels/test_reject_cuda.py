"""The CUDA kernels of rejection and nearest neighbour, without a GPU.

The same sources and the same host code run on the CPU, thread by thread (cuda_on_cpu.h), and give the
reference's answer bit for bit; mutations of the sources give another. NVRTC and nvcc compile them for real
targets: registers that spill, or a missing tensor-core instruction, fail. `tests/gpu/test_gpu_reject.py` runs
them on hardware.
"""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_on_cpu import CpuLauncher, has_compiler
from v2f_kernels import BackendUnavailable, _cosine
from v2f_kernels._cuda import compile as cuda_compile
from v2f_kernels._cuda import tiles as tiles_module
from v2f_kernels._cuda.compile import SHARED_LIMIT, Shape, shape_for
from v2f_kernels._cuda.tiles import Tiles, no_bad
from v2f_kernels.nearest_cosine import OP as NEAREST
from v2f_kernels.nearest_cosine import on_device as nearest_module
from v2f_kernels.reject_similar import OP, Kept
from v2f_kernels.reject_similar import on_device as reject_module

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="g++ is not installed")
reference = OP.backend("reference")
SOURCES = {"reject": reject_module.SOURCE, "nearest": nearest_module.SOURCE}
KERNELS = {"quantise", "screen", "triangle", "resolve", "append", "bound_tiles"}
SHAPES = {
    "mma one chunk": Shape("sm_80", 96, 128, 3),
    "mma two chunks, half blocks": Shape("sm_120", 200, 64, 2),
    "wgmma two chunks, large blocks": Shape("sm_90a", 200, 256, 3),
    "wgmma one chunk": Shape("sm_90a", 96, 128, 2),
}


def clustered(n, d, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // 6, d), dtype=np.float32)
    rows = centres[rng.integers(0, len(centres), n)] + 0.8 * rng.standard_normal((n, d), dtype=np.float32)
    rows[n // 2] = rows[1]  # a duplicate
    rows[n // 3] = -3 * rows[2]  # an antipode of another length
    return rows


def on_cpu(monkeypatch, module, shape, source=None, processors=3, seed=0):
    launcher = CpuLauncher(source or module.SOURCE, shape, processors, seed)
    monkeypatch.setattr(module, "launcher", lambda device, dimension: launcher)
    return launcher


@needs_compiler
@pytest.mark.parametrize("name", SHAPES)
def test_rejection_is_the_reference(monkeypatch, name):
    shape = SHAPES[name]
    vectors = clustered(300, shape.dimension)
    i, j = 70, int(np.argmax(vectors[70] @ vectors[:70].T))
    tie = float(_cosine.cosine(vectors[i], vectors[j]))
    for t, block, seed in ((tie, 130, 1), (0.3, None, 2)):
        launcher = on_cpu(monkeypatch, reject_module, shape, seed=seed)
        found = reject_module.reject_similar(vectors, t, device="cpu", block=block)
        assert np.array_equal(found, reference(vectors, t)), (t, block)
        if block:
            assert set(launcher.launched) == KERNELS
    assert 10 < len(found) < 290


@needs_compiler
def test_rejection_at_512(monkeypatch):
    """The dimension that matters: four chunks, the real block and stage counts of sm_90a."""
    shape = shape_for((9, 0), 512)
    assert (shape.block, shape.stages) == (256, 4)
    vectors = clustered(150, 512)
    on_cpu(monkeypatch, reject_module, shape)
    assert np.array_equal(
        reject_module.reject_similar(vectors, 0.45, device="cpu", block=80), reference(vectors, 0.45)
    )


@needs_compiler
def test_a_stream_of_calls_on_one_state(monkeypatch):
    shape = SHAPES["mma one chunk"]
    on_cpu(monkeypatch, reject_module, shape)
    vectors = clustered(420, 96)
    kept = Kept(96)
    turns = [
        lambda x: reject_module.reject_similar(x, 0.4, kept=kept, device="cpu"),
        lambda x: reference(x, 0.4, kept=kept),  # the device copy has to catch up afterwards
        lambda x: reject_module.reject_similar(x, 0.4, kept=kept, device="cpu", block=50),
    ]
    found = [140 * k + turn(vectors[140 * k : 140 * k + 140]) for k, turn in enumerate(turns)]
    expected = reference(vectors, 0.4)
    assert np.array_equal(np.concatenate(found), expected)
    assert np.array_equal(kept.vectors, vectors[expected])
    before = len(kept)
    vectors[7] = np.nan
    with pytest.raises(ValueError, match="1 rows have no usable direction; first: 7"):
        reject_module.reject_similar(vectors[:20], 0.4, kept=kept, device="cpu")
    assert len(kept) == before == int(kept.derived["cupy"].tiles.count)


@needs_compiler
@pytest.mark.parametrize("name", ["mma one chunk", "wgmma two chunks, large blocks"])
def test_nearest_is_the_reference(monkeypatch, name):
    shape = SHAPES[name]
    rows = clustered(330, shape.dimension, 3)
    queries, gallery = rows[:70], np.concatenate([rows[70:], rows[70:120]])  # ties: 50 rows twice
    on_cpu(monkeypatch, nearest_module, shape)
    cosine, index = nearest_module.nearest_cosine(queries, gallery, device="cpu", block=200)
    expected = NEAREST.backend("reference")(queries, gallery)
    assert np.array_equal(cosine, expected[0])
    assert np.array_equal(index, expected[1])


@needs_compiler
def test_exact_sums_on_the_device(monkeypatch):
    """Lengths are the definition's, bit for bit, for dimensions on both sides of a power of two."""
    from v2f_kernels import _cosine

    for d in (63, 513):
        launch = CpuLauncher(SOURCES["reject"], Shape("sm_80", d, 64, 2))
        rows = torch.randn(20, d, generator=torch.Generator().manual_seed(d))
        made = Tiles.reserve(launch, 20, rows)
        made.quantise(launch, rows, 0, no_bad(launch.device))
        assert np.array_equal(made.norm[:20].numpy(), _cosine.norm(rows.numpy())), d


def mutated(tmp_path, change):
    """A copy of the sources with one line changed."""
    package = Path(cuda_compile.__file__).parent.parent
    for folder in ("_cuda", "reject_similar"):
        shutil.copytree(
            package / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.py", "__pycache__")
        )
    name, old, new = change
    text = (tmp_path / name).read_text()
    assert text.count(old) == 1, old
    (tmp_path / name).write_text(text.replace(old, new))
    return tmp_path / "reject_similar" / "reject.cu"


MUTATIONS = {
    "order": ("reject_similar/reject.cu", "return column < i; }", "return column > i && column < 300; }"),
    "swizzle": ("_cuda/tiles.cuh", "((unit % 8) ^ (in_tile % 8))", "(unit % 8)"),
    "fragment": ("_cuda/product.cuh", "matrix % 2 * 8 + r;", "matrix / 2 * 8 + r;"),
    "sum order": ("_cuda/tiles.cuh", "halve<HALF / 2>(s);", "for (int m = 1; m < HALF; ++m) s[0] += s[m];"),
}


@needs_compiler
@pytest.mark.parametrize("name", MUTATIONS)
def test_mutated_sources_are_noticed(monkeypatch, tmp_path, name):
    shape = Shape("sm_80", 200, 128, 2)
    source = mutated(tmp_path, MUTATIONS[name])
    vectors = clustered(140, 200)
    pairs = np.random.default_rng(0).integers(0, 140, (60, 2))
    ties = [float(_cosine.cosine(vectors[i], vectors[j])) for i, j in pairs]
    ties = [t for t in ties if 0.2 < t < 0.7][:6]
    on_cpu(monkeypatch, reject_module, shape, source)
    same = [
        np.array_equal(reject_module.reject_similar(vectors, t, device="cpu"), reference(vectors, t))
        for t in ties
    ]
    assert not all(same)


@needs_compiler
def test_a_smaller_error_bound_is_noticed(monkeypatch):
    vectors = clustered(140, 96)
    pairs = np.random.default_rng(0).integers(0, 140, (200, 2))
    ties = [float(_cosine.cosine(vectors[i], vectors[j])) for i, j in pairs]
    ties = [t for t in ties if 0.2 < t < 0.7][:12]
    on_cpu(monkeypatch, reject_module, SHAPES["mma one chunk"])
    monkeypatch.setattr(tiles_module, "bound_scale", lambda: np.float32(0))
    same = [
        np.array_equal(reject_module.reject_similar(vectors, t, device="cpu"), reference(vectors, t))
        for t in ties
    ]
    assert not all(same)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_shapes_fit_the_device(capability):
    for d in (1, 48, 128, 512, 640, 768, 1024):
        shape = shape_for(capability, d)
        assert shape.shared_bytes <= SHARED_LIMIT[10 * capability[0] + capability[1]]
        assert shape.stages >= 2
    assert shape_for((9, 0), 512).arch == "sm_90a"


def test_old_devices_are_refused():
    with pytest.raises(BackendUnavailable, match=r"8\.0 or later"):
        shape_for((7, 5), 512)


COMPILED = {
    ("reject", (8, 0)): {"screen", "triangle"},
    ("reject", (9, 0)): {"screen", "triangle"},
    ("reject", (12, 0)): {"screen", "triangle"},
    ("nearest", (8, 0)): {"nearest"},
    ("nearest", (9, 0)): {"nearest"},
    ("nearest", (12, 0)): {"nearest"},
}


@pytest.mark.aot
@pytest.mark.parametrize(("name", "capability"), COMPILED)
def test_nvrtc_compiles_without_spills_and_with_tensor_cores(tmp_path, name, capability):
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy and NVRTC are not installed")
    shape = shape_for(capability, 512)
    compiled = cuda_compile.compile_cubin(SOURCES[name], shape)
    resources = compiled.resources()
    assert COMPILED[name, capability] | {"quantise", "bound_tiles"} <= set(resources)
    for kernel, used in resources.items():
        assert used["spill_stores"] == used["spill_loads"] == 0, (kernel, used)
        assert used["registers"] <= 65536 // shape.threads or kernel not in COMPILED[name, capability]
    assert "serialized" not in compiled.log  # ptxas says so when wgmma loses its asynchrony
    instruction = "IGMMA" if shape.wgmma else "IMMA"
    assert machine_instructions(tmp_path, compiled.cubin)[instruction] > 0


def machine_instructions(tmp_path, cubin):
    """Opcode -> how often, by the disassembler that Triton ships."""
    triton = pytest.importorskip("triton")
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    path = tmp_path / "k.cubin"
    path.write_bytes(cubin)
    text = subprocess.run([tool, path], capture_output=True, text=True, check=True).stdout
    counts = dict.fromkeys(("IGMMA", "IMMA"), 0)
    for opcode in re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", text):
        for key in counts:
            counts[key] += opcode.startswith(key)
    return counts


@pytest.mark.aot
def test_the_committed_table_is_what_the_compiler_says():
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy and NVRTC are not installed")
    from bench.kernels import aot_cuda

    assert aot_cuda.TABLE.read_text() == aot_cuda.text(), (
        "run `python -m bench.kernels.aot_cuda` and read the difference"
    )


@pytest.mark.aot
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("name", SOURCES)
def test_nvcc_compiles_too(tmp_path, name):
    shape = shape_for((9, 0), 512)
    command = ["nvcc", "-cubin", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", *shape.defines]
    command += [str(SOURCES[name]), "-o", str(tmp_path / "k.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "k.cubin").stat().st_size > 0


def test_the_backend_says_why_it_cannot_run():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendUnavailable, match="needs an NVIDIA GPU"):
        reject_module.reject_similar(np.ones((2, 8), np.float32), 0.3)


def test_shape_is_what_the_cache_keys_on():
    shape = shape_for((9, 0), 512)
    assert shape == replace(shape)
    assert hash(shape) == hash(replace(shape))

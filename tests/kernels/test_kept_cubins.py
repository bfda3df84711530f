"""CUDA sources are compiled once a machine: the cubin is kept, and found by what went into it. No GPU needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("cupy_backends")

from v2f_kernels._cuda import compile as cuda

SHAPE = cuda.Shape("sm_90a", 512, 128, 2)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small source of its own with a header, and an empty cache."""
    (tmp_path / "src").mkdir()
    path = tmp_path / "src" / "small.cu"
    path.write_text(
        '#include "small.cuh"\nextern "C" __global__ void fill(int* x) { x[threadIdx.x] = VALUE; }\n'
    )
    path.with_suffix(".cuh").write_text("#define VALUE 3\n")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "kept"))
    return path


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    real = cuda.compile_cubin

    def noted(source: Path, shape: cuda.Shape) -> cuda.Compiled:
        calls.append(shape.arch)
        return real(source, shape)

    monkeypatch.setattr(cuda, "compile_cubin", noted)
    return calls


def test_compiled_once_and_found_again(source: Path, compiled: list[str], tmp_path: Path) -> None:
    first = cuda.kept_cubin(source, SHAPE)
    assert first.parent == tmp_path / "kept"
    assert first.read_bytes() == cuda.compile_cubin(source, SHAPE).cubin
    compiled.clear()
    assert cuda.kept_cubin(source, SHAPE) == first
    assert compiled == []
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_whatever_goes_in_counts(
    source: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert {path.name for path in cuda.HEADERS.glob("*.cuh")} >= {"screen.cuh", "product.cuh", "tiles.cuh"}
    monkeypatch.setattr(cuda, "HEADERS", tmp_path)
    made = {cuda.kept_cubin(source, SHAPE)}
    made.add(cuda.kept_cubin(source, cuda.Shape("sm_80", 512, 128, 2)))
    made.add(cuda.kept_cubin(source, cuda.Shape("sm_90a", 512, 128, 3)))
    source.with_suffix(".cuh").write_text("#define VALUE 4\n")
    made.add(cuda.kept_cubin(source, SHAPE))
    source.write_text(source.read_text() + "// a word\n")
    made.add(cuda.kept_cubin(source, SHAPE))
    (tmp_path / "shared.cuh").write_text("// of all ops")
    made.add(cuda.kept_cubin(source, SHAPE))
    assert len(made) == len(compiled) == 6


def test_a_folder_that_cannot_be_written_is_named(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"file cannot be written .*CUPY_CACHE_DIR"):
        path = cuda.kept_cubin(source, SHAPE)
    assert path.is_file()
    shutil.rmtree(path.parent)
    cuda._folder.cache_clear()

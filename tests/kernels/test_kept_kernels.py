"""Triton keeps what it compiled: a second process finds it, and says nothing. Compiled here without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton")

pytestmark = pytest.mark.aot


def test_a_kernel_compiled_once_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from v2f_kernels._triton import aot

    from bench.candidates.philox.aot_cases import CASES
    from bench.candidates.philox.triton_philox import draw_kernel
    from v2f_engine.runtime.compiling import watched

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    said: list[str] = []
    counts = []
    for _ in range(2):
        draw_kernel.device_caches.clear()  # what a new process begins with
        with watched(said.append) as kernels, aot.compiling(90):
            CASES["bits"]()
            CASES["uniform"]()
        counts.append((kernels.compiled, kernels.found))
    draw_kernel.device_caches.clear()
    assert counts == [(2, 0), (0, 2)]
    assert said == [f"compiling kernels, once; they are kept in {tmp_path}"]
    assert list(tmp_path.rglob("*.cubin"))

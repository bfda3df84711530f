"""The real cuDNN plans the decoder's convolutions and the MLP's product for an H200 that is not there.

    make cudnn-plans        gets the libraries (1.9 GB on the disk) into out/cudnn and runs this

Skipped with the reason where they are missing. Where no driver is installed, a libcuda without one is compiled
(`no_driver.c`). Nothing is executed: engines, workspaces and machine code are what can be seen.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [str(folder) for place in sys.path for folder in Path(place).glob("nvidia/*/lib")]
"""Of libraries that came as packages."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """(what the process printed, the folder of the machine code it kept)."""
    for name in ("cudnn", "nvidia.cudnn"):
        try:
            missing = find_spec(name) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            pytest.skip(f"no package {name}: `make cudnn-plans` gets it")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for a libcuda without a driver")
    driver, kept = tmp_path_factory.mktemp("driver"), tmp_path_factory.mktemp("kept")
    source = Path(__file__).with_name("no_driver.c")
    build = [
        "-w",
        "-shared",
        "-fPIC",
        "-Wl,-soname,libcuda.so.1",
        "-o",
        str(driver / "libcuda.so.1"),
        str(source),
    ]
    subprocess.run([compiler, *build], check=True)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join([*FOLDERS, str(driver)]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]),
        "NO_DRIVER_KEEP": str(kept),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.cudnn_plans"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for row in rows:
        print(row)
    return rows, kept


def of(rows: list[dict[str, Any]], op: str) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("op") == op]


def test_every_convolution_is_precompiled_with_its_bias_and_residual(planned: Any) -> None:
    rows = of(planned[0], "conv3x3")
    assert len(rows) == 42
    for plain, biased, whole in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        engine, _, knobs = plain["engine"].partition("_")
        assert engine == "eng62"
        assert biased["engine"] == whole["engine"] == f"eng41_{knobs}", "the plain convolution's own kernels"
        assert {row["workspace"] for row in (plain, biased, whole)} == {131}, "next to none"
        assert not any(row["notes"] for row in (plain, biased, whole))


def test_a_residual_alone_and_the_other_order_are_not_precompiled(planned: Any) -> None:
    """Why the backend adds the residual first and gives it a bias of zeros."""
    (alone,), (swapped,) = of(planned[0], "ResidualAlone"), of(planned[0], "OutOfOrder")
    assert "no admissible plan" in alone["refused"]
    assert "RUNTIME_COMPILATION" in swapped["notes"]


def test_the_product_with_gelu_is_compiled_without_spills(planned: Any) -> None:
    rows, kept = planned
    assert len(of(rows, "gelu_linear")) == 4
    assert all("RUNTIME_COMPILATION" in row["notes"] for row in of(rows, "gelu_linear"))
    tools = find_spec("triton")
    if tools is None or tools.origin is None:
        pytest.skip("no cuobjdump: it comes with triton")
    cuobjdump = Path(tools.origin).parent / "backends/nvidia/bin/cuobjdump"
    seen = []
    for code in sorted(kept.glob("*.cubin")):
        told = subprocess.run(
            [str(cuobjdump), "--dump-resource-usage", str(code)], capture_output=True, text=True, check=True
        ).stdout
        if "matMul" in told:
            seen.append(re.search(r"_(sm\d+)_matMul.*?REG:(\d+) STACK:(\d+)", told, re.DOTALL))
    assert len(seen) == 4
    for found in seen:
        print(found.group(0).replace("\n", " "))
        assert int(found.group(3)) == 0
    if (
        rows[0]["cudnn"] >= 92800
    ):  # 9.19 counts the card's clusters by asking it, finds none and drops its sm_90 kernels
        assert {(found.group(1), found.group(2)) for found in seen} == {("sm90", "168")}

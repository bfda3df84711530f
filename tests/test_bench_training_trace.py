"""A training step traced on an imagined GPU launches no more, converts no more and moves no more fp32 than it did.

The limits are `bench/results/trace/tiny.json`. Where a change lowers a figure, or moves work between parts, write them
anew and commit them with it:

    rm bench/results/trace/tiny.json
    python -m bench.training.trace --size tiny --batch 2 --json bench/results/trace/tiny.json --label limits

The trace runs in a process of its own: torch breaks its heap while it takes down what ran on a device that is not
there (`bench/training/trace/__main__.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMITS = ROOT / "bench" / "results" / "trace" / "tiny.json"
HELD = ("kernels", "layout conversions", "fp32 element-wise GB")

PROBE = """
import json, os, sys
from pathlib import Path
import torch
import torch.nn.functional as F
from bench.training.trace import __main__, table
from bench.training.trace.steps import kernels_of
from v2f_kernels.group_norm_silu.triton_op import group_norm_silu

out = Path(sys.argv[1])

def between(norm, side):
    def made(*shape):
        return torch.empty(*shape, device="cuda", memory_format=torch.channels_last).requires_grad_()

    weight, bias = (torch.empty(16, device="cuda", requires_grad=True) for _ in range(2))
    with torch.autocast("cuda", torch.bfloat16):
        h = F.conv2d(made(2, 16, side, side), made(16, 16, 3, 3), padding=1)
        y = F.conv2d(norm(h, weight, bias), made(16, 16, 3, 3), padding=1)
    y.backward(torch.empty_like(y))

def of_our_norm(side):
    x = torch.empty(2, 16, side, side, device="cuda", dtype=torch.bfloat16, memory_format=torch.channels_last)
    group_norm_silu(x, x.new_empty(16), x.new_empty(16), 4, 1e-6)

norms = (
    ("torch", lambda h, weight, bias: F.group_norm(h, 4, weight, bias)),
    ("ours", lambda h, weight, bias: group_norm_silu(h, weight, bias, 4, 1e-6)),
)
found = {name: table.figures(kernels_of(lambda: between(norm, 8))) for name, norm in norms}
launched = {side: kernels_of(lambda: of_our_norm(side)) for side in (8, 56)}
found["names"] = {side: [k.name for k in kernels if "kernel" in k.name] for side, kernels in launched.items()}
(out / "probe.json").write_text(json.dumps(found))
__main__.main(["--size", "tiny", "--batch", "2", "--json", str(out / "step.json")])
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """(the parts of a step at size tiny, what the probe found)."""
    if shutil.which("g++") is None:
        pytest.skip("a GPU is imagined by a few lines of C++: no g++ here")
    out = tmp_path_factory.mktemp("trace")
    paths = os.pathsep.join((str(ROOT), str(ROOT / "kernels")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)  # interpreted kernels are no kernels that could be counted
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROBE, str(out)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    step = json.loads((out / "step.json").read_text())["now"]["parts"]
    return step, json.loads((out / "probe.json").read_text())


def risen(found: Any, limits: Any) -> list[str]:
    """What is above its limit, in words; a part that the limits do not know is one."""
    words = []
    for part, row in found.items():
        if part not in limits:
            words.append(f"{part}: a part without limits")
            continue
        words += [
            f"{part}: {name} rose from {limits[part][name]:g} to {row[name]:g}"
            for name in HELD
            if row[name] > limits[part][name] * (1 + 1e-9)
        ]
    return words


def test_no_part_of_a_step_rose(traced: tuple[Any, Any]) -> None:
    limits = json.loads(LIMITS.read_text())["limits"]["parts"]
    words = risen(traced[0], limits)
    assert not words, (
        f"{'; '.join(words)}. Mean it? Then write the limits anew, as this file's first lines say."
    )


def test_every_figure_is_held(traced: tuple[Any, Any]) -> None:
    """One kernel, one conversion or one byte more in any part is told, by its name."""
    limits = traced[0]
    for part, row in limits.items():
        for name in HELD:
            worse = {**limits, part: {**row, name: row[name] + (1e-9 if "GB" in name else 1)}}
            assert risen(worse, limits) == [
                f"{part}: {name} rose from {row[name]:g} to {worse[part][name]:g}"
            ]


def test_torchs_group_norm_under_autocast_is_seen(traced: tuple[Any, Any]) -> None:
    """It is fp32 and NCHW on CUDA: copies in and out, forwards and backwards; ours has none."""
    theirs, ours = (traced[1][name] for name in ("torch", "ours"))
    assert ours["layout conversions"] == 0
    assert theirs["layout conversions"] >= 3
    assert theirs["fp32 element-wise GB"] > 3 * ours["fp32 element-wise GB"]


def test_launches_of_ours_are_those_of_the_launcher(traced: tuple[Any, Any]) -> None:
    """One pass at 8x8; above 32x32 moments, their merging, and the values."""
    small, large = (traced[1]["names"][side] for side in ("8", "56"))
    assert small == ["single_pass_kernel"]
    assert large == ["moments_kernel", "merge_moments_kernel", "apply_kernel"]

"""What a reader needs to repeat a run: versions, commit, machine, clocks, command."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bench import ROOT


def environment(device: str) -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, commit, machine, clocks, command."""
    found: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(Path(a).name if a.startswith("/") else a for a in sys.argv),
        "commit": _commit(),
        "uncommitted": bool(_said("git", "-C", str(ROOT), "status", "--porcelain", "-uno")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }
    for package in ("triton", "numpy", "cupy-cuda13x"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    if torch.device(device).type == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(torch.device(device)),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": clocks().partition(",")[0] or "unknown",
            "driver, clocks, power": clocks(),
            "ptxas": _ptxas(device),
        }
    return found


def _ptxas(device: str) -> str:
    """The version that compiles Triton's kernels for this card: it decides whether machine code is right."""
    from v2f_kernels._triton.ptxas import PtxasMissing, ptxas_version

    major, minor = torch.cuda.get_device_capability(torch.device(device))
    try:
        return ptxas_version(10 * major + minor)
    except PtxasMissing as error:
        return str(error)


def _commit() -> str:
    """Of the checkout; where a copy without its history runs, what `V2F_COMMIT` says."""
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    return commit or os.environ.get("V2F_COMMIT") or "unknown"


def clocks() -> str:
    """Driver, SM and memory clocks, power and temperature as nvidia-smi says; empty without it."""
    fields = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu"
    return _said("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())

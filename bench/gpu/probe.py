"""What machine this is, asked in a process of its own: the process that forks jobs must never touch the GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from bench import ROOT

LIMIT_S = 60.0


def environment(device: str) -> dict[str, Any]:
    """`machine.environment`, after a sum on the device; `error` says why that was not possible."""
    import torch

    from bench import machine

    try:
        if device != "cpu":
            if not torch.cuda.is_available():
                return {"error": "no GPU that torch can see"}
            float(torch.ones(1, device=device).sum())
        return machine.environment(device)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def forked(device: str) -> dict[str, Any]:
    """`environment` in a forked process."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(environment(device)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else {"error": "the forked process died"}


def fresh(device: str) -> dict[str, Any]:
    """`environment` in a new Python."""
    path = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    command = [sys.executable, "-m", "bench.gpu.probe", device]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env=path, cwd=ROOT, check=False
    )
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-300:]}


def ask(device: str) -> tuple[dict[str, Any], bool]:
    """(the environment, or `error`; whether jobs need a fresh Python each because CUDA does not bear a fork)."""
    found = forked(device)
    if "error" not in found or device == "cpu":
        return found, False
    again = fresh(device)
    return (again, True) if "error" not in again else (found, False)


if __name__ == "__main__":
    print(json.dumps(environment(sys.argv[1])))

"""Loading weights imports no compiler: torch draws what has no memory through it, 1.5 s of every command's start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from v2f_engine.models.embedder import open_reader
from v2f_engine.models.weights import load_generator
load_generator("mini"), load_generator("mini-pose"), open_reader("mini")
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


def test_loading_imports_no_compiler() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
